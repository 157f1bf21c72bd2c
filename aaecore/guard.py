"""Safety around a running fit: rolling back from numbers that are not finite, and stopping on signals.

Training is reproducible to the bit, so the state after any step can be had again: restore a snapshot, repeat the steps.
That makes a guard against NaN free of cost inside the step: no kernel tests anything, no update is held back.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from .backend import Buffer

INTERVAL = 200  # steps between snapshots: copying the state costs less than 1 % of so many steps
JOURNAL_BYTES = 64 << 20  # what the steps kept for repeating may hold before a new snapshot replaces them


class Rollback:
    """A snapshot of the state and the steps made since, each as a function that makes it again."""

    def __init__(self, state: Sequence[Buffer], host: Callable[[], Any], restore_host: Callable[[Any], None]) -> None:
        self._state = list(state)
        self._host, self._restore_host = host, restore_host
        self._copies: list[np.ndarray] = []
        self._kept: Any = None
        self._journal: list[partial[None]] = []
        self._bytes = 0

    @property
    def due(self) -> bool:
        """Whether the journal is long enough for a new snapshot."""
        return len(self._journal) >= INTERVAL or self._bytes > JOURNAL_BYTES or not self._copies

    def snapshot(self) -> None:
        """Copies the state and forgets the journal."""
        if not self._copies:
            self._copies = [np.empty_like(b.storage) for b in self._state]
        for copy, buffer in zip(self._copies, self._state, strict=True):
            np.copyto(copy, buffer.storage)
        self._kept = self._host()
        self._journal.clear()
        self._bytes = 0

    def record(self, redo: partial[None], held_bytes: int = 0) -> None:
        """Remembers a step that is about to be made."""
        self._journal.append(redo)
        self._bytes += held_bytes

    def forget(self) -> None:
        """Takes the last recorded step out again: it was not made."""
        if self._journal:
            self._journal.pop()

    def undo(self, good_state: Callable[[], bool]) -> partial[None] | None:
        """Goes back before the last recorded step, or further until `good_state()`; gives the first step undone."""
        journal, undone = list(self._journal), None
        for good in range(len(journal) - 1, -1, -1):
            for copy, buffer in zip(self._copies, self._state, strict=True):
                np.copyto(buffer.storage, copy)
            self._restore_host(self._kept)
            for redo in journal[:good]:
                redo()
            undone = journal[good]
            if good_state():
                break
        self.snapshot()
        return undone


class StopSignals:
    """A context in which SIGINT and SIGTERM set `received` instead of interrupting; a second one acts at once.

    On leaving, also by an error, the previous handlers are back and a signal that came is delivered to them, so a
    process ends as it would have, after its checkpoint was written. Outside the main thread, where Python allows no
    handlers, it does nothing.
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.received: int | None = None
        self._signals = tuple(signals)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self.received is not None:
            os.kill(os.getpid(), self.received)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._restore()
            os.kill(os.getpid(), number)
        self.received = number
