"""The training loop: bursts of steps, epochs, the guard's hooks, checkpoints, history, stopping.

The trainer knows phases (a loss, the parameters it moves, their optimizer) and nothing of what they mean.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import priors
from ..arguments import count, number
from ..core.memory import Buffer
from ..data import epoch_order
from ..data.rows import Rows, as_rows, to_floats
from ..errors import CheckpointError
from ..functions.tensor import Parameter, Tensor
from ..models.aae import AAE, Batch
from ..optim import OPTIMIZERS, Adam, Optimizer, schedules
from . import state
from .burst import Burst
from .callbacks import Callback, Progress
from .guard import Rollback
from .history import History, Losses, Row
from .signals import StopSignals
from .stepper import Stepper

Path = str | os.PathLike[str]
MakeOptimizer = Callable[[Sequence[Parameter]], Optimizer]


class Trainer:
    """Trains an `AAE`.

    Args:
        model: what to train.
        batch_size: rows of a mini-batch; the last one of an epoch may be smaller.
        lr: learning rate of Adam in every phase, or one per phase: {"reconstruction": 1e-3, ...}.
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
        self,
        model: AAE,
        batch_size: int = 100,
        lr: float | Mapping[str, float] = 1e-3,
        *,
        optimizers: Mapping[str, MakeOptimizer] | None = None,
        schedule: schedules.Schedule | None = None,
        clip_norm: float | None = None,
        guard: bool = True,
        record: bool = True,
    ) -> None:
        if not isinstance(model, AAE):
            raise TypeError(f"model: expected an AAE, got {type(model).__name__}")
        if schedule is not None and not callable(schedule):
            raise TypeError(f"schedule: expected a function of the step, got {schedule!r}")
        self.model, self.backend = model, model.backend
        self.batch_size = count("batch_size", batch_size)
        self.phases = model.phases
        self.names = tuple(phase.name for phase in self.phases)
        self.optimizers = self._make_optimizers(lr, optimizers)
        self.base_lr = {name: optimizer.lr for name, optimizer in self.optimizers.items()}
        self.schedule = schedule if schedule is not None else schedules.Constant()
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0.0, open_low=True)
        self.guard, self.record = guard, record
        self.history = History()
        self.steps = 0  # made so far
        self.epoch = 0  # completed so far
        self.epochs = 0  # asked for by the running fit
        self.position = 0  # rows of the current epoch used so far
        self.rows = 0  # rows of the data of the last fit
        self._sums = np.zeros(len(self.phases))  # of the current epoch: losses times rows
        self.validating = False  # whether the running fit measures the loss on validation data
        self._stepper = Stepper(model, self.phases, self.optimizers, self.clip_norm, record)
        self._rates_of: tuple[list[float], list[float]] = [], []  # base rates and factors,
        self._rates_made = np.empty((0, len(self.phases)))  # and the table that was made of them
        self._rollback = Rollback(self._state(), self._host_state, self._set_host_state, self._run)
        self._loads_seen = model.loads

    def _make_optimizers(
        self, lr: float | Mapping[str, float], makers: Mapping[str, MakeOptimizer] | None
    ) -> dict[str, Optimizer]:
        for name, given in (("lr", lr), ("optimizers", makers)):
            if isinstance(given, Mapping) and (unknown := sorted(set(given) - set(self.names))):
                raise ValueError(f"{name}: expected phases among {', '.join(self.names)}, got {', '.join(unknown)}")
        made = {}
        for phase in self.phases:
            rate = lr.get(phase.name, 1e-3) if isinstance(lr, Mapping) else lr
            maker = (makers or {}).get(phase.name, partial(Adam, lr=rate))
            optimizer = maker(phase.parameters) if callable(maker) else None
            if type(optimizer) not in OPTIMIZERS.values() or set(optimizer.parameters) != set(phase.parameters):
                raise ValueError(
                    f"optimizers: {phase.name} must be a function that makes {' or '.join(OPTIMIZERS)} of exactly the "
                    f"parameters it is given, such as functools.partial(Adam, lr=1e-3); got {maker!r}"
                )
            made[phase.name] = optimizer
        return made

    # --- one step ---------------------------------------------------------------------------------

    def step(self, x: Any, *, z_prior: Any = None) -> Losses:
        """One training step on x (B, input_dim), float or uint8; `z_prior` (B, latent_dim) replaces the prior's sample.

        On a GPU both may be arrays of the device. Without the guard, a step on such an x does not wait for the device;
        its losses are fetched when they are looked at.

        Raises:
            ValueError, TypeError: bad data. FloatingPointError: a loss is not finite; the weights are the last good.
        """
        rows = self.model.check_data(x, "x")
        latent_dim = self.model.latent_dim
        z = None if z_prior is None else as_rows(self.backend, z_prior, "z_prior", latent_dim, pixels=False)
        if z is not None and len(z) != len(rows):
            raise ValueError(f"z_prior: expected shape {(len(rows), latent_dim)}, got {(len(z), latent_dim)}")
        z = self._host_sample(len(rows)) if z is None else self._kept(z)
        burst = Burst(len(rows), self._rates(1), self._kept(rows), z)
        if self.guard or not isinstance(rows, Buffer):
            return Losses(self.names, self._make(burst)[-1].tolist())
        self.steps += 1
        return Losses(self.names, self._stepper.start(burst))

    def _kept(self, rows: Rows) -> Rows:
        """Rows as floats, copied if the guard may have to repeat the step."""
        if isinstance(rows, Buffer):
            floats = to_floats(self.backend, rows)
            return self.backend.clone(floats) if self.guard and rows.kind == "real" else floats
        rows = rows.astype(np.float32) * np.float32(1 / 255) if rows.dtype == np.uint8 else rows
        return np.array(rows, self.backend.real)

    def _rates(self, steps: int) -> np.ndarray:
        """(steps, phases): the learning rates of the next steps. Where they are the same again, so is the array."""
        if self.base_lr.keys() != self.optimizers.keys():
            raise ValueError(f"base_lr: expected the phases {', '.join(self.names)}, got {', '.join(self.base_lr)}")
        base = [self.base_lr[name] for name in self.names]
        factors = [self.schedule(step) for step in range(self.steps, self.steps + steps)]
        if self._rates_of != (base, factors):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is an error with a name, below
                rates = np.multiply.outer(np.array(factors, np.float64), np.array(base, np.float64))
            for extreme in (rates.min(), rates.max()):
                number("lr", float(extreme), 0.0)
            self._rates_of, self._rates_made = (base, factors), rates
        return self._rates_made

    def _host_sample(self, batch: int) -> np.ndarray | None:
        """The sample of a prior that only the host can draw."""
        if not isinstance(self.model.prior, priors.CallablePrior):
            return None
        return self.model.prior.draw(batch, self.model.latent_dim, self.model.seed, self.model.generator.counter)

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
        if burst.x is None:
            self.position += burst.batch * burst.steps
            # Added in order, one step after the other: the sums do not depend on where bursts end.
            totals = losses * burst.batch
            totals[0] += self._sums
            self._sums = np.add.accumulate(totals)[-1]
        return losses

    # --- many steps -------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        epochs: int,
        *,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        checkpoint: Path | None = None,
        checkpoint_interval: float = 0.0,
    ) -> History:
        """Trains until `epochs` epochs were made in all, counting those before this call or before a resume.

        Args:
            x: (N, input_dim), float32 (taken without a copy) or uint8 (scaled by 1/255 as it is used). A GPU keeps
                all of it in its memory; an array that is there already is taken without a copy.
            epochs: the total; more than `self.epoch`.
            validation: rows whose mean reconstruction loss is added to the history.
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
        x = self.model.check_data(x, "x")
        made = self.epoch
        epochs = count("epochs", epochs, made + 1, expected=f"an integer > {made}, the epochs made so far")
        if validation is not None:
            validation = self.model.check_data(validation, "validation")
        if self.position and len(x) != self.rows:
            raise ValueError(f"x: expected the {self.rows} rows that the unfinished epoch began with, got {len(x)}")
        if wrong := [c for c in callbacks if not isinstance(c, Callback)]:
            raise TypeError(f"callbacks: expected objects of Callback, got {wrong[0]!r}")
        number("checkpoint_interval", checkpoint_interval, 0.0)
        if checkpoint is not None and not os.path.isdir(os.path.dirname(os.path.abspath(checkpoint))):
            raise CheckpointError(f"checkpoint: expected a path in an existing folder, got {os.fspath(checkpoint)!r}")
        self.epochs, self.validating = epochs, validation is not None
        self._snapshot()  # while the data of the steps so far are still bound
        self.rows = len(x)
        self._stepper.bind(x)
        listeners = [*callbacks, *([Progress()] if progress else [])]
        with StopSignals() as stop:
            try:
                for c in listeners:
                    c.on_train_begin(self)
                self._epochs(validation, listeners, stop, checkpoint, checkpoint_interval)
            except FloatingPointError:
                if checkpoint is not None:
                    self.save(checkpoint)  # of the last good step
                raise
            finally:
                for c in listeners:
                    c.on_train_end(self)
        return self.history

    def _epochs(
        self,
        validation: Rows | None,
        listeners: Sequence[Callback],
        stop: StopSignals,
        path: Path | None,
        interval: float,
    ) -> None:
        going, saved = True, time.monotonic()
        while going:
            going = self._one_epoch(validation, listeners, stop) and not stop.received and self.epoch < self.epochs
            if path is not None and (not going or time.monotonic() - saved >= interval):
                self.save(path)
                saved = time.monotonic()

    def _one_epoch(self, validation: Rows | None, listeners: Sequence[Callback], stop: StopSignals) -> bool:
        """Makes the rest of the current epoch; False if training should stop."""
        self._stepper.begin_epoch(epoch_order(self.rows, self.model.seed, self.epoch), self.position)
        self._snapshot()  # so that what is repeated after a bad step lies within one order of the rows
        going, step_by_step = True, any(c.wants_every_step for c in listeners)
        while going and self.position < self.rows:
            left = self.rows - self.position
            batch = min(self.batch_size, left)
            steps = 1 if step_by_step else min(self._stepper.pace(batch), left // batch)
            burst = Burst(batch, self._rates(steps), z=self._host_sample(batch))
            losses = Losses(self.names, self._make(burst)[-1].tolist())
            wishes = [c.on_step_end(self, losses) for c in listeners] if step_by_step else []
            wishes += [c.on_burst_end(self, losses) for c in listeners]
            going = not stop.received and not any(wishes)
        self._check_state()
        if self.position < self.rows:
            return False
        row = self._end_epoch(validation)
        wishes = [c.on_epoch_end(self, row) for c in listeners]
        return going and not any(wishes)

    def _end_epoch(self, validation: Rows | None) -> Row:
        means = (self._sums / self.rows).tolist()
        row: Row = {"epoch": self.epoch + 1, "step": self.steps, **dict(zip(self.names, means, strict=True))}
        if validation is not None:
            row["validation"] = self.model.evaluate(validation)
        row |= {f"lr_{name}": optimizer.lr for name, optimizer in self.optimizers.items()}
        self.history.rows.append(row)
        self.epoch += 1
        self.position = 0
        self._sums = np.zeros(len(self.phases))
        return row

    # --- the guard --------------------------------------------------------------------------------

    def _state(self) -> list[Buffer]:
        """Every device buffer that a step changes and the next one reads."""
        moments = [b for o in self.optimizers.values() for table in o.moments.values() for b in table.values()]
        states = [o.state for o in self.optimizers.values()]
        weights = [p.buffer for p in self.model.parameters.values()]
        return [*weights, *moments, *states, self.model.generator.state, self._stepper.cursor]

    def _host_state(self) -> tuple[int, int, np.ndarray]:
        return self.steps, self.position, self._sums

    def _set_host_state(self, state: tuple[int, int, np.ndarray]) -> None:
        self.steps, self.position, self._sums = state

    def _is_good(self) -> bool:
        """Whether the weights are finite, and the first loss that they give on the last batch."""
        if not self.backend.all_finite([p.buffer for p in self.model.parameters.values()]):
            return False
        if self._stepper.last_x is None:
            return True
        x = Tensor(self._stepper.last_x)
        return math.isfinite(float(self.phases[0].loss(Batch(x, x))))

    def _check_state(self) -> None:
        if self.guard and not self._is_good():
            bad = {id(p) for p in self.model.parameters.values() if not self.backend.all_finite([p.buffer])}
            named = (phase.name for phase in self.phases if any(id(p) in bad for p in phase.parameters))
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
        self._stepper.last_x = None  # the batch may be what is bad
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

        checkpoint.write(path, state.tensors(self), state.describe(self))

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        prior: priors.Prior | priors.HostSampler | None = None,
        schedule: schedules.Schedule | None = None,
        device: str | None = None,
    ) -> Trainer:
        """The trainer that was saved; it continues bit for bit, also in the middle of an epoch.

        `prior` and `schedule` must be given if they were callables, which a file cannot hold. `device` is another one
        to continue on; there the numbers go on from the same values, but not bit for bit.

        Raises:
            CheckpointError: the file is missing, damaged, of a newer format or not of a trainer.
            ValueError: a callable is missing, or the device does not have the model's precision.
            DeviceError: a device this machine does not have.
        """
        from ..files import checkpoint

        tensors, meta = checkpoint.read(path, state.expected)
        state.check_callables(meta, prior, schedule)
        if device is not None:
            meta["model"]["device"] = device
        try:
            trainer = cls(AAE.from_config(meta["model"], prior=prior), **state.options(meta, schedule))
            state.restore(trainer, tensors, meta)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{os.fspath(path)}: the description does not fit a trainer: {error}") from error
        return trainer


def load(path: Path, *, prior: priors.Prior | priors.HostSampler | None = None, device: str | None = None) -> AAE:
    """The model of a checkpoint, ready to encode, decode and sample; on another `device` than it was, if given.

    Raises:
        CheckpointError, ValueError, DeviceError: as `Trainer.resume`.
    """
    return Trainer.resume(path, prior=prior, schedule=schedules.Constant(), device=device).model
