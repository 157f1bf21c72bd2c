"""A recorded step: the list of launches, the buffers they touch, and how to run them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import count
from ..errors import CaptureError
from .memory import Buffer
from .ops import OPS
from .owner import Exclusive, Use


@dataclass(frozen=True)
class Call:
    """One recorded launch."""

    name: str
    buffers: tuple[Buffer, ...]
    dims: tuple[int, ...]
    scalars: tuple[float, ...]


class Plan:
    """What `Backend.capture` returns. It owns every buffer that the step saw, so `replay` stays valid."""

    def __init__(self, calls: Sequence[Call], inputs: Sequence[Buffer], run: Callable[[int], None]) -> None:
        self.calls = tuple(calls)
        self.inputs = tuple(inputs)
        self._run = run
        self._one = Exclusive("plan")
        written = [c.buffers[i].writes for c in calls for i in OPS[c.name].outputs]
        self._writes = tuple({id(w): w for w in written if w is not None}.values())

    def replay(self, *arrays: np.ndarray, times: int = 1) -> None:
        """Runs the step again, after copying `arrays` (if any are given) into the inputs named at capture.

        With `times` it is run so often in one go, without the host in between.

        Raises:
            CaptureError: another number of arrays, or another shape than was recorded.
            ValueError: `times` is not an integer >= 1. RuntimeError: the step is being replayed already.
        """
        times = count("times", times)
        use = Use("replay")
        try:
            self._one.enter(use)  # two would write the same memory
            if arrays:
                self._fill(arrays)
            self.repeat(times)
        finally:
            self._one.leave(use)

    def repeat(self, times: int) -> None:
        """Runs the step again without asking whether somebody else does, for who knows that nobody can."""
        for writes in self._writes:
            writes.count += 1
        self._run(times)

    def _fill(self, arrays: Sequence[np.ndarray]) -> None:
        if len(arrays) != len(self.inputs):
            raise CaptureError(f"replay: the step was captured with {len(self.inputs)} inputs, got {len(arrays)}")
        for i, array in enumerate(arrays):  # all, before the first is copied
            if array.shape != (shape := self.inputs[i].shape):
                raise CaptureError(f"replay: input {i} was captured with shape {shape}, got {array.shape}")
        for buffer, array in zip(self.inputs, arrays, strict=True):
            buffer.backend.upload(buffer, array)

    @property
    def flops(self) -> int:
        """Floating-point operations of one replay, from the op table."""
        return sum(OPS[c.name].flops(dict(zip(OPS[c.name].dims, c.dims, strict=True))) for c in self.calls)

    def describe(self) -> str:
        """The step as a table: op, arguments, kilobytes that must move, megaflops."""
        lines = [f"{'op':<28} {'kB':>10} {'MFLOP':>10}  arguments"]
        total = 0
        for call in self.calls:
            op = OPS[call.name]
            dims = dict(zip(op.dims, call.dims, strict=True))
            total += op.bytes(dims)
            arguments = " ".join(f"{k}={v}" for k, v in (*dims.items(), *zip(op.scalars, call.scalars, strict=True)))
            lines.append(f"{call.name:<28} {op.bytes(dims) / 1e3:>10.1f} {op.flops(dims) / 1e6:>10.2f}  {arguments}")
        lines.append(f"{f'{len(self.calls)} launches':<28} {total / 1e3:>10.1f} {self.flops / 1e6:>10.2f}")
        return "\n".join(lines)
