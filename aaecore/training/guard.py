"""Safety around a running fit: rolling back from numbers that are not finite, and stopping on signals.

Training is reproducible to the bit, so the state after any step can be had again: restore a snapshot, repeat the steps.
That makes a guard against NaN free of cost inside the step: no kernel tests anything, no update is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.memory import Buffer
from .burst import Burst

INTERVAL = 200  # steps between snapshots at most, or one burst: copying the state is little beside so many steps
JOURNAL_BYTES = 64 << 20  # what the steps kept for repeating may hold before a new snapshot replaces them


class Rollback:
    """A snapshot of the state, and the bursts of steps made since, which `redo` makes again."""

    def __init__(
        self, state: Sequence[Buffer], host: Callable[[], Any], restore_host: Callable[[Any], None],
        redo: Callable[[Burst], object],
    ) -> None:  # fmt: skip
        self._state = list(state)
        self._host, self._restore_host, self._redo = host, restore_host, redo
        self._copies: list[Buffer] = []
        self._kept: Any = None
        self._closed = False
        self._journal: list[Burst] = []
        self._steps = 0  # in the journal
        self._bytes = 0

    def due(self, steps: int) -> bool:
        """Whether a new snapshot must come before so many more steps."""
        return self._steps + steps > INTERVAL or self._bytes > JOURNAL_BYTES or not self._copies or self._closed

    def snapshot(self) -> None:
        """Copies the state and forgets the journal."""
        if not self._copies:
            self._copies = [b.backend.clone(b) for b in self._state]
        else:
            for copy, buffer in zip(self._copies, self._state, strict=True):
                buffer.backend.copy(copy, buffer)
        self._kept, self._closed = self._host(), False
        self._journal.clear()
        self._steps = self._bytes = 0

    def close(self) -> None:
        """Makes a new snapshot due before the next steps, whose host state belongs to another epoch."""
        self._closed = True

    def record(self, burst: Burst) -> None:
        """Remembers steps that are about to be made."""
        self._journal.append(burst)
        self._steps += burst.steps
        self._bytes += burst.nbytes

    def undo(self, last: int, good_state: Callable[[], bool]) -> np.ndarray | None:
        """Takes back the `last` steps recorded, and more until `good_state()`; gives the rates of the first of them."""
        rates = None
        for good in range(self._steps - last, -1, -1):
            rates = self._go_to(good)
            if good_state():
                break
        self.snapshot()
        return rates

    def _go_to(self, steps: int) -> np.ndarray:
        """The state after the first `steps` steps of the journal; gives the rates of the step after them."""
        for copy, buffer in zip(self._copies, self._state, strict=True):
            buffer.backend.copy(buffer, copy)
        self._restore_host(self._kept)
        journal = iter(self._journal)
        while (burst := next(journal)).steps <= steps:
            self._redo(burst)
            steps -= burst.steps
        if steps:
            self._redo(burst.first(steps))
        return burst.rates[steps]
