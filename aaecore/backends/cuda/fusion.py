"""Which calls of a recorded step one CUDA kernel makes: a layer of few outputs or inputs with what follows it.

At small batches such a layer takes little longer than the wait for the next one: codes and logits, which lie between
wide layers, would wait most where they are launches of their own. A kernel of several calls, as kernels/cuda/skinny.cuh
has them, gives the bits that these give one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.memory import Buffer
from ...core.ops import OPS
from ...core.plan import Call
from .dependencies import Access, accesses, conflict
from .kernels import Chip, fan, has_few_rows, skinny_math


@dataclass(frozen=True)
class Fused:
    """One kernel for some calls, whose arguments it takes one call after the other."""

    kernel: str
    calls: tuple[Call, ...]
    touched: tuple[Access, ...]

    @property
    def rows(self) -> int:
        return _dims(self.calls[0])["B"]


def _dims(call: Call) -> dict[str, int]:
    return dict(zip(OPS[call.name].dims, call.dims, strict=True))


def _same(a: Buffer, b: Buffer) -> bool:
    return a.pointer == b.pointer and a.size == b.size


def _next(calls: Sequence[Call], numbers: Sequence[int], buffer: Buffer) -> int | None:
    """The first of the numbered calls that touches a buffer, if it takes it as its first operand."""
    memory = [Access(buffer.pointer, buffer.pointer + buffer.storage.nbytes, True)]
    number = next((i for i in numbers if conflict(memory, accesses(calls[i]))), None)
    return number if number is not None and _same(calls[number].buffers[0], buffer) else None


def _spreads(call: Call, like: Call) -> bool:
    """Whether a call is a layer, or an input gradient, from few numbers to many for the same rows."""
    return call.name == like.name and _dims(call)["B"] == _dims(like)["B"] and fan(call.name, _dims(call)) == "fan_out"


def _turns(call: Call, layer: Call) -> bool:
    """Whether a call is the input gradient of that layer."""
    op, of = OPS[call.name], OPS[layer.name]
    is_gradient = op.family == "linear_backward_input" and op.precision == of.precision
    return is_gradient and _same(call.buffers[1], layer.buffers[1]) and call.dims[:3] == layer.dims[:3]


def _pattern(calls: Sequence[Call], first: int, later: Sequence[int], chip: Chip) -> tuple[str, list[int]] | None:
    """The kernel that a call begins with others, and the numbers of these."""
    call, family = calls[first], OPS[calls[first].name].family
    if family not in ("linear_forward", "linear_backward_input") or fan(call.name, _dims(call)) != "fan_in":
        return None
    use = _next(calls, later, call.buffers[3]) if has_few_rows(_dims(call)["B"], chip) else None
    if use is None:
        return None
    user, is_forward = calls[use], family == "linear_forward"
    if _spreads(user, call):
        return "forward_forward" if is_forward else "backward_backward", [use]
    if is_forward and user.name == "copy" and not _dims(user)["beta"]:
        return "forward_copy", [use]
    if is_forward and user.name == "adversarial_bce" and _dims(user)["B"] == _dims(call)["B"]:  # one logit for a row
        back = _next(calls, [i for i in later if i > use], user.buffers[1])
        if back is not None and _turns(calls[back], call):
            return "forward_loss_backward", [use, back]
    return None


def _fused(calls: Sequence[Call], first: int, later: Sequence[int], chip: Chip) -> tuple[Fused, int] | None:
    """The kernel that begins with a call, if there is one, and the last call that it makes, which so comes earlier.

    A loss in the middle is made by its own kernel as well: only its gradient is what the last call needs of it.
    """
    found = _pattern(calls, first, later, chip)
    if found is None:
        return None
    name, numbers = found
    call, last = calls[first], calls[numbers[-1]]
    more = accesses(last, range(1, len(last.buffers)))  # without what it is handed over
    passed = [i for i in later if i < numbers[-1]]
    others = [a for i in passed for a in accesses(calls[i])]
    if conflict(more, [*accesses(call), *others]):
        return None
    kernel = f"{name}_{skinny_math(call.name)}"
    return Fused(kernel, tuple(calls[i] for i in (first, *numbers)), (*accesses(call), *more)), numbers[-1]


def fuse(calls: Sequence[Call], chip: Chip) -> list[Call | Fused]:
    """The calls, some of them in one kernel; in this order they give what they give in theirs."""
    made: list[Call | Fused] = []
    gone: set[int] = set()
    for number, call in enumerate(calls):
        if number in gone:
            continue
        found = _fused(calls, number, [i for i in range(number + 1, len(calls)) if i not in gone], chip)
        if found is not None:
            gone.add(found[1])
        made.append(call if found is None else found[0])
    return made
