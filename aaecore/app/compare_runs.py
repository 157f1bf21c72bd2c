"""The runs of a comparison: which there are, how long they train, and how they go on where they were stopped."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..arguments import number
from ..data.table import LABEL
from ..evaluation.recipes import NOTHING, Recipe, recipe
from ..files import atomic
from ..models.model import Model
from ..models.registry import imported
from ..optim.schedules import Constant, Cosine
from ..training.callbacks import Callback
from ..training.history import Losses, Row
from ..training.progress import Run
from ..training.trainer import Trainer
from . import config, runs
from .config import RunConfig
from .offers import Generative
from .runs import CHECKPOINT, CONFIG, Terminated
from .sources import Source

CLOCK = "clock.json"
ENDLESS = 1_000_000  # epochs, of training that time ends
# Keys that a run of a comparison does not choose: the comparison does.
SHARED = {
    "data", "data_folder", "dataset", "image_shape", "labels", "labelled_rows", "validation_rows", "model", "patience",
    "threads", "plots", "two_dimensional", "two_dimensional_epochs", "two_dimensional_prior", "seed",
}  # fmt: skip


class Limit(NamedTuple):
    """How long each model trains: as its recipe says, or what is not None."""

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None

    def check(self) -> None:
        """ValueError for two of them, or for minutes that never end."""
        if len(given := [f"--{name}" for name, value in self._asdict().items() if value is not None]) > 1:
            raise ValueError(f"{given[0]}: expected one of --epochs, --steps and --minutes, got {' and '.join(given)}")
        if self.minutes is not None:
            number("--minutes", self.minutes, 0.0, open_low=True)

    def idle(self) -> set[str]:
        """The keys of a run that then change nothing."""
        return {"epochs", "schedule"} if self.minutes is not None else {"epochs"} if self.steps is not None else set()

    def said(self) -> str:
        """As on the command line."""
        given = [f"--{name} {value:g}" for name, value in self._asdict().items() if value is not None]
        return " ".join(given) or "none of --epochs, --steps and --minutes"


class Entry(NamedTuple):
    """One model of a comparison, of one seed."""

    title: str
    folder: str
    options: RunConfig
    first: Mapping[str, Entry]  # trained before it, by the option that takes one
    shares: Mapping[str, float]  # of all its steps, by the option that is to be such a number

    @property
    def seed(self) -> int:
        return int(self.options.of_model()["seed"])

    @property
    def path(self) -> str:
        return os.path.join(self.folder, CHECKPOINT)

    @property
    def parts(self) -> list[Entry]:
        """Those that are trained, in order."""
        return [*(part for entry in self.first.values() for part in entry.parts), self]

    def apart(self, validation: int, rows: int, limit: Limit) -> Entry:
        """The same run, which keeps so many of the rows out of training, and knows how many steps it makes of them."""
        epoch = -(-(rows - validation) // self.options.batch_size)
        steps = self.options.epochs * epoch if limit.steps is None else limit.steps
        changes: dict[str, Any] = {"validation_rows": validation, "epochs": -(-steps // epoch)}
        if limit.minutes is None:
            changes |= {option: int(steps * share) for option, share in self.shares.items()}
        first = {option: each.apart(validation, rows, limit) for option, each in self.first.items()}
        return self._replace(options=replace(self.options, **changes), first=first)


class Settings:
    """What was said by --set: [MODEL.]KEY=VALUE, where KEY is one of a TOML file.

    Raises:
        ValueError: no such text.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self._said = [_split(text) for text in given]
        self._used: set[int] = set()
        self._refused: dict[int, str] = {}  # why it changes nothing

    def of(self, title: str, record: type[RunConfig], made: Collection[str]) -> dict[str, Any]:
        """The values for the model of a title, by key: of those for all models what it has, then its own.

        `made` are options that the comparison gives it.
        """
        keys = {name: key for name, key in config.keys(record).items() if name not in SHARED and name not in made}
        found: dict[str, Any] = {}
        for i in self._about(title):
            model, key, text = self._said[i]
            if key in keys:
                try:
                    found[key] = config.flag_value(keys[key], text)
                except ValueError as error:
                    alone = "" if model else f"; MODEL.{key}={text} sets that of one model"
                    raise ValueError(f"--set: {title}.{key}: {error}{alone}") from None
            elif model and key in made:
                expected = f"{title}.{key}.KEY=VALUE, since a comparison trains that"
                raise ValueError(f"--set: expected {expected}, got {title}.{key}={text}")
            elif model:
                raise ValueError(f"--set: {title}: unknown option {key!r}; expected one of {', '.join(keys)}")
        return found

    def taken(self, title: str, options: RunConfig, limit: Limit, made: Collection[str]) -> None:
        """Notes which of them change something in the run of a model, to which the comparison gives what is `made`."""
        last = {self._said[i][1]: i for i in self._about(title) if self._said[i][1] in config.keys(options)}
        last = {key: i for key, i in last.items() if key not in made}
        for key, i in last.items():
            try:
                if key in limit.idle():
                    raise ValueError(f"{key}: expected training by epochs, got {limit.said()}")
                config.check_used(options, [key])
                self._used.add(i)
            except ValueError as error:
                self._refused[i] = f"{title}: {error}"

    def _about(self, title: str) -> list[int]:
        return [i for whose in ("", title) for i, said in enumerate(self._said) if said[0] == whose]

    def check(self, titles: Sequence[str]) -> None:
        """ValueError for what changes nothing in any model."""
        for i, (model, key, _) in enumerate(self._said):
            if i not in self._used:
                came = f"an option of {' or '.join(titles)}, got {f'{model}.{key}' if model else key!r}"
                raise ValueError(f"--set: {self._refused.get(i, f'expected {came}')}")


def _split(text: str) -> tuple[str, str, str]:
    left, equals, value = text.partition("=")
    model, _, key = left.strip().rpartition(".")
    if not equals or not key:
        raise ValueError(f"--set: expected KEY=VALUE or MODEL.KEY=VALUE, got {text!r}")
    return model, key.replace("-", "_"), value.strip()


class Clock(Callback):
    """Counts the seconds of training in a file beside the checkpoint, and stops where they are spent.

    What an interrupted run counts after its last checkpoint goes the way of its steps: of the seconds in the file those
    are taken that the steps of the checkpoint needed.
    """

    def __init__(self, folder: str, most: float = math.inf) -> None:
        self.path, self.most = os.path.join(folder, CLOCK), most
        self.before, self.begun = 0.0, 0.0

    def read(self, steps: int) -> float:
        """The seconds that so many steps took."""
        try:
            with open(self.path, encoding="utf-8") as file:
                there = json.load(file)
            return float(there["seconds"]) * steps / int(there["steps"]) if steps else 0.0
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
            return 0.0  # it was never written, or somebody else did

    def _passed(self) -> float:
        return self.before + time.monotonic() - self.begun

    def _write(self, trainer: Run) -> None:
        text = json.dumps({"steps": trainer.steps, "seconds": self._passed()})
        atomic.write(self.path, text.encode())

    def on_train_begin(self, trainer: Run) -> None:
        self.before, self.begun = self.read(trainer.steps), time.monotonic()

    def on_burst_end(self, trainer: Run, losses: Losses) -> bool:
        return self._passed() >= self.most

    def on_epoch_end(self, trainer: Run, row: Row) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: Run) -> None:
        self._write(trainer)


class StopAfter(Callback):
    """Stops after so many steps in all."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, trainer: Run, losses: Losses) -> bool:
        return trainer.steps >= self.steps


# --- what is compared -------------------------------------------------------------------------------------------------


def names_of(models: Sequence[str]) -> list[str]:
    """The models of a comparison, by the names of recipes or classes, separated by commas or given one by one.

    Raises:
        ValueError: none, one twice, or one that there is not or that has no samples.
    """
    names = [name.strip() for text in models for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"--models: expected names that differ, separated by commas, got {','.join(names) or 'none'}")
    for name in names:
        kind = _kind(name)
        if not issubclass(kind, Generative):
            raise ValueError(f"--models: expected models that have samples, got {name}")
    return names


def _kind(name: str) -> type[Model]:
    try:
        return imported(recipe(name).model)
    except ValueError as error:
        raise ValueError(f"--models: {str(error).removeprefix('model: ')}") from None


def entry(
    out: str, name: str, seed: int, shared: Mapping[str, Any], limit: Limit, settings: Settings
) -> Entry:  # fmt: skip
    """The run of a model and a seed, in a folder of its own.

    Args:
        out: the folder of the comparison.
        name: of the model.
        seed: of its weights, its noise and the order of its data.
        shared: keys of all runs, those of the data among them.
        limit: of its training.
        settings: of some or all models.

    Raises:
        ValueError: an option that its model does not have, or a value that the option does not accept.
    """
    folder = os.path.join(out, f"{name.rpartition(':')[2]}-{seed}")
    return _entry(folder, name, recipe(name), {**shared, "seed": seed}, limit, settings)


def _entry(
    folder: str, title: str, how: Recipe, shared: Mapping[str, Any], limit: Limit, settings: Settings
) -> Entry:  # fmt: skip
    record = config.of(imported(how.model))
    first = {
        option: _entry(os.path.join(folder, option), f"{title}.{option}", before, shared, limit, settings)
        for option, before in how.first.items()
    }
    epochs = {} if limit.epochs is None else {"epochs": limit.epochs}
    files = {option: os.path.abspath(before.path) for option, before in first.items()}
    said = settings.of(title, record, first)
    values = config.merge({**how.options, **epochs, **shared}, said, imported(how.model).phases)
    options = config.from_values({**values, **files, "model": how.model}, title)
    settings.taken(title, options, limit, first)
    shares = {option: share for option, share in how.shares.items() if option not in said}
    return Entry(title, folder, config.with_absolute_data(options), first, shares)


# --- training ---------------------------------------------------------------------------------------------------------


def train(entry: Entry, limit: Limit, source: Source) -> None:
    """Trains a model, and those that it needs before, to the limit, or goes on where it was stopped."""
    for part in entry.parts:
        os.makedirs(part.folder, exist_ok=True)
        runs.write_config(part.folder, config.to_toml(part.options))
        trainer = _trainer(part, limit, source)
        try:
            _fit(part, trainer, limit, source)
        except (KeyboardInterrupt, Terminated):
            said = f"stopped in step {trainer.steps} of {part.title}; the same command goes on"
            print(said, file=sys.stderr)
            raise
        if len(trainer.history):
            trainer.history.to_csv(os.path.join(part.folder, runs.HISTORIES[CHECKPOINT]))


def check_same(part: Entry) -> None:
    """ValueError where the folder has a run of other options."""
    path = os.path.join(part.folder, CONFIG)
    if not os.path.exists(path):
        return
    there = config.read(path)
    if type(there) is type(part.options):
        keys = [name for name in config.keys(there) if name not in part.first]  # those say where the folder was
        names = [name for name in keys if getattr(there, name) != getattr(part.options, name)]
    else:
        names = ["model"]
    if names:
        came, were = (", ".join(f"{n} = {getattr(o, n)!r}" for n in names) for o in (part.options, there))
        raise ValueError(f"{part.folder}: expected {came} as is asked for now, got a run of {were}; give another OUT")


def _trainer(part: Entry, limit: Limit, source: Source) -> Trainer:
    if os.path.exists(part.path):
        return Trainer.resume(part.path)
    trainer = new_trainer(part, source)
    if limit.minutes is not None:
        trainer.schedule = Constant()  # where it would end is not known
    elif limit.steps is not None and isinstance(trainer.schedule, Cosine):
        trainer.schedule = replace(trainer.schedule, steps=limit.steps)
    return trainer


def check_parts(entry: Entry, source: Source) -> Model:
    """Makes the models of an entry, each of untrained ones that are to be trained before it; gives the last.

    Raises:
        ValueError, TypeError: options that do not go together, or data that do not fit a model.
    """
    first = {option: check_parts(before, source) for option, before in entry.first.items()}
    for untrained in first.values():
        untrained.forget()  # what it would learn of the data is not needed here, and then it may go into another model
    return new_trainer(entry, source, first).model


def new_trainer(part: Entry, source: Source, first: Mapping[str, Model] = NOTHING) -> Trainer:
    """A trainer at the beginning, after a look at the data.

    Args:
        part: what is to be trained.
        source: its data.
        first: models instead of those in the files that the options name.

    Raises:
        ValueError, TypeError: options that do not go together, or data that do not fit the model.
    """
    try:
        return runs.new_trainer(part.options, runs.Part(CHECKPOINT, part.options.epochs, first), source)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part.title}: {error}") from None


def _fit(part: Entry, trainer: Trainer, limit: Limit, source: Source) -> None:
    """Trains to the end, which is one of epochs, of steps or of time."""
    most = math.inf if limit.minutes is None else 60 * limit.minutes
    clock = Clock(part.folder, most)
    fits: list[tuple[int, list[Callback]]] = []
    if limit.minutes is not None:
        fits = [(ENDLESS, [])] if clock.read(trainer.steps) < most else []
    elif limit.steps is not None:
        whole, rest = divmod(limit.steps, -(-len(source.train) // trainer.batch_size))
        fits = [(whole, []), (whole + 1, [StopAfter(limit.steps)])] if rest else [(whole, [])]
        fits = [fit for fit in fits if fit[0] > trainer.epoch and trainer.steps < limit.steps]
    elif trainer.epoch < part.options.epochs:
        fits = [(part.options.epochs, [])]
    y = source.train_labels if LABEL in trainer.model.columns() else None
    if fits:
        print(f"training {part.title}, seed {part.seed}", file=sys.stderr)
    for epochs, stops in fits:
        trainer.fit(
            source.train, epochs, y=y, callbacks=[clock, *stops], checkpoint=part.path,
            checkpoint_interval=runs.SAVE_EVERY,
        )  # fmt: skip
