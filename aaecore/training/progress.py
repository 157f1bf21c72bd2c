"""A run of training: all that a resume needs of it, and all that a callback may see."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..arguments import count, number
from ..core.backend import Backend
from ..models.model import Model
from ..models.phase import Phase
from ..optim import Optimizer, schedules
from .burst import Burst
from .history import History, Row

FIXED = {  # attributes that cannot be set, and what to do instead
    **dict.fromkeys(("model", "backend", "phases", "names"), "make a Trainer of the other model"),
    "optimizers": "make a Trainer with other optimizers=, or set optimizers[phase].lr",
    **dict.fromkeys(("steps", "position", "rows", "sums"), "training counts it"),
    **dict.fromkeys(("epochs", "validating"), "it is what the running fit was asked for"),
}


class Moment(NamedTuple):
    """How far training is: what the host knows of a state, replaced as a whole when the device has made its part."""

    steps: int = 0  # made so far
    epoch: int = 0  # completed so far
    position: int = 0  # rows of the current epoch used so far
    rows: int = 0  # rows of the data of the last fit
    sums: np.ndarray = np.zeros(0)  # of the current epoch: losses times rows

    def after(self, burst: Burst, losses: np.ndarray) -> Moment:
        """The moment after the steps of a burst, whose losses (steps, phases) are given."""
        steps = self.steps + len(losses)
        if "x" in burst.given:
            return Moment(steps, self.epoch, self.position, self.rows, self.sums)
        # Added in order, one step after the other: the sums do not depend on where bursts end.
        totals = losses * burst.batch
        totals[0] += self.sums
        position = self.position + burst.batch * len(losses)
        return Moment(steps, self.epoch, position, self.rows, np.add.accumulate(totals)[-1])

    def after_epoch(self) -> Moment:
        """The moment at which the next epoch begins."""
        return Moment(self.steps, self.epoch + 1, 0, self.rows, np.zeros(len(self.sums)))


class Now:
    """The moment that it is."""

    __slots__ = ("moment",)

    def __init__(self, moment: Moment) -> None:
        self.moment = moment


class Settings(NamedTuple):
    """What a user may change between two steps."""

    batch_size: int
    labelled_batch_size: int
    rates: Mapping[str, float]  # by phase
    schedule: schedules.Schedule
    clip_norm: float | None
    guard: bool
    record: bool


class BaseRates(MutableMapping[str, float]):
    """The learning rates by phase that a schedule scales: `base_lr` of the optimizers, checked when they are set."""

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self._optimizers = optimizers

    def __getitem__(self, phase: str) -> float:
        return self._optimizers[phase].base_lr

    def __setitem__(self, phase: str, rate: float) -> None:
        self.check((phase,))
        self._optimizers[phase].base_lr = rate

    def __delitem__(self, phase: str) -> None:
        raise TypeError(f"base_lr: expected a rate for every phase, got none for {phase}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __len__(self) -> int:
        return len(self._optimizers)

    def __repr__(self) -> str:
        return repr(dict(self))

    def check(self, phases: Any) -> None:
        """ValueError for phases that the model does not have."""
        if unknown := [phase for phase in phases if phase not in self._optimizers]:
            raise ValueError(f"base_lr: expected the phases {', '.join(self)}, got {', '.join(map(str, unknown))}")


def _schedule(value: Any) -> schedules.Schedule:
    if not callable(value):
        raise TypeError(f"schedule: expected a function of the step, got {value!r}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def _history(value: Any) -> History:
    if not isinstance(value, History):
        raise TypeError(f"history: expected a History, got {type(value).__name__}")
    return value


def _is_ours(run: Run) -> bool:
    """Whether nobody derived a class of his own from it, which may have attributes of its own."""
    return type(run).__module__.startswith(f"{__package__}.")


CHECKS: Mapping[str, Callable[[Any], Any]] = {  # of the attributes that can be set
    "batch_size": partial(count, "batch_size"),
    "labelled_batch_size": partial(count, "labelled_batch_size"),
    "schedule": _schedule,
    "clip_norm": lambda v: None if v is None else number("clip_norm", v, 0.0, open_low=True),
    "guard": partial(_flag, "guard"),
    "record": partial(_flag, "record"),
    "history": _history,
}


class Run(ABC):
    """A model, its optimizers by phase, the settings of a trainer, and how far training is.

    Settings take effect at the next step and are checked when they are set; what cannot be set says so.
    """

    model: Model
    backend: Backend
    optimizers: Mapping[str, Optimizer]  # by phase
    phases: tuple[Phase, ...]
    names: tuple[str, ...]  # of the phases
    batch_size: int
    labelled_batch_size: int
    schedule: schedules.Schedule
    clip_norm: float | None
    guard: bool
    record: bool
    history: History
    epochs: int  # asked for by the running fit
    validating: bool  # whether the running fit measures something on validation data
    _now: Now

    def __init__(
        self, model: Model, optimizers: Mapping[str, Optimizer], *, batch_size: int, labelled_batch_size: int,
        schedule: schedules.Schedule | None, clip_norm: float | None, guard: bool, record: bool,
    ) -> None:  # fmt: skip
        names = tuple(phase.name for phase in model.phases)
        optimizers = MappingProxyType(dict(optimizers))
        self._fix(model=model, backend=model.backend, optimizers=optimizers, phases=model.phases, names=names)
        self._fix(epochs=0, validating=False)
        self._base_lr = BaseRates(self.optimizers)
        self.batch_size, self.labelled_batch_size = batch_size, labelled_batch_size
        self.schedule = schedules.Constant() if schedule is None else schedule
        self.clip_norm, self.guard, self.record = clip_norm, guard, record
        self.history = History()
        self._now = Now(Moment(sums=np.zeros(len(self.phases))))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED:
            raise AttributeError(f"{name}: cannot be set; {FIXED[name]}")
        check = CHECKS.get(name)
        if check is None and not (name.startswith("_") or hasattr(type(self), name)) and _is_ours(self):
            raise AttributeError(f"{name}: expected one of {', '.join(sorted([*CHECKS, 'lr']))}, which can be set")
        super().__setattr__(name, value if check is None else check(value))

    def _fix(self, **values: Any) -> None:
        """Sets what others cannot."""
        vars(self).update(values)

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self._now.moment.steps

    @property
    def epoch(self) -> int:
        """Epochs completed so far. It can be set, where a history was replaced."""
        return self._now.moment.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._now.moment = self._now.moment._replace(epoch=count("epoch", value, 0))

    @property
    def position(self) -> int:
        """Rows of the current epoch used so far."""
        return self._now.moment.position

    @property
    def rows(self) -> int:
        """Rows of the data of the last fit."""
        return self._now.moment.rows

    @property
    def sums(self) -> np.ndarray:
        """The losses of the current epoch times rows, by phase."""
        return self._now.moment.sums

    @property
    def base_lr(self) -> MutableMapping[str, float]:
        """The learning rates by phase, which the schedule scales."""
        return self._base_lr

    @base_lr.setter
    def base_lr(self, rates: Mapping[str, float]) -> None:
        if not isinstance(rates, Mapping) or rates.keys() != self.optimizers.keys():
            came = ", ".join(map(str, rates)) if isinstance(rates, Mapping) else repr(rates)
            raise ValueError(f"base_lr: expected the phases {', '.join(self.names)}, got {came}")
        for rate in rates.values():  # all, before the first is set
            number("lr", rate, 0.0)
        self._base_lr.update(rates)

    def made_rows(self, moment: Moment) -> list[Row]:
        """The rows of the history at a moment: the last one may be of the epoch that was just ending."""
        rows = self.history.rows
        return rows[:-1] if rows and rows[-1].get("epoch") == moment.epoch + 1 else rows

    def settings(self) -> Settings:
        """What a user may change between two steps, as it is now."""
        return Settings(
            self.batch_size, self.labelled_batch_size, dict(self._base_lr), self.schedule, self.clip_norm, self.guard,
            self.record,
        )  # fmt: skip

    def __repr__(self) -> str:
        settings = f"batch_size={self.batch_size}, lr={self.base_lr}, schedule={self.schedule!r}"
        return f"{type(self).__name__}({type(self.model).__name__}, {settings}): epoch {self.epoch}, {self.steps} steps"

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything that a resume needs."""
