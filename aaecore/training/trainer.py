"""The training loop: bursts of steps, epochs, the guard's hooks, checkpoints, history, stopping.

The trainer knows phases (a loss, the networks it moves, their optimizer) and nothing of what they mean.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import priors
from ..arguments import count, number
from ..core.memory import Buffer
from ..data.table import Table
from ..errors import CheckpointError
from ..models.model import Model, from_description
from ..optim import schedules
from . import state
from .burst import Burst
from .callbacks import Callback, Progress
from .guard import Rollback
from .history import History, Losses, Row
from .inputs import Inputs
from .progress import Run
from .rates import Rates
from .recipe import MakeOptimizer, make_optimizers
from .signals import StopSignals
from .stepper import Stepper

Path = str | os.PathLike[str]


class Trainer(Run):
    """Trains a model.

    Args:
        model: what to train.
        batch_size: rows of a mini-batch; the last one of an epoch may be smaller.
        lr: learning rate of Adam in every phase, or one per phase: {"reconstruction": 1e-3, ...}.
        labelled_batch_size: rows with a label that a step takes besides, of models that want some.
        optimizers: instead of `lr`, per phase a function of the parameters: {"generator": partial(SGD, lr=0.1)}.
        schedule: a function of the step that scales the learning rates; see `aaecore.schedules`.
        clip_norm: upper bound of the global norm of each phase's gradients; None does not clip and fuses the
            updates with the gradients.
        guard: on a loss that is not finite, go back to the last good step and raise. False skips the snapshots.
        record: replay recorded steps; False launches op by op, with the same bits.

    To change a learning rate later, change `base_lr` (by phase); the schedule scales it at every step.

    Raises:
        ValueError, TypeError: a bad argument.
    """

    def __init__(
        self, model: Model, batch_size: int = 100, lr: float | Mapping[str, float] = 1e-3, *,
        labelled_batch_size: int = 100, optimizers: Mapping[str, MakeOptimizer] | None = None,
        schedule: schedules.Schedule | None = None, clip_norm: float | None = None, guard: bool = True,
        record: bool = True,
    ) -> None:  # fmt: skip
        if not isinstance(model, Model):
            raise TypeError(f"model: expected a Model, got {type(model).__name__}")
        if schedule is not None and not callable(schedule):
            raise TypeError(f"schedule: expected a function of the step, got {schedule!r}")
        batch_size, labelled = count("batch_size", batch_size), count("labelled_batch_size", labelled_batch_size)
        clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0.0, open_low=True)
        super().__init__(
            model, make_optimizers(model, lr, optimizers), batch_size=batch_size, labelled_batch_size=labelled,
            schedule=schedule if schedule is not None else schedules.Constant(), clip_norm=clip_norm, guard=guard,
            record=record,
        )  # fmt: skip
        self._stepper = Stepper(self)
        self._rates, self._inputs = Rates(self), Inputs(self)
        kept = [*state.buffers(self).values(), *self._stepper.cursors.values()]
        self._rollback = Rollback(kept, self._host_state, self._set_host_state, self._run)
        self._weights = [p.buffer for p in model.parameters.values()]
        self._loads_seen = model.loads

    # --- one step ---------------------------------------------------------------------------------

    def step(self, x: Any, *, y: Any = None, labelled: tuple[Any, Any] | None = None, z_prior: Any = None) -> Losses:
        """One training step on x (B, features), float or uint8.

        Args:
            x: the batch. On a GPU it and `z_prior` may be arrays of the device. Without the guard, a step on such an x
                does not wait for the device; its losses are fetched when they are looked at.
            y: (B,) its labels, of models that take them for every row.
            labelled: rows and their labels, `labelled_batch_size` of them, of models that take some besides.
            z_prior: (B, latent_dim), instead of the prior's sample.

        Raises:
            ValueError, TypeError: bad data. FloatingPointError: a loss is not finite; the weights are the last good.
        """
        table, given = self._inputs.of_step(x, y, labelled, z_prior)
        burst = Burst(len(table), *self._rates.of_next(1), given)
        if self.guard or not isinstance(table.columns["x"], Buffer):
            return Losses(self.names, self._make(burst)[-1].tolist())
        self.steps += 1
        return Losses(self.names, self._stepper.start(burst))

    def _make(self, burst: Burst) -> np.ndarray:
        """Makes steps; gives their losses, (steps, phases). If one is not finite, goes back to before it and raises."""
        if self.guard:
            if self._rollback.due(burst.steps) or self._loads_seen != self.model.loads:
                self._snapshot()
            self._rollback.record(burst)
        try:
            losses = self._run(burst)
        except BaseException:  # after an error or an interrupt it is as if the burst had not begun
            if self.guard:
                self._rollback.undo(burst.steps, lambda: True)
            raise
        if self.guard and not np.isfinite(losses).all():
            step, phase = np.argwhere(~np.isfinite(losses))[0]
            self._fail(f"a loss of {losses[step, phase]}", self.names[phase], burst.steps - step)
        return losses

    def _run(self, burst: Burst) -> np.ndarray:
        """Makes steps and counts them; what the guard repeats."""
        losses = self._stepper.run(burst)
        self.steps += burst.steps
        if "x" not in burst.given:
            self.position += burst.batch * burst.steps
            # Added in order, one step after the other: the sums do not depend on where bursts end.
            totals = losses * burst.batch
            totals[0] += self.sums
            self.sums = np.add.accumulate(totals)[-1]
        return losses

    # --- many steps -------------------------------------------------------------------------------

    def fit(
        self, x: Any, epochs: int, *, y: Any = None, validation: Any = None, callbacks: Sequence[Callback] = (),
        progress: bool = True, checkpoint: Path | None = None, checkpoint_interval: float = 0.0,
    ) -> History:  # fmt: skip
        """Trains until `epochs` epochs were made in all, counting those before this call or before a resume.

        Args:
            x: (N, input_dim), float32 (taken without a copy) or uint8 (scaled by 1/255 as it is used). A GPU keeps
                all of it in its memory; an array that is there already is taken without a copy.
            epochs: the total; more than `self.epoch`.
            y: (N,) integers, the labels of models that take some; -1 is no label, as in scikit-learn. An
                epoch that is not done yet goes on with the labels it began with only if they are the same.
            validation: rows like x, or a pair (x, y), that the model measures itself on after every epoch, for the
                history: an autoencoder its mean reconstruction loss.
            callbacks: see `aaecore.callbacks`.
            progress: draw a bar on a terminal, print a line per epoch elsewhere (to standard error).
            checkpoint: file to save to after every epoch, on SIGINT and SIGTERM, and before an error of the numbers.
            checkpoint_interval: seconds between two saves at the least; the last state is saved in any case.

        The order of the rows is a function of (seed, epoch). On SIGINT or SIGTERM the running burst of steps (20 ms, or
        one step) is finished, the checkpoint written, and the signal delivered to the handlers that were there before.

        Raises:
            ValueError, TypeError: bad arguments. FloatingPointError: a loss is not finite; the weights are those of the
            last good step. CheckpointError: `checkpoint` cannot be written.
        """
        table, held_out = self._inputs.to_train(x, y), self._inputs.to_validate(validation)
        made = self.epoch
        epochs = count("epochs", epochs, made + 1, expected=f"an integer > {made}, the epochs made so far")
        if self.position and len(table) != self.rows:
            raise ValueError(f"x: expected the {self.rows} rows that the unfinished epoch began with, got {len(table)}")
        if wrong := [c for c in callbacks if not isinstance(c, Callback)]:
            raise TypeError(f"callbacks: expected objects of Callback, got {wrong[0]!r}")
        number("checkpoint_interval", checkpoint_interval, 0.0)
        if checkpoint is not None and not os.path.isdir(os.path.dirname(os.path.abspath(checkpoint))):
            raise CheckpointError(f"checkpoint: expected a path in an existing folder, got {os.fspath(checkpoint)!r}")
        self.epochs, self.validating = epochs, held_out is not None
        self._snapshot()  # while the data of the steps so far are still bound
        self.rows = len(table)
        self._stepper.bind(table)
        listeners = [*callbacks, *([Progress()] if progress else [])]
        with StopSignals() as stop:
            try:
                for c in listeners:
                    c.on_train_begin(self)
                self._epochs(table, held_out, listeners, stop, checkpoint, checkpoint_interval)
            except FloatingPointError:
                if checkpoint is not None:
                    self.save(checkpoint)  # of the last good step
                raise
            finally:
                for c in listeners:
                    c.on_train_end(self)
        return self.history

    def _epochs(
        self, table: Table, validation: Table | None, listeners: Sequence[Callback], stop: StopSignals,
        path: Path | None, interval: float,
    ) -> None:  # fmt: skip
        going, saved = True, time.monotonic()
        while going:
            self._stepper.begin_epoch(self._inputs.orders(table), self._inputs.used())
            self._snapshot()  # so that what is repeated after a bad step lies within one order of the rows
            going = self._one_epoch(validation, listeners, stop) and not stop.received and self.epoch < self.epochs
            if path is not None and (not going or time.monotonic() - saved >= interval):
                self.save(path)
                saved = time.monotonic()

    def _one_epoch(self, validation: Table | None, listeners: Sequence[Callback], stop: StopSignals) -> bool:
        """Makes the rest of the current epoch; False if training should stop."""
        going, step_by_step = True, any(c.wants_every_step for c in listeners)
        sizes = self._inputs.sizes()
        while going and self.position < self.rows:
            if self._inputs.sizes() != sizes:
                raise ValueError(
                    f"batch_size: expected those that the epoch began with, {sizes}, since it takes labels"
                )
            left = self.rows - self.position
            batch = min(self.batch_size, left)
            steps = 1 if step_by_step else min(self._stepper.pace(batch), left // batch)
            burst = Burst(batch, *self._rates.of_next(steps), self._inputs.samples(batch))
            losses = Losses(self.names, self._make(burst)[-1].tolist())
            wishes = [c.on_step_end(self, losses) for c in listeners] if step_by_step else []
            wishes += [c.on_burst_end(self, losses) for c in listeners]
            going = not stop.received and not any(wishes)
        self._check_state()
        if self.position < self.rows:
            return False
        row = self._end_epoch(validation)
        wishes = [c.on_epoch_end(self, row) for c in listeners]
        self.history.settle()
        return going and not any(wishes)

    def _end_epoch(self, validation: Table | None) -> Row:
        means = (self.sums / self.rows).tolist()
        row: Row = {"epoch": self.epoch + 1, "step": self.steps, **dict(zip(self.names, means, strict=True))}
        if validation is not None:
            row |= self.model.validate(validation)
        row |= {f"lr_{name}": optimizer.lr for name, optimizer in self.optimizers.items()}
        self.history.rows.append(row)
        self.epoch += 1
        self.position = 0
        self.sums = np.zeros(len(self.phases))
        if self.guard:
            self._rollback.close()  # what is repeated from here on does not count into the epoch that is over
        return row

    # --- the guard --------------------------------------------------------------------------------

    def _host_state(self) -> tuple[int, int, np.ndarray]:
        return self.steps, self.position, self.sums

    def _set_host_state(self, state: tuple[int, int, np.ndarray]) -> None:
        self.steps, self.position, self.sums = state

    def _is_good(self) -> bool:
        """Whether the weights are finite, and the first loss that they give on the last batch."""
        if not self.backend.all_finite(self._weights):
            return False
        if self._stepper.last is None:
            return True
        _, *losses = next(iter(self.model.step(self._stepper.last)))
        return all(math.isfinite(float(loss)) for loss in losses)

    def _check_state(self) -> None:
        if self.guard and not self._is_good():
            bad = {id(p) for p in self.model.parameters.values() if not self.backend.all_finite([p.buffer])}
            named = (phase.name for phase in self.phases if any(id(p) in bad for p in self.model.moved(phase)))
            self._fail("weights gone bad", next(named, self.names[-1]), 1)

    def _snapshot(self) -> None:
        """Keeps the current state to come back to, if it is a good one."""
        if self.guard:
            self._check_state()
            self._rollback.snapshot()
            self._loads_seen = self.model.loads

    def _fail(self, what: str, phase: str, last: int) -> None:
        """Takes the `last` steps back, or more, and raises: the first of them went wrong."""
        step = self.steps - last + 1
        self._stepper.last = None  # the batch may be what is bad
        undone = self._rollback.undo(last, self._is_good)
        rates = "unknown" if undone is None else ", ".join(map("{} {:g}".format, self.names, undone))
        raise FloatingPointError(
            f"{what} in phase {phase} of step {step}; the weights are those after step {self.steps} "
            f"(learning rates of step {self.steps + 1}: {rates})"
        )

    # --- checkpoints ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes everything that a resume needs; after a crash at any moment the old file or the new one is there.

        Raises:
            CheckpointError: the file could not be written; an old one is intact.
        """
        from ..files import checkpoint  # json and hashlib are slow to import

        checkpoint.write(path, *state.saved(self))

    @classmethod
    def resume(
        cls, path: Path, *, prior: priors.Prior | priors.HostSampler | None = None,
        schedule: schedules.Schedule | None = None, device: str | None = None,
    ) -> Trainer:  # fmt: skip
        """The trainer that was saved; it continues bit for bit, also in the middle of an epoch.

        `prior` and `schedule` must be given if they were callables, which a file cannot hold. `device` is another one
        to continue on; there the numbers go on from the same values, but not bit for bit.

        Raises:
            CheckpointError: the file is missing, damaged, of a newer format or not of a trainer.
            ValueError: a callable is missing, or the device does not have the model's precision.
            DeviceError: a device this machine does not have.
        """
        from ..files import checkpoint

        tensors, meta = checkpoint.read(path, partial(state.expected, make=cls))
        state.check_callables(meta, prior, schedule)
        if device is not None:
            meta["model"]["device"] = device
        try:
            trainer = cls(from_description(meta["model"], prior=prior), **state.options(meta, schedule))
            state.restore(trainer, tensors, meta)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{os.fspath(path)}: the description does not fit a trainer: {error}") from error
        return trainer

    # --- copies -----------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickling: the model, and what a checkpoint has besides."""
        tensors, meta = state.saved(self)
        besides = {name: value for name, value in tensors.items() if not name.startswith("model/")}
        return _copied, (type(self), self.model, besides, meta, self.schedule)


def _copied(
    kind: type[Trainer], model: Model, besides: Mapping[str, np.ndarray], meta: Mapping[str, Any],
    schedule: schedules.Schedule,
) -> Trainer:  # fmt: skip
    """The trainer that `Trainer.__reduce__` took apart; it continues bit for bit."""
    trainer = kind(model, **state.options(meta, schedule))
    state.restore(trainer, {**state.tensors(trainer), **besides}, meta)
    return trainer


def load(path: Path, *, prior: priors.Prior | priors.HostSampler | None = None, device: str | None = None) -> Model:
    """The model of a file that `Model.save` or `Trainer.save` wrote, ready to encode, decode and sample.

    Args:
        path: the file.
        prior: needed if it was a callable, which a file cannot hold.
        device: another one than it was on.

    Raises:
        CheckpointError, ValueError, DeviceError: as `Trainer.resume`.
    """
    from ..files import checkpoint

    if state.is_alone(checkpoint.peek(path)):
        tensors, meta = checkpoint.read(path, state.expected_alone)
        state.check_callables(meta, prior, None)
        model = from_description(meta["model"], prior=prior, device=device)
        try:
            model.load_state_dict({name.removeprefix("model/"): value for name, value in tensors.items()})
        except ValueError as error:
            raise CheckpointError(f"{os.fspath(path)}: {error}") from None
        return model
    return Trainer.resume(path, prior=prior, schedule=schedules.Constant(), device=device).model
