"""What happens around training: the callback protocol, early stopping, keeping the best, and progress for people."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

import numpy as np

from ..arguments import count, number
from ..errors import CheckpointError
from ..files import atomic
from ..models.health import NAMES
from .history import History, Losses, Row, shown
from .progress import Run

Function = Callable[[Run, Row], bool | None]  # of a trainer and the row of an epoch


class Callback:
    """Override what you need. Returning True from an `on_..._end` stops training after that step, burst or epoch."""

    def on_train_begin(self, trainer: Run) -> None:
        """`fit` starts."""

    def on_step_end(self, trainer: Run, losses: Losses) -> bool | None:
        """One step was made, with these losses. Where steps are small this makes them slower; see `on_burst_end`."""

    def on_burst_end(self, trainer: Run, losses: Losses) -> bool | None:
        """Some steps were made, 20 ms of them or a single one, the last with these losses.

        Unless a callback overrides `on_step_end`, steps run in such bursts, without Python in between.
        """

    def on_epoch_end(self, trainer: Run, row: Row) -> bool | None:
        """One epoch was made; `row` is its line of the history, to which numbers, text or None may be added."""

    def on_train_end(self, trainer: Run) -> None:
        """`fit` ends, also by an error."""

    @property
    def wants_every_step(self) -> bool:
        """Whether `on_step_end` is overridden, so that training must come back to Python after every step."""
        return getattr(self.on_step_end, "__func__", None) is not Callback.on_step_end


class EachEpoch(Callback):
    """Calls a function f(trainer, row) after every epoch, which stops training if it returns True.

    In `fit(..., callbacks=...)` the function itself is enough.
    """

    def __init__(self, function: Function) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Run, row: Row) -> bool | None:
        return self.function(trainer, row)


def as_callbacks(given: Callback | Function | Iterable[Callback | Function] | None) -> list[Callback]:
    """One callback, several in whatever can be iterated over, or none; a function is called after every epoch.

    Raises:
        TypeError: something else.
    """
    several = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
    for c in several:
        if not isinstance(c, Callback) and (isinstance(c, type) or not callable(c)):
            raise TypeError(f"callbacks: expected objects of Callback or functions f(trainer, row), got {c!r}")
    return [c if isinstance(c, Callback) else EachEpoch(c) for c in several]


def target_of(name: str, path: str | os.PathLike[str]) -> str:
    """The path of a file to write later, from the root, whatever the working directory becomes.

    Raises:
        CheckpointError: it cannot be written, as far as that can be known before.
    """
    try:
        return atomic.check(path)
    except (OSError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{name}: expected a path that can be written, got {path!r}: {why}") from None


class _Watch(Callback):
    """Follows the column `monitor` of the history: a function of the history alone, which looks at each row once."""

    def __init__(self, monitor: str, min_delta: float) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise TypeError(f"monitor: expected the name of a column of the history, got {monitor!r}")
        self.monitor = monitor
        self.min_delta = number("min_delta", min_delta, 0.0)
        self._begin(None)

    def _begin(self, history: History | None) -> None:
        self._history = history
        self._seen = 0  # rows that cannot change any more
        self._best, self._best_epoch, self._since = math.inf, 0, 0  # of them

    def on_train_begin(self, trainer: Run) -> None:
        if self.monitor == "validation" and not trainer.validating:
            raise ValueError("monitor: 'validation' needs fit(..., validation=...), which was not given")

    def _follow(self, history: History) -> tuple[float, int, int]:
        """The lowest value, its epoch (from 1, 0 without one), and how many values in a row did not fall since.

        A value falls by more than `min_delta`. The last row is looked at anew each time: a callback may add to it.
        """
        if history is not self._history or len(history.rows) < self._seen:
            self._begin(history)
        rows = history.rows
        for epoch in range(self._seen + 1, len(rows)):
            self._best, self._best_epoch, self._since = self._after(rows[epoch - 1], epoch)
            self._seen = epoch
        return self._after(rows[-1], len(rows)) if rows else (self._best, 0, 0)

    def _after(self, row: Row, epoch: int) -> tuple[float, int, int]:
        value = row.get(self.monitor)
        if value is None:  # not measured in this epoch
            return self._best, self._best_epoch, self._since
        if isinstance(value, bool | str):
            raise TypeError(f"monitor: expected numbers in column {self.monitor!r}, got {value!r} in epoch {epoch}")
        since = 0 if value < self._best - self.min_delta else self._since + 1
        return (value, epoch, since) if value < self._best else (self._best, self._best_epoch, since)

    def _check(self, row: Row) -> None:
        if self.monitor not in row:
            raise ValueError(f"monitor: expected one of {', '.join(row)}, got {self.monitor!r}")


class EarlyStopping(_Watch):
    """Stops when `monitor` has not fallen by more than `min_delta` for `patience` epochs.

    A function of the history alone, so a resumed run stops where the uninterrupted one would have.

    Args:
        monitor: a column of the history; the lower the better. Epochs in which it is None do not count.
        patience: epochs, at least 1.
        min_delta: at least 0.
        restore_best: at the end of `fit` put the weights of its best epoch, of which a copy is held, back into the
            model. Moments and history stay. A checkpoint has the last weights, to go on from, so the best ones do not
            outlive the process: where the best epoch lies before a resume a warning says so; `SaveBest` keeps a file.

    Raises:
        ValueError, TypeError: a bad argument.
    """

    def __init__(
        self, monitor: str = "validation", patience: int = 10, min_delta: float = 0.0, *, restore_best: bool = False
    ) -> None:
        super().__init__(monitor, min_delta)
        self.patience = count("patience", patience)
        if not isinstance(restore_best, bool):
            raise TypeError(f"restore_best: expected True or False, got {restore_best!r}")
        self.restore_best = restore_best
        self._held: tuple[History, int, dict[str, np.ndarray]] | None = None  # of which epoch the weights are

    def on_epoch_end(self, trainer: Run, row: Row) -> bool:
        self._check(row)
        _, best_epoch, since = self._follow(trainer.history)
        if self.restore_best and best_epoch == len(trainer.history):
            self._held = trainer.history, best_epoch, trainer.model.state_dict()
        return since >= self.patience

    def on_train_end(self, trainer: Run) -> None:
        """Puts the best weights back, unless `fit` ends within an epoch: who goes on from there finds what he left."""
        _, best_epoch, _ = self._follow(trainer.history)
        if not self.restore_best or trainer.position or best_epoch in (0, len(trainer.history)):
            return
        if self._held is not None and self._held[0] is trainer.history and self._held[1] == best_epoch:
            trainer.model.load_state_dict(self._held[2])
            return
        warnings.warn(
            f"restore_best: the weights of the best epoch, {best_epoch}, are not held, since this callback did not see "
            f"it (before a resume, say); the model has those of epoch {len(trainer.history)}. SaveBest keeps a file",
            RuntimeWarning,
            stacklevel=2,
        )


class SaveBest(_Watch):
    """Writes the model to `path` after every epoch in which `monitor` is lower than ever before; see `aaecore.load`.

    A function of the history, as `EarlyStopping`: a resumed run writes where the uninterrupted one would have.

    Args:
        path: a file, replaced as a whole.
        monitor: a column of the history; the lower the better.

    Raises:
        ValueError, TypeError: a bad argument. CheckpointError: a path that cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], monitor: str = "validation") -> None:
        super().__init__(monitor, 0.0)
        self.path = target_of("path", path)

    def on_epoch_end(self, trainer: Run, row: Row) -> None:
        self._check(row)
        if self._follow(trainer.history)[1] == len(trainer.history):
            trainer.model.save(self.path)


class Progress(Callback):
    """A bar on a terminal, one plain line per epoch elsewhere. What cannot be shown does not end the training.

    Args:
        file: where to; standard error by default, and nowhere if there is none.
    """

    WIDTH = 24

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file if file is not None else sys.stderr
        self.live = False
        with suppress(AttributeError, OSError, ValueError):  # none, or a logger, or it is closed
            self.live = self.file.isatty()
        self._drawn = 0.0
        self._begun = time.monotonic()
        self._said: list[str] = []  # the beginning of what was said last of the model's health

    def on_train_begin(self, trainer: Run) -> None:
        self._begun = time.monotonic()

    def on_burst_end(self, trainer: Run, losses: Losses) -> None:
        if self.live and time.monotonic() - self._drawn > 0.1:
            self._drawn = time.monotonic()
            done = trainer.position / trainer.rows
            bar = "#" * round(done * self.WIDTH)
            text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            line = f"{self._epoch(trainer, trainer.epoch + 1)} [{bar:<{self.WIDTH}}] {done:4.0%}  {text}"
            # Cut: a line that wraps could not be drawn over.
            self._write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")

    def on_epoch_end(self, trainer: Run, row: Row) -> None:
        left_out = {k for k, v in row.items() if v is None or k in ("epoch", "step") or k.startswith("lr_")}
        text = "  ".join(f"{name} {self._shown(value)}" for name, value in row.items() if name not in left_out)
        seconds = time.monotonic() - self._begun
        start = "\r\033[K" if self.live else ""
        self._write(f"{start}{self._epoch(trainer, len(trainer.history))}  {text}  {seconds:.1f} s\n")

        said = trainer.model.advice(row)
        if said and said.partition(":")[2].split()[:2] != self._said:  # once, not after every epoch
            self._write(f"{said}\n")
        if said or set(row) & set(NAMES):
            self._said = said.partition(":")[2].split()[:2]

    def on_train_end(self, trainer: Run) -> None:
        if self.live:
            self._write("\r\033[K")

    def _epoch(self, trainer: Run, epoch: int) -> str:
        total = str(trainer.epochs)
        return f"epoch {epoch:>{len(total)}}/{total}"

    def _shown(self, value: Any) -> str:
        """A number, or what a callback put into the row, on one line."""
        text = shown(float(value) if isinstance(value, np.floating) else value, digits=4)
        return text if text.isprintable() else ascii(text)

    def _write(self, text: str) -> None:
        with suppress(Exception):  # no file, a closed pipe, a full disk, a logger with an error of its own
            try:
                self.file.write(text)
            except UnicodeEncodeError:
                self.file.write(text.encode("ascii", "backslashreplace").decode())
            self.file.flush()
