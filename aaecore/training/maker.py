"""Makes the steps of a run such that its state is always that of a whole step, counted.

The state has two halves, on the device and on the host. Between the first change of the one and the assignment of the
other (`Now.moment`) a burst is open; who looks then sees the snapshot of the guard, or waits. An error or an interrupt
goes back to before the burst. If that is interrupted too, whoever uses the model next goes back first.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import state
from .burst import Burst
from .guard import Rollback
from .progress import Moment, Run
from .stepper import Stepper

LOOKING = 0.02  # of the time of the steps: what a look at all weights and moments may take
CHEAP = 5e-6  # seconds of a look that is taken after every burst
# Where a loss or a rate is as large, the numbers that follow may leave float32, and the look is taken at once.
LARGE_LOSS, LARGE_RATE = 1e6, 1.0


class _Open(NamedTuple):
    """A burst that is being made."""

    steps: int  # counted before it: what is gone back to
    burst: Burst | None
    guard: bool


def _finish(maker: weakref.ref[Maker]) -> None:
    """What an owner calls, and nothing if the maker is gone."""
    if (there := maker()) is not None:
        there.finish()


class Maker:
    """Of one run, which owns it."""

    def __init__(self, run: Run) -> None:
        self._run: Run = weakref.proxy(run)  # each would keep the other alive
        self._now = run._now
        self.stepper = Stepper(run)
        self._owner, self._writes, self._backend = run.model.owner, run.model.writes, run.backend
        kept = state.buffers(run)
        for buffer in kept.values():
            buffer.writes = self._writes
        self._rollback = Rollback(kept | {f"cursor/{name}": b for name, b in self.stepper.cursors.items()})
        self._states = [optimizer.state for optimizer in run.optimizers.values()]
        self._all_finite = self._backend.finite_test([b for b in kept.values() if b.kind in ("real", "weight")])
        self._look_seconds = math.inf  # the shortest that was seen
        self._unseen = math.inf  # seconds of steps since the last look
        self._open: _Open | None = None
        self._torn = False  # whether the weights are those after a part of a step, since nothing was kept to go back to
        self._seen = -1  # the writes after the last step of this run; another number: others changed something
        self._finish = partial(_finish, weakref.ref(self))

    # --- making steps -----------------------------------------------------------------------------

    def make(self, burst: Burst) -> np.ndarray:
        """Makes steps; gives their losses, (steps, phases).

        Raises:
            FloatingPointError: a loss, a weight or a moment is not finite; the state is the last good one.
        """
        with self._owner.turnstile:  # whoever waits for the end of the last burst comes first
            pass
        with self._owner.whole:
            self._begin(burst)
            try:
                losses = self.stepper.run(burst)
                if self._run.guard:
                    self._look_at(burst, losses)
                self._commit(self._now.moment.after(burst, losses))
            except BaseException:
                self.finish()
                raise
            return losses

    def start(self, burst: Burst) -> Callable[[], list[float]]:
        """Makes steps that the guard does not watch, without waiting; gives what fetches the losses of the last."""
        with self._owner.whole:
            self._begin(burst)
            try:
                fetch = self.stepper.start(burst)
                self._commit(self._now.moment.after(burst, np.empty((burst.steps, 0))))
            except BaseException:
                self.finish()
                raise
            return fetch

    def _begin(self, burst: Burst) -> None:
        self.recover()
        run = self._run
        if run.guard and (self._rollback.due(burst.steps) or self._seen != self._writes.count):
            self.snapshot()
        self._open = _Open(run.steps, burst, run.guard)
        self._owner.finish = self._finish
        if run.guard:
            self._rollback.record(burst)
        else:
            self._rollback.close()  # it knows nothing of these steps

    def _commit(self, moment: Moment) -> None:
        """Ends a burst: from here on the state on the device is that of the moment."""
        self._now.moment = moment
        self._open = self._owner.finish = None
        self._torn, self._seen = False, self._writes.count

    def recover(self) -> None:
        """Takes back what an interrupt left open, of this run or of another one of the model."""
        if self._open is not None:
            self.finish()
        elif self._owner.finish is not None:
            self._owner.finish()
            self._owner.finish = None

    def finish(self) -> None:
        """Goes back to before the open burst; without the guard, counts the steps of it that were made."""
        with self._owner.whole:
            if self._open is None:
                return
            if self._open.guard:
                self._go_back(self._open.steps, lambda: True)
            else:
                self._count(self._open)

    def _count(self, broken: _Open) -> None:
        """Counts what was made of a burst by the optimizers' counters on the device; recorded steps are made whole."""
        run, burst, moment = self._run, broken.burst, self._now.moment
        made = [optimizer.steps - broken.steps for optimizer in run.optimizers.values()]
        steps = min(made)
        if burst is not None and 0 < steps <= burst.steps and moment.steps == broken.steps:
            moment = moment.after(burst, self.stepper.losses(steps))
        self._commit(moment)
        self._torn = max(made) > (steps if run.record else 0)

    # --- the guard --------------------------------------------------------------------------------

    def close_epoch(self) -> None:
        """Ends an epoch: what is repeated from here on does not count into it."""
        self._rollback.close()

    def snapshot(self) -> None:
        """Keeps the current state to come back to, if it is a good one."""
        run = self._run
        if run.guard:
            with self._owner.whole:
                self.check()
                self._rollback.snapshot(self._now.moment, run.settings())
                self._seen = self._writes.count

    def check(self) -> None:
        """With the guard, FloatingPointError if the state is not a good one; then it is the last good one."""
        with self._owner.whole:
            if not self._run.guard or self._is_good():
                return
            self._fail("weights gone bad", self._bad_phase(), self._run.steps, self._run.steps)

    def _is_good(self) -> bool:
        """Whether weights and moments are finite, and the first loss that the weights give on the last batch."""
        if not self._look() or any(not np.isfinite(self._backend.to_host(b)).all() for b in self._states):
            return False
        if self.stepper.last is None:
            return True
        self._run.model.generator.restart()  # a step of its own, of which nothing is kept
        _, *losses = next(iter(self._run.model.step(self.stepper.last)))
        return all(math.isfinite(float(loss)) for loss in losses)

    def _look(self) -> bool:
        """Whether weights and moments are finite."""
        self._unseen = 0.0
        if self._look_seconds < CHEAP:
            return self._all_finite()
        begun = time.perf_counter()
        finite = self._all_finite()
        self._look_seconds = min(self._look_seconds, time.perf_counter() - begun)
        return finite

    def _look_at(self, burst: Burst, losses: np.ndarray) -> None:
        """FloatingPointError if the open burst went wrong, as far as a look is worth its time."""
        first, names = self._run.steps, self._run.names
        if not np.isfinite(losses).all():
            step, phase = np.argwhere(~np.isfinite(losses))[0]
            self._fail(f"a loss of {losses[step, phase]}", names[phase], first + int(step) + 1, first + int(step))
        self._unseen += self.stepper.seconds * burst.steps
        worth = self._look_seconds < CHEAP or self._look_seconds < LOOKING * self._unseen
        if (worth or losses.max() > LARGE_LOSS or burst.rates.max() > LARGE_RATE) and not self._look():
            last = first + burst.steps
            self._fail("weights gone bad", self._bad_phase(), last, last - 1)

    def _bad_phase(self) -> str:
        """The first phase that moved something that is not finite now, else the last one."""
        run = self._run
        for phase in run.phases:
            moments = [b for table in run.optimizers[phase.name].moments.values() for b in table.values()]
            if not self._backend.all_finite([*(p.buffer for p in run.model.moved(phase)), *moments]):
                return phase.name
        return run.names[-1]

    def _fail(self, what: str, phase: str, step: int, last: int) -> None:
        """Goes back to after step `last`, or further to a good state, and raises: `step` went wrong."""
        run = self._run
        self.stepper.last = None  # the batch may be what is bad
        if self._rollback.last is None:
            raise FloatingPointError(f"{what} in phase {phase} of step {step}; there is no earlier state to go back to")
        rest = self._go_back(last, self._is_good)
        rates = "unknown" if rest is None else ", ".join(map("{} {:g}".format, run.names, rest.rates[0]))
        raise FloatingPointError(
            f"{what} in phase {phase} of step {step}; the weights are those after step {run.steps} "
            f"(learning rates of step {run.steps + 1}: {rates})"
        )

    def _go_back(self, last: int, good: Callable[[], bool]) -> Burst | None:
        """Goes to the state after step `last`, or to the latest good one before it; gives what was made after it."""
        run, snapshot = self._run, self._rollback.last
        assert snapshot is not None
        if self._open is None:
            self._open = _Open(last, None, True)
            self._owner.finish = self._finish

        def restore(moment: Moment) -> None:
            self._now.moment = moment

        def redo(burst: Burst) -> None:
            self._now.moment = self._now.moment.after(burst, self.stepper.run(burst))

        first = snapshot.moment.steps
        for steps in range(max(last - first, 0), -1, -1):
            rest = self._rollback.go_to(steps, restore, redo)
            if good():
                break
        self._commit(self._now.moment)
        self._rollback.snapshot(self._now.moment, run.settings())
        return rest

    # --- what others see --------------------------------------------------------------------------

    def committed(self, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The tensors and the description of a whole step, for a file.

        Other threads wait for the end of the burst. A handler of a signal, which comes in the middle of one, gets the
        guard's snapshot from before it.

        Raises:
            RuntimeError: in the middle of a step without the guard, which keeps nothing from before it.
        """
        run, owner = self._run, self._owner
        within = owner.within
        with owner.waiting(), self._backend.unrecorded():
            if not within:
                self.recover()
            kept = self._rollback.last if self._open is not None and self._open.guard else None
            if kept is not None:
                return state.saved(run, {name: kept.buffers[name] for name in state.buffers(run)}, *kept[1:])
            if owner.finish is not None or self._open is not None or self._torn:
                where = "whose last step was cut short" if self._torn else f"within a step of {owner.user}"
                kept_by = "guard=True keeps a state to write"
                raise RuntimeError(f"{what}: expected a trainer between two steps, got one {where}; {kept_by}")
            return state.saved(run, state.buffers(run), self._now.moment, run.settings())
