"""The one waist: every numerical operation of the library is `Backend.launch(op, buffers, dims, scalars)`.

`launch` checks its arguments against the op table once, for all backends, and then runs the op or, inside `capture`,
records it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ..errors import CaptureError
from .memory import Buffer, Memory
from .ops import OPS, PRECISIONS, Op
from .plan import Call, Plan


class Backend(Memory, ABC):
    """A device. Subclasses give `_run` and `_compile`, and whatever of the memory differs from NumPy's on the host.

    `_compile(calls)` gives a function of n that makes the calls in order, n times over, without the host in between.
    """

    precisions: tuple[str, ...] = tuple(PRECISIONS)  # of the linear layers

    def __init__(self) -> None:
        self._calls: list[Call] = []

    # --- launching --------------------------------------------------------------------------------

    def launch(
        self, name: str, buffers: Sequence[Buffer], dims: Sequence[int] = (), scalars: Sequence[float] = ()
    ) -> None:
        """Checks the arguments against the op table, then runs the op, or records it inside `capture`.

        Raises:
            ValueError: unknown op, wrong number of arguments, or a buffer of another size, kind or backend.
        """
        op = OPS.get(name)
        if op is None:
            raise ValueError(f"launch: unknown op {name!r}")
        self._check(op, buffers, dims, scalars)
        if self.recording:
            self._calls.append(Call(name, tuple(buffers), tuple(dims), tuple(scalars)))
        else:
            self._run(name, buffers, dims, scalars)

    def _check(self, op: Op, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        for what, expected, got in (
            ("buffers", op.args, buffers),
            ("dims", op.dims, dims),
            ("scalars", op.scalars, scalars),
        ):
            if len(expected) != len(got):
                raise ValueError(f"{op.name}: expected {len(expected)} {what}, got {len(got)}")
        named = dict(zip(op.dims, dims, strict=True))
        if any(d < 0 for d in dims) or not op.valid(named):
            raise ValueError(f"{op.name}: sizes that do not fit together: {named}")
        for arg, buffer in zip(op.args, buffers, strict=True):
            if buffer.backend is not self:
                raise ValueError(f"{op.name}: {arg.name} lives on another backend ({buffer.backend.name})")
            if buffer.kind != arg.kind:
                raise ValueError(f"{op.name}: {arg.name}: expected kind {arg.kind}, got {buffer.kind}")
            if buffer.size != arg.size(named):
                raise ValueError(
                    f"{op.name}: {arg.name}: expected {arg.size(named)} elements, got {buffer.size} {buffer.shape}"
                )

    def capture(self, step: Callable[[], object], inputs: Sequence[Buffer] = ()) -> Plan:
        """Records the launches of `step()` without running them. `inputs` are the buffers that `Plan.replay` may fill.

        Raises:
            CaptureError: `step` reads or writes device memory from the host, draws random numbers there, or captures.
        """
        if self.recording:
            raise CaptureError("capture: a step is already being recorded")
        self._calls, self.recording = [], True
        try:
            step()
        finally:
            calls, self._calls, self.recording = self._calls, [], False
        return Plan(calls, inputs, self._compile(calls))

    # --- what a device provides -------------------------------------------------------------------

    @abstractmethod
    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None: ...

    @abstractmethod
    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]: ...
