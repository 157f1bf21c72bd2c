"""Stopping on signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

from ..core.owner import Use


class StopSignals:
    """From `begin` to `end` SIGINT and SIGTERM set `received` instead of interrupting; a second one acts at once.

    Call `begin` within `try` and `end` in `finally`. Then, also after an error, the previous handlers are back and a
    signal that came is delivered to them, so a process ends as it would have, after its checkpoint was written. Where
    an interrupt comes before `end`, the first signal after `use` is over brings the previous handlers back. Outside the
    main thread of the main interpreter, where Python allows no handlers, it does nothing.
    """

    def __init__(self, use: Use, signals: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.received: int | None = None
        self._use = use
        self._signals = tuple(signals)
        self._previous: dict[int, Any] = {}

    def begin(self) -> None:
        """Takes the signals that are not ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._signals:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._previous[number] = handler  # before: an interrupt must not lose it
                with suppress(ValueError):  # a sub-interpreter has a main thread too
                    signal.signal(number, self._handle)

    def end(self) -> None:
        """Puts the previous handlers back and delivers what came."""
        self._restore()
        if self.received is not None:
            os.kill(os.getpid(), self.received)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            with suppress(ValueError):
                signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None or not self._use.goes_on():
            self._restore()
            os.kill(os.getpid(), number)
        self.received = number
