"""What happens around training: the callback protocol, early stopping, and progress for people."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from ..arguments import count
from .history import Losses, Row
from .progress import Run


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
        """One epoch was made; `row` is its line of the history."""

    def on_train_end(self, trainer: Run) -> None:
        """`fit` ends, also by an error."""

    @property
    def wants_every_step(self) -> bool:
        """Whether `on_step_end` is overridden, so that training must come back to Python after every step."""
        return getattr(self.on_step_end, "__func__", None) is not Callback.on_step_end


def as_callbacks(given: Callback | Iterable[Callback] | None) -> list[Callback]:
    """One callback, several in whatever can be iterated over, or none.

    Raises:
        TypeError: something else.
    """
    several = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
    if wrong := [c for c in several if not isinstance(c, Callback)]:
        raise TypeError(f"callbacks: expected objects of Callback, got {wrong[0]!r}")
    return several


@dataclass
class EarlyStopping(Callback):
    """Stops when `monitor` has not fallen by more than `min_delta` for `patience` epochs.

    A function of the history alone, so a resumed run stops where the uninterrupted one would have.
    """

    monitor: str = "validation"
    patience: int = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        count("patience", self.patience)

    def on_train_begin(self, trainer: Run) -> None:
        if self.monitor == "validation" and not trainer.validating:
            raise ValueError("monitor: 'validation' needs fit(..., validation=...), which was not given")

    def on_epoch_end(self, trainer: Run, row: Row) -> bool:
        if self.monitor not in row:
            raise ValueError(f"monitor: expected one of {', '.join(row)}, got {self.monitor!r}")
        values = [r[self.monitor] for r in trainer.history.rows if self.monitor in r]
        best, since = float("inf"), 0
        for value in values:
            since = 0 if value < best - self.min_delta else since + 1
            best = min(best, value)
        return since >= self.patience


class Progress(Callback):
    """A bar on a terminal, one plain line per epoch elsewhere."""

    WIDTH = 24

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file if file is not None else sys.stderr
        self.live = self.file.isatty()
        self._drawn = 0.0
        self._begun = time.monotonic()

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
        shown = {k: v for k, v in row.items() if k not in ("epoch", "step") and not k.startswith("lr_")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        seconds = time.monotonic() - self._begun
        start = "\r\033[K" if self.live else ""
        self._write(f"{start}{self._epoch(trainer, int(row['epoch']))}  {text}  {seconds:.1f} s\n")

    def on_train_end(self, trainer: Run) -> None:
        if self.live:
            self._write("\r\033[K")

    def _epoch(self, trainer: Run, epoch: int) -> str:
        total = str(trainer.epochs)
        return f"epoch {epoch:>{len(total)}}/{total}"

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a closed pipe must not end the training
            self.file.write(text)
            self.file.flush()
