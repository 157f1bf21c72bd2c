"""Going back: a snapshot of a run's state and the steps since, from which the state after any of them is made again.

Training is reproducible to the bit, so the state after any step can be had again: restore a snapshot, repeat the steps.
That makes a guard against NaN free of cost inside the step: no kernel tests anything, no update is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..core.memory import Buffer
from .burst import Burst
from .progress import Moment, Settings

INTERVAL = 200  # steps between snapshots at most, or one burst: copying the state is little beside so many steps
JOURNAL_BYTES = 64 << 20  # what the steps kept for repeating may hold before a new snapshot replaces them


class _Entry(NamedTuple):
    """A burst of the journal, and what the journal holds with it."""

    burst: Burst
    steps: int
    nbytes: int


class Snapshot(NamedTuple):
    """The state of a moment that was committed; the buffers are copies."""

    buffers: Mapping[str, Buffer]
    moment: Moment
    settings: Settings


class Rollback:
    """A snapshot of the state, by name, and the bursts of steps made since.

    An interrupt at any place leaves it usable: changes are single assignments, and a snapshot counts when it is whole.
    """

    def __init__(self, state: Mapping[str, Buffer]) -> None:
        self._state = dict(state)
        self._copies: dict[str, Buffer] = {}
        self._journal: list[_Entry] = []
        self._closed = False
        self.last: Snapshot | None = None

    def due(self, steps: int) -> bool:
        """Whether a new snapshot must come before so many more steps."""
        if self.last is None or self._closed:
            return True
        made, nbytes = (self._journal[-1].steps, self._journal[-1].nbytes) if self._journal else (0, 0)
        return made + steps > INTERVAL or nbytes > JOURNAL_BYTES

    def snapshot(self, moment: Moment, settings: Settings) -> None:
        """Copies the state, which is that of `moment`, and forgets the journal."""
        if not self._copies:
            self._copies = {name: b.backend.clone(b) for name, b in self._state.items()}
        else:
            self.last = None
            for name, buffer in self._state.items():
                buffer.backend.copy(self._copies[name], buffer)
        self.last, self._journal, self._closed = Snapshot(self._copies, moment, settings), [], False

    def close(self) -> None:
        """Makes a new snapshot due before the next steps: what comes in between is not recorded."""
        self._closed = True

    def record(self, burst: Burst) -> None:
        """Remembers steps that are about to be made."""
        steps, nbytes = (self._journal[-1].steps, self._journal[-1].nbytes) if self._journal else (0, 0)
        self._journal.append(_Entry(burst, steps + burst.steps, nbytes + burst.nbytes))

    def go_to(self, steps: int, restore: Callable[[Moment], None], redo: Callable[[Burst], object]) -> Burst | None:
        """Makes the state after the first `steps` steps of the journal again; gives the rest of what was recorded."""
        assert self.last is not None
        for name, buffer in self._state.items():
            buffer.backend.copy(buffer, self.last.buffers[name])
        restore(self.last.moment)
        for entry in self._journal:
            if entry.burst.steps > steps:
                if steps:
                    redo(entry.burst.first(steps))
                return entry.burst.after(steps)
            redo(entry.burst)
            steps -= entry.burst.steps
        return None
