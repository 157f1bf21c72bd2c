"""The training loop: bursts of steps, epochs, the guard's hooks, checkpoints, history, stopping.

The trainer knows phases (a loss, the networks it moves, their optimizer) and nothing of what they mean.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

from .. import priors
from ..arguments import count, number
from ..core.memory import Buffer
from ..core.owner import Use
from ..data.table import Table
from ..errors import CheckpointError
from ..models.health import due
from ..models.model import Model, from_description
from ..optim import schedules
from . import state
from .burst import Burst
from .callbacks import Callback, Function, Progress, as_callbacks, target_of
from .history import History, Losses, Row
from .inputs import Inputs
from .maker import Maker
from .progress import Run
from .rates import Rates
from .recipe import MakeOptimizer, make_optimizers, rates_of
from .signals import StopSignals

Path = str | os.PathLike[str]


class Trainer(Run):
    """Trains a model.

    Args:
        model: what to train.
        batch_size: rows of a mini-batch; the last one of an epoch may be smaller.
        lr: learning rates of Adam by phase, {"reconstruction": 1e-3, ...}, or a number for the first phase, which
            scales those of the others; by default what the model suggests.
        labelled_batch_size: rows with a label that a step takes besides, of models that want some.
        optimizers: instead of `lr`, per phase a function of the parameters: {"discriminator": partial(SGD, lr=0.1)}. By
            default Adam, with a first moment that decays by 0.5 in the phases of a game.
        schedule: a function of the step that scales the learning rates; see `aaecore.schedules`.
        clip_norm: upper bound of the global norm of each phase's gradients; None does not clip and fuses the
            updates with the gradients.
        guard: on a loss that is not finite, go back to the last good step and raise. False skips the snapshots.
        record: replay recorded steps; False launches op by op, with the same bits.

    A trainer can be copied, and pickled, with its model; the copy goes on bit for bit.

    Attributes:
        model, batch_size, labelled_batch_size, schedule, clip_norm, guard, record: as the arguments. All but the model
            can be set, which the next step heeds.
        lr: the learning rates by phase, to be set as the argument; the schedule scales them at every step. `base_lr` is
            another name.
        optimizers: by phase.
        phases, names: the updates of a step, and their names, under which losses and rates are found.
        history: the rows of all epochs so far, a `History`.
        epoch, steps: made so far.
        position, rows: of the data, those used in the current epoch, and all.
        epochs, validating: what the running `fit` was asked for.

    Raises:
        ValueError, TypeError: a bad argument.
    """

    def __init__(
        self, model: Model, batch_size: int = 100, lr: float | Mapping[str, float] | None = None, *,
        labelled_batch_size: int = 100, optimizers: Mapping[str, MakeOptimizer] | None = None,
        schedule: schedules.Schedule | None = None, clip_norm: float | None = None, guard: bool = True,
        record: bool = True,
    ) -> None:  # fmt: skip
        if not isinstance(model, Model):
            raise TypeError(f"model: expected a Model, got {type(model).__name__}")
        if model.part_of:
            came = f"the {type(model).__name__} that a {model.part_of} keeps as it is"
            raise ValueError(f"model: expected one of its own, got {came}; train copy.deepcopy(model) instead")
        super().__init__(
            model, make_optimizers(model, lr, optimizers), batch_size=batch_size,
            labelled_batch_size=labelled_batch_size, schedule=schedule, clip_norm=clip_norm, guard=guard, record=record,
        )  # fmt: skip
        self._rates, self._inputs, self._maker = Rates(self), Inputs(self), Maker(self)
        self._parameters = sum(p.buffer.size for p in model.parameters.values())

    @property
    def lr(self) -> MutableMapping[str, float]:
        """The learning rates by phase, which the schedule scales; to be set as the argument of that name."""
        return self.base_lr

    @lr.setter
    def lr(self, lr: float | Mapping[str, float]) -> None:
        # A number scales what the model suggests; by phase, those that are left out stay as they are.
        given = {**self.base_lr, **lr} if isinstance(lr, Mapping) else number("lr", lr, 0.0)
        self.base_lr = rates_of(self.phases, given)

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
        use = Use("Trainer.step")
        try:
            self.model.owner.enter(use)
            self._maker.recover()
            table, given = self._inputs.of_step(x, y, labelled, z_prior)
            self._begin(table)
            burst = Burst(len(table), *self._rates.of_next(1), given)
            if self.guard or not isinstance(table.columns["x"], Buffer):
                return Losses(self.names, self._maker.make(burst)[-1].tolist())
            return Losses(self.names, self._maker.start(burst))
        finally:
            self.model.owner.leave(use)

    def _begin(self, table: Table) -> None:
        """Lets the model look at the data that it learns from first; where nothing learns, nothing changes."""
        if not self.model.begun:
            learning = [phase for phase in self.phases if self.optimizers[phase.name].base_lr]
            if moving := {name for phase in learning for name in phase.moves}:
                self.model.begin(table.columns["x"], moving)

    # --- many steps -------------------------------------------------------------------------------

    def fit(
        self, x: Any, epochs: int | None = None, *, more_epochs: int | None = None, y: Any = None,
        validation: Any = None, callbacks: Callback | Function | Iterable[Callback | Function] | None = None,
        progress: bool = True, checkpoint: Path | None = None, checkpoint_interval: float = 0.0,
    ) -> History:  # fmt: skip
        """Trains until `epochs` epochs were made in all, counting those before this call or before a resume.

        Args:
            x: (N, input_dim), float32 (taken without a copy) or uint8 (scaled by 1/255 as it is used). A GPU keeps
                all of it in its memory; an array that is there already is taken without a copy.
            epochs: the total; more than `self.epoch`.
            more_epochs: instead of it, how many to make besides those made so far; one that is not done yet is one.
            y: (N,) labels, of models that take some: integers, of which -1 is no label, as in scikit-learn, or strings,
                of which "" or None is none. The first ones are those that the model knows from then on. An epoch that
                is not done yet goes on with the labels it began with only if they are the same.
            validation: rows like x, or a pair (x, y), that the model measures itself on after every epoch, for the
                history: an autoencoder its mean reconstruction loss.
            callbacks: one or more; see `aaecore.callbacks`. A function f(trainer, row) is called after every epoch.
            progress: draw a bar on a terminal, print a line per epoch elsewhere (to standard error).
            checkpoint: file to save to after every epoch, on SIGINT and SIGTERM, and before an error of the numbers.
            checkpoint_interval: seconds between two saves at the least; the last state is saved in any case.

        The order of the rows is a function of (seed, epoch). On SIGINT or SIGTERM the running burst of steps (20 ms, or
        one step) is finished, the checkpoint written, and the signal delivered to the handlers that were there before.

        Meanwhile the model is this call's: whatever else would train it is refused. Other threads, and callbacks, may
        encode and the like, with the weights as they are, and may save, which waits for the end of a burst.

        Raises:
            ValueError, TypeError: bad arguments. FloatingPointError: a number is not finite; the weights are those of
            the last good step. CheckpointError: `checkpoint` cannot be written. RuntimeError: the model is in training.
        """
        use = Use("Trainer.fit")
        stop = StopSignals(use)
        listeners: list[Callback] = []
        target: str | None = None
        try:
            self.model.owner.enter(use)
            self._maker.recover()
            table, held_out = self._inputs.of_fit(x, y, validation)
            total = self._total(epochs, more_epochs)
            if self.position and len(table) != self.rows:
                expected = f"the {self.rows} rows that the unfinished epoch began with"
                raise ValueError(f"x: expected {expected}, got {len(table)}")
            given = as_callbacks(callbacks)
            number("checkpoint_interval", checkpoint_interval, 0.0)
            if checkpoint is not None:
                target = target_of("checkpoint", checkpoint)
            self._fix(epochs=total, validating=held_out is not None)
            self._begin(table)
            self._maker.snapshot()  # while the data of the steps so far are still bound
            self._now.moment = self._now.moment._replace(rows=len(table))
            self._maker.stepper.bind(table)
            listeners = [*given, *([Progress()] if progress else [])]
            stop.begin()
            for c in listeners:
                c.on_train_begin(self)
            self._epochs(table, held_out, listeners, stop, target, checkpoint_interval)
        except FloatingPointError:
            if target is not None:
                self.save(target)  # of the last good step
            raise
        finally:
            try:
                for c in listeners:
                    c.on_train_end(self)
            finally:
                self.model.owner.leave(use)
                stop.end()
        return self.history

    def _total(self, epochs: int | None, more_epochs: int | None) -> int:
        """How many epochs are asked for in all."""
        made = self.epoch
        if (epochs is None) == (more_epochs is None):
            came = "none" if epochs is None else "both"
            raise ValueError(f"epochs: expected either epochs, a total, or more_epochs, got {came}")
        if epochs is None:
            return made + count("more_epochs", more_epochs)
        expected = f"an integer > {made}, the epochs made so far (to make n besides: more_epochs=n)"
        return count("epochs", epochs, made + 1, expected=expected if made else "")

    def _epochs(
        self, table: Table, validation: Table | None, listeners: Sequence[Callback], stop: StopSignals,
        path: Path | None, interval: float,
    ) -> None:  # fmt: skip
        going, saved = True, time.monotonic()
        while going:
            self._maker.stepper.begin_epoch(self._inputs.orders(table), self._inputs.used())
            self._maker.snapshot()  # so that what is repeated after a bad step lies within one order of the rows
            going = (
                self._one_epoch(table, validation, listeners, stop) and not stop.received and self.epoch < self.epochs
            )
            if path is not None and (not going or time.monotonic() - saved >= interval):
                self.save(path)
                saved = time.monotonic()

    def _one_epoch(
        self, table: Table, validation: Table | None, listeners: Sequence[Callback], stop: StopSignals
    ) -> bool:
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
            steps = 1 if step_by_step else min(self._maker.stepper.pace(batch), left // batch)
            burst = Burst(batch, *self._rates.of_next(steps), self._inputs.samples(batch))
            losses = Losses(self.names, self._maker.make(burst)[-1].tolist())
            wishes = [c.on_step_end(self, losses) for c in listeners] if step_by_step else []
            wishes += [c.on_burst_end(self, losses) for c in listeners]
            going = not stop.received and not any(wishes)
        self._maker.check()
        if self.position < self.rows:
            return False
        row = self._end_epoch(table, validation)
        wishes = [c.on_epoch_end(self, row) for c in listeners]
        self.history.settle()
        return going and not any(wishes)

    def _end_epoch(self, table: Table, validation: Table | None) -> Row:
        means = (self.sums / self.rows).tolist()
        row: Row = {"epoch": self.epoch + 1, "step": self.steps, **dict(zip(self.names, means, strict=True))}
        with self.model.owner.whole:
            self.model.refresh(table.columns["x"])
        if validation is not None:
            row |= self.model.validate(validation)
        rows = self.made_rows(self._now.moment)
        if due(self.steps, rows[-1].get("step", 0) if rows else 0, self._parameters, self.batch_size):
            row |= self.model.health(table.columns["x"])
        row |= {f"lr_{name}": optimizer.lr for name, optimizer in self.optimizers.items()}
        self._maker.close_epoch()
        self.history.rows[len(rows) :] = [row]  # a row that an interrupt left alone is replaced
        self._now.moment = self._now.moment.after_epoch()
        return row

    # --- checkpoints ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes everything that a resume needs; after a crash at any moment the old file or the new one is there.

        What is written is the state after a whole step. While another thread trains, it waits for one. A handler of a
        signal, which comes in the middle of steps, gets a state that the guard keeps, of a burst or some before.

        Raises:
            CheckpointError: the file could not be written, or a number is not finite; an old file is intact.
            RuntimeError: in the middle of a step without the guard.
        """
        from ..files import checkpoint  # json and hashlib are slow to import

        checkpoint.write(path, *self._maker.committed("save"))

    @classmethod
    def resume(
        cls, path: Path, *, prior: priors.Prior | priors.HostSampler | None = None,
        schedule: schedules.Schedule | None = None, device: str | None = None,
    ) -> Trainer:  # fmt: skip
        """The trainer that was saved; it continues bit for bit, also in the middle of an epoch.

        `prior` and `schedule` must be given if they were callables, which a file cannot hold. `device` is another one
        to continue on, in "fp32" where it does not have the model's precision; there the numbers go on from the same
        values, but not bit for bit.

        Raises:
            CheckpointError: the file is missing, damaged, of a newer format or not of a trainer.
            ValueError: a callable is missing.
            DeviceError: a device this machine does not have.
        """
        from ..files import checkpoint

        tensors, meta = checkpoint.read(path, partial(state.expected, make=cls))
        state.check_callables(meta, prior, schedule)
        try:
            model = from_description(meta["model"], prior=prior, device=device)
            trainer = cls(model, **state.options(meta, schedule))
            state.restore(trainer, tensors, meta)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(f"{os.fspath(path)}: it does not fit a trainer: {error}") from error
        except CheckpointError as error:
            raise CheckpointError(f"{os.fspath(path)}: {error}") from None
        return trainer

    # --- copies -----------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickling: the model, and what a checkpoint has, its weights too: those of the same moment."""
        return _copied, (type(self), self.model, *self._maker.committed("copy"), self.schedule)


def _copied(
    kind: type[Trainer], model: Model, tensors: Mapping[str, Any], meta: Mapping[str, Any],
    schedule: schedules.Schedule,
) -> Trainer:  # fmt: skip
    """The trainer that `Trainer.__reduce__` took apart; it continues bit for bit."""
    trainer = kind(model, **state.options(meta, schedule))
    state.restore(trainer, tensors, meta)
    return trainer


def load(path: Path, *, prior: priors.Prior | priors.HostSampler | None = None, device: str | None = None) -> Model:
    """The model of a file that `Model.save` or `Trainer.save` wrote, ready to encode, decode and sample.

    Args:
        path: the file.
        prior: instead of the model's own. One that was a callable, which a file cannot hold, is needed to sample and to
            train on, not to encode.
        device: another one than it was on, in "fp32" where it does not have the model's precision.

    Raises:
        CheckpointError, ValueError, DeviceError: as `Trainer.resume`.
    """
    from ..files import checkpoint

    whole = partial(state.expected, make=Trainer)
    tensors, meta = checkpoint.read(path, state.expected_alone if state.is_alone(checkpoint.peek(path)) else whole)
    model = from_description(meta["model"], prior=prior, device=device)
    weights = {name.removeprefix("model/"): v for name, v in tensors.items() if name.startswith("model/")}
    try:
        model.load_state_dict(weights)
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None
    if "random/state" in tensors:
        model.generator.counter = int(tensors["random/state"][1])
    return model
