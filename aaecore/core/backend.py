"""The one waist: every numerical operation of the library is `Backend.launch(op, buffers, dims, scalars)`.

`launch` checks its arguments against the op table once, for all backends, and then runs the op or, inside `capture`,
records it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident

import numpy as np

from ..errors import CaptureError
from .memory import Buffer, Memory
from .ops import OPS, PRECISIONS, Op
from .owner import Use
from .plan import Call, Plan


class Backend(Memory, ABC):
    """A device. Subclasses give `_run` and `_compile`, and whatever of the memory differs from NumPy's on the host.

    `_compile(calls)` gives a function of n that makes the calls in order, n times over, without the host in between.
    """

    precisions: tuple[str, ...] = tuple(PRECISIONS)  # of the linear layers

    def __init__(self) -> None:
        self._recordings: dict[int, tuple[Use, list[Call]]] = {}  # by the thread that records

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
        if self._recordings and (calls := self._recorded()) is not None:
            calls.append(Call(name, tuple(buffers), tuple(dims), tuple(scalars)))
            return
        for i in op.outputs:
            if (writes := buffers[i].writes) is not None:
                writes.count += 1
        self._run(name, buffers, dims, scalars)

    def _check(self, op: Op, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        for what, expected, got in (
            ("buffers", op.args, buffers),
            ("dims", op.dims, dims),
            ("scalars", op.scalars, scalars),
        ):
            if len(expected) != len(got):
                raise ValueError(f"{op.name}: expected {len(expected)} {what}, got {len(got)}")
        if not all(isinstance(d, int | np.integer) for d in dims):
            raise ValueError(f"{op.name}: expected integers as dims, got {tuple(dims)}")
        for i, code, most in op.codes:
            if not 0 <= dims[i] < most:
                raise ValueError(f"{op.name}: {code}: expected an integer from 0 to {most - 1}, got {dims[i]}")
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

        A recording is the calling thread's: what others launch meanwhile is run.
        """
        if self.recording:
            raise CaptureError("capture: a step is already being recorded")
        use, calls = Use("capture"), list[Call]()
        try:
            self._recordings[use.thread] = use, calls
            step()
        finally:
            self._recordings.pop(use.thread, None)
        return Plan(calls, inputs, self._compile(calls))

    @property
    def recording(self) -> bool:
        return bool(self._recordings) and self._recorded() is not None

    def _recorded(self) -> list[Call] | None:
        """The calls that the calling thread recorded so far; None if it does not record."""
        thread = get_ident()
        use, calls = self._recordings.get(thread, (None, None))
        if use is not None and not use.goes_on():  # an interrupt came before its end was noted
            self._recordings.pop(thread, None)
            return None
        return calls

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """A context for what is no part of a recording, though a handler of a signal may come in the middle of it."""
        thread = get_ident()
        recording = self._recordings.pop(thread, None)
        try:
            yield
        finally:
            if recording is not None:
                self._recordings[thread] = recording

    # --- what a device provides -------------------------------------------------------------------

    @abstractmethod
    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None: ...

    @abstractmethod
    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]: ...
