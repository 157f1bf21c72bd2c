"""Every op on every instruction set against the reference, on all shapes of cases.py.

op_checks.py has the tolerances and the guards around buffers. Here also: the same bits for any number of threads, and
tests that the checks themselves notice what they are for.
"""

from __future__ import annotations

import ctypes
import inspect
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_kit import case_id
from cases import CASES, make_buffers
from class_cases import CLASS_CASES
from op_checks import Array, Guarded, check, ops_of, poison, written

from aaecore.backends import cpu, reference
from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer
from aaecore.core.ops import OPS

compiled = cpu.compiled

DEVICES: dict[str, Backend] = {f"cpu-{isa}": cpu.CpuBackend(isa) for isa in compiled.supported()}
BEST = next(iter(DEVICES))
OURS = ops_of(DEVICES[BEST])
KERNELS = Path(__file__).parents[2] / "kernels" / "cpu"


def _all_cases() -> list[Any]:
    return [
        pytest.param(device, op, index, id=f"{op}-{case_id(case)}-{device}")
        for op in OURS
        for index, case in enumerate(CASES[op])
        for device in DEVICES
    ]


@pytest.mark.parametrize(("device", "op", "index"), _all_cases())
def test_op_agrees_with_the_reference(device: str, op: str, index: int) -> None:
    check(DEVICES[device], op, index)


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    """A function that sets the number of threads; the old number comes back afterwards."""
    before = cpu.get_num_threads()
    yield cpu.set_num_threads
    cpu.set_num_threads(before)


def _launcher(backend: Backend, op: str, index: int) -> Callable[[], list[Array]]:
    """A function that launches the case on fresh contents each time and returns the memory around all buffers."""
    case = CASES[op][index]
    arrays = poison(op, case, make_buffers(op, case, np.random.default_rng(index)))
    guarded = [Guarded(backend, arg, a) for arg, a in zip(OPS[op].args, arrays, strict=True)]
    buffers, dims, scalars = [g.buffer for g in guarded], list(case.dims.values()), list(case.scalars.values())

    def launch() -> list[Array]:
        for g in guarded:
            g.refill()
        backend.launch(op, buffers, dims, scalars)
        return [g.raw for g in guarded]

    return launch


def _bits(backend: Backend, op: str, index: int) -> list[bytes]:
    """All bytes of all buffers after a launch."""
    return [raw.tobytes() for raw in _launcher(backend, op, index)()]


def _shared_cases() -> list[Any]:
    """Those with work for threads, and how often each is repeated: the last one of an op is its largest."""
    shared = {op: [i for i, case in enumerate(CASES[op]) if case.parallel] for op in OURS}
    return [
        pytest.param(device, op, i, 50 if i == indices[-1] else 2, id=f"{op}-{case_id(CASES[op][i])}-{device}")
        for op, indices in shared.items()
        for i in indices
        for device in DEVICES
    ]


@pytest.mark.parametrize(("device", "op", "index", "times"), _shared_cases())
def test_threads_give_the_same_bits(
    device: str, op: str, index: int, times: int, threads: Callable[[int], None]
) -> None:
    launch = _launcher(DEVICES[device], op, index)
    threads(1)
    alone = [raw.copy() for raw in launch()]
    for n in (2, 3, 5):
        threads(n)
        for i in range(times):
            same = all(np.array_equal(a, b) for a, b in zip(launch(), alone, strict=True))
            assert same, f"{n} threads, launch {i + 1} of {times}"


@pytest.mark.parametrize(
    "op",
    [
        "linear_forward",
        "linear_backward_input_bf16",
        "linear_backward_weight_adam",
        "linear_forward_bf16",
        "sum_squares",
    ],
)
def test_launches_from_several_threads_at_once(op: str, threads: Callable[[int], None]) -> None:
    """One of them gets the pool, the others work alone: the same bits."""
    threads(3)
    index = max(i for i, case in enumerate(CASES[op]) if case.parallel)
    alone = _bits(DEVICES[BEST], op, index)
    with ThreadPoolExecutor(4) as pool:
        assert all(bits == alone for bits in pool.map(lambda _: _bits(DEVICES[BEST], op, index), range(24)))


@pytest.mark.parametrize("op", CLASS_CASES)
def test_instruction_sets_give_the_same_bits(op: str) -> None:
    """Of the ops whose sums fuse nothing and have an order of their own, losses too."""
    for index, case in enumerate(CASES[op]):
        bits = {device: _bits(backend, op, index) for device, backend in DEVICES.items()}
        assert all(b == bits[BEST] for b in bits.values()), case_id(case)


@pytest.mark.parametrize("device", DEVICES)
def test_denormals_are_zero_in_kernels_and_only_there(device: str, threads: Callable[[int], None]) -> None:
    """On every thread alike; the caller's own arithmetic keeps them."""
    threads(3)
    backend = DEVICES[device]
    x = backend.from_host(np.full(64 * 8192, 1e-40, np.float32))
    backend.launch("scale", (x,), (x.size,), (1.0,))
    assert not backend.to_host(x).any()
    backend.upload(x, np.full(x.shape, 1e-40, np.float32))
    backend.capture(lambda: backend.launch("scale", (x,), (x.size,), (1.0,))).replay()
    assert not backend.to_host(x).any()
    assert (np.full(5, 1e-40, np.float32) * np.float32(0.5)).all()


# --- nothing is missing -----------------------------------------------------------------------------------------------


def _kernel_bodies() -> dict[str, str]:
    text = "\n".join(path.read_text() for path in sorted(KERNELS.glob("*.hpp")))
    parts = re.split(r"^KERNEL\((\w+)\)", text, flags=re.MULTILINE)[1:]
    bodies = [re.split(r"^\}|\}$", body, maxsplit=1, flags=re.MULTILINE)[0] for body in parts[1::2]]
    assert len(bodies) == len(set(parts[0::2])), "a kernel is defined twice"
    return dict(zip(parts[0::2], bodies, strict=True))


def test_every_op_has_a_reference_cases_and_kernels() -> None:
    names = set(OPS)
    assert set(reference.FUNCTIONS) == names
    assert set(CASES) == names
    assert set(_kernel_bodies()) == set(OURS)
    assert set(re.findall(r"X\((\w+)\)", (KERNELS / "table.h").read_text())) == set(OURS)
    for isa in compiled.supported():
        assert set(compiled.Kernels(isa).index) == set(OURS)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_arguments_agree_with_the_table(op: Any) -> None:
    parameters = list(inspect.signature(reference.FUNCTIONS[op.name]).parameters)
    assert parameters == [*(a.name for a in op.args), *op.dims, *op.scalars]
    for case in CASES[op.name]:
        assert tuple(case.dims) == op.dims
        assert tuple(case.scalars) == op.scalars
    ids = [case_id(case) for case in CASES[op.name]]
    assert len(set(ids)) == len(ids)
    body = _kernel_bodies()[op.name] if op.name in OURS else ""
    for pattern, count in (
        (r"\(buf, (\d+)\)", len(op.args)),
        (r"\bdim\[(\d+)\]", len(op.dims)),
        (r"\bscalar\[(\d+)\]", len(op.scalars)),
    ):
        assert all(int(i) < count for i in re.findall(pattern, body)), pattern


def test_every_op_that_can_be_shared_has_a_case_for_threads() -> None:
    small = {
        "cursor_advance",
        "log_value",
        "take_rate",
        "adam_advance",
        "sgd_advance",
        "clip_scale",
        "rng_advance",
        "to_real",
    }
    assert {op for op, cases in CASES.items() if not any(c.parallel for c in cases)} == small


# --- the checks notice ------------------------------------------------------------------------------------------------

_WRITTEN = [(op, i) for op in OURS for i, arg in enumerate(OPS[op].args) if written(arg)]
_FLOATING = [(op, i) for op, i in _WRITTEN if OPS[op].args[i].kind in ("real", "weight", "float64")]
_READ = [(op, i) for op in OURS for i, arg in enumerate(OPS[op].args) if not written(arg)]
_OUT = [(op, i) for op, i in _WRITTEN if OPS[op].args[i].role == "out"]
_BETA = [op for op in OURS if "beta" in OPS[op].dims]


def _ids(value: Any) -> str:
    return str(value)


def _case_index(op: str, **dims: int) -> int:
    """The last small case of ordinary numbers: not one element, not special values."""
    return max(
        i
        for i, c in enumerate(CASES[op])
        if c.fill == "normal" and not c.parallel and not c.bench and dims.items() <= dict(c.dims).items()
    )


def _sabotaged(op: str, harm: Callable[[Sequence[Buffer], list[Array]], None], **dims: int) -> None:
    """Checks a launch that is right, except that `harm(buffers, storages before)` comes after it."""
    backend = DEVICES[BEST]

    def launch(name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        before = [b.storage.copy() for b in buffers]
        backend.launch(name, buffers, dims, scalars)
        harm(buffers, before)

    check(backend, op, _case_index(op, **dims), launch)


@pytest.mark.parametrize(("op", "i"), _FLOATING, ids=_ids)
def test_a_result_wrong_by_a_thousandth_is_noticed(op: str, i: int) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        buffers[i].storage[...] *= 1.001

    with pytest.raises(AssertionError, match=r"allowed|not equal"):
        _sabotaged(op, harm)


@pytest.mark.parametrize(("op", "i"), _WRITTEN, ids=_ids)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_write_out_of_bounds_is_noticed(op: str, i: int, side: str) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        at = -4 if side == "before" else buffers[i].storage.nbytes
        ctypes.memset(buffers[i].pointer + at, 0, 4)

    with pytest.raises(AssertionError, match=f"{OPS[op].args[i].name}: written out of bounds, {side}"):
        _sabotaged(op, harm)


@pytest.mark.parametrize(("op", "i"), _OUT, ids=_ids)
def test_a_read_of_an_output_is_noticed(op: str, i: int) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        buffers[i].storage[...] += 0 * before[i]

    with pytest.raises(AssertionError, match=r"NaN in the wrong places|not equal"):
        _sabotaged(op, harm)


@pytest.mark.parametrize(("op", "i"), _OUT, ids=_ids)
def test_an_element_left_out_is_noticed(op: str, i: int) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        buffers[i].storage[-1] = before[i][-1]

    with pytest.raises(AssertionError, match=r"NaN in the wrong places|not equal"):
        _sabotaged(op, harm)


@pytest.mark.parametrize(("op", "i"), _READ, ids=_ids)
def test_a_changed_input_is_noticed(op: str, i: int) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        buffers[i].storage.view(np.uint8)[0] ^= 1

    with pytest.raises(AssertionError, match=f"{OPS[op].args[i].name}: an input was changed"):
        _sabotaged(op, harm)


@pytest.mark.parametrize("op", _BETA)
@pytest.mark.parametrize("beta", [0, 1])
def test_the_other_beta_is_noticed(op: str, beta: int) -> None:
    backend, at = DEVICES[BEST], OPS[op].dims.index("beta")

    def launch(name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        backend.launch(name, buffers, [*dims[:at], 1 - beta, *dims[at + 1 :]], scalars)

    with pytest.raises(AssertionError, match=r"allowed|NaN in the wrong places|not equal"):
        check(backend, op, _case_index(op, beta=beta), launch)


@pytest.mark.parametrize("op", ["linear_backward_weight", "linear_backward_weight_adam"])
def test_a_number_in_the_padding_is_noticed(op: str) -> None:
    def harm(buffers: Sequence[Buffer], before: list[Array]) -> None:
        buffers[2].storage[-1] = 1.0

    with pytest.raises(AssertionError, match="padding"):
        _sabotaged(op, harm)
