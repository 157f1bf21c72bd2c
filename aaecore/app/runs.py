"""A run: a folder with config.toml, one checkpoint and one history per model, and pictures; with patience also the
model of the best epoch.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

from ..data.labels import is_labelled
from ..data.table import LABEL, as_table
from ..errors import CheckpointError
from ..files import atomic, checkpoint, labels
from ..models.autoencoder import Autoencoder
from ..models.frozen import AUTOENCODER
from ..models.model import Model
from ..models.registry import imported
from ..options import declared
from ..priors import KINDS
from ..training import recipe
from ..training.callbacks import Callback, EarlyStopping, SaveBest
from ..training.trainer import Trainer, load
from . import config, spelling, toml
from .config import RunConfig
from .offers import Coding, Generative
from .sources import HOW, Source

CONFIG = "config.toml"
CHECKPOINT, CHECKPOINT_2D = "checkpoint.h5", "checkpoint_2d.h5"
HISTORIES = {CHECKPOINT: "history.csv", CHECKPOINT_2D: "history_2d.csv"}
BEST = {CHECKPOINT: "best.h5", CHECKPOINT_2D: "best_2d.h5"}  # models of the best epoch, of runs with patience
LIKELIHOODS = {
    CHECKPOINT: "likelihood.json", CHECKPOINT_2D: "likelihood_2d.json",
    BEST[CHECKPOINT]: "likelihood_best.json", BEST[CHECKPOINT_2D]: "likelihood_best_2d.json",
}  # fmt: skip
STATES = {file: name.replace(".json", ".h5") for file, name in LIKELIHOODS.items()}  # of likelihoods that were stopped
SAVE_EVERY = 10.0  # seconds of training between two checkpoints


class Terminated(BaseException):
    """SIGTERM came."""


class Part(NamedTuple):
    """One of the models that a run trains."""

    file: str
    epochs: int
    options: Mapping[str, Any]  # as in a file, where they differ from those of the run, or a model that it takes
    prior_key: str = "prior"  # the key of the file that names its prior

    def title(self, model: Model) -> str:
        """What people call it: by the size of its code, where it has one."""
        return f"{model.latent_dim}-D model" if isinstance(model, Autoencoder) else type(model).__name__


def parts(options: RunConfig, source: Source) -> list[Part]:
    """The models of a run: the one it is about and, of autoencoders of images, one with a code that can be drawn.

    Raises:
        ValueError: options that its model cannot have.
    """
    if options.patience is not None and not _measures(options.trains):
        raise ValueError(f"--patience: expected a model that measures held-out rows, got {options.trains.__name__}")
    found = [Part(CHECKPOINT, options.epochs, {})]
    has_codes = issubclass(options.trains, Autoencoder)
    if not (has_codes and options.two_dimensional and source.image_shape):
        return found
    if options.of_model()["latent_dim"] is None:
        raise ValueError(f"--two-dimensional: expected a model of --latent-dim, got {options.trains.__name__}")
    if options.of_model()["latent_dim"] != 2:
        own = {"latent_dim": 2} | ({"prior": options.two_dimensional_prior} if "prior" in options.of_model() else {})
        found.append(Part(CHECKPOINT_2D, options.two_dimensional_epochs, own, "two_dimensional_prior"))
    return found


def new_trainer(options: RunConfig, part: Part, source: Source) -> Trainer:
    """A trainer at the beginning, after a look at the data."""
    model = new_model(options, part, source)
    _check_data(model, options, source)
    steps = -(-len(source.train) // options.batch_size)
    schedule = spelling.make_schedule(options.schedule, part.epochs, steps)
    rates = {phase.name: options.lr[phase.name] for phase in model.phases}  # options may leave out one of the class
    if options.optimizer == "sgd":
        optimizers = recipe.sgd_makers(model.phases, rates, options.momentum or {})
    else:
        optimizers = recipe.makers(model.phases, rates, options.adversarial_beta1)
    return Trainer(
        model, options.batch_size, rates, labelled_batch_size=options.labelled_batch_size, optimizers=optimizers,
        schedule=schedule, clip_norm=options.clip_norm,
    )  # fmt: skip


def _check_data(model: Model, options: RunConfig, source: Source) -> None:
    """ValueError for data that training would refuse; the model learns what its classes are called."""
    who, columns = type(model).__name__, model.columns()
    label = columns.get(LABEL)
    have_labels = source.train_labels is not None and is_labelled(source.train_labels).any()
    if any(LABEL in stream.columns for stream in model.streams.values()) and not have_labels:
        raise ValueError(f"data: expected labels, since {who} learns from some, got none; {HOW}")
    if label and label.every and options.labelled_rows is not None:
        expected = f"labelled_rows: expected none, since {who} needs a label for every row"
        raise ValueError(f"{expected}, got {options.labelled_rows}")
    if label:
        model.keep_labels(source.labels, first=True)
    watched, *held_out = source.held_out  # the test rows, where no others are
    parts = {"training": (source.train, source.train_labels), "test": (source.test, source.test_labels)}
    for part, (x, y) in {**parts, watched: held_out}.items():
        names = "data", f"labels of {part} rows"
        as_table(model.backend, columns, x, y if label else None, names, who, True, model.as_classes)


def new_model(options: RunConfig, part: Part, source: Source) -> Model:
    """The model of a part, freshly initialised."""
    made = {**options.of_model(), **part.options}
    for name, key in declared(options.trains).items():
        if key.metadata["kind"] in KINDS and made[name] is None:
            del made[name]  # the model has one of its own
        elif key.metadata["kind"] in KINDS:
            made[name] = spelling.make_prior(made[name], part.prior_key if name == "prior" else name)
        if key.metadata["kind"] is AUTOENCODER and isinstance(made[name], str):
            made[name] = load(checkpoint_of(made[name]))
        if key.metadata["of_data"]:
            made[name] = source.tells(name)
        elif key.metadata["told"] and made[name] is None:
            with suppress(ValueError):  # these data do not
                made[name] = source.tells(name)
    return options.trains(**made)


def fit(folder: str, trainer: Trainer, source: Source, part: Part, options: RunConfig) -> float:
    """Trains to the end, with checkpoints; gives the seconds that it took."""
    begun = time.monotonic()
    if is_complete(trainer, part, options):
        return time.monotonic() - begun
    print(f"training the {part.title(trainer.model)} on {len(source.train)} rows of {options.data}", file=sys.stderr)
    history, file = os.path.join(folder, HISTORIES[part.file]), os.path.join(folder, part.file)
    y = source.train_labels if LABEL in trainer.model.columns() else None
    _, *watched = source.held_out
    held_out: Any = watched[0] if y is None else tuple(watched)
    try:
        trainer.fit(
            source.train, part.epochs, y=y, validation=held_out if _measures(type(trainer.model)) else None,
            callbacks=_watching(os.path.join(folder, BEST[part.file]), options.patience),
            checkpoint=file, checkpoint_interval=SAVE_EVERY,
        )  # fmt: skip
    except (KeyboardInterrupt, Terminated):
        print(_farewell(folder, file, trainer.steps), file=sys.stderr)
        raise
    finally:
        if len(trainer.history):
            trainer.history.to_csv(history)
    return time.monotonic() - begun


def _measures(kind: type[Model]) -> bool:
    """Whether a model has numbers of held-out rows."""
    return kind.validate is not Model.validate


def _watching(best: str, patience: int | None) -> list[Callback]:
    return [] if patience is None else [SaveBest(best), EarlyStopping(patience=patience)]


def is_complete(trainer: Trainer, part: Part, options: RunConfig) -> bool:
    """Whether all epochs were made, or so many that patience was at its end."""
    held_out = trainer.history["validation"] if "validation" in trainer.history.columns else []
    waited = len(held_out) - 1 - held_out.index(min(held_out)) if held_out else 0
    return trainer.epoch >= part.epochs or (options.patience is not None and waited >= options.patience)


def _farewell(folder: str, file: str, steps: int) -> str:
    """What was reached and what is kept of it: a second signal ends training without a checkpoint."""
    try:
        saved = checkpoint.peek(file)["position"]["steps"] if os.path.exists(file) else None
    except (CheckpointError, LookupError, TypeError):
        saved = None
    kept = "there is no checkpoint of this model" if saved is None else f"the last checkpoint is of step {saved}"
    said = [f"stopped after step {steps}", *([kept] if saved != steps else [])]
    if os.path.exists(os.path.join(folder, CHECKPOINT)):
        said.append(f"continue with: aaecore resume {folder}")
    return "; ".join(said)


# --- the folder -------------------------------------------------------------------------------------------------------


def new_folder(name: str) -> str:
    """Makes a folder of that name, with a number behind it where another run has the name, and gives its path."""
    folder = name
    for i in count(2):
        try:
            os.makedirs(folder)
        except FileExistsError:
            folder = f"{name}-{i}"
        else:
            break
    return folder


def folder_of(path: str, files: Collection[str] = HISTORIES) -> str:
    """The folder of the run that a folder or one of its files stands for, by default one of its checkpoints.

    Raises:
        ValueError: it stands for none.
    """
    if os.path.isdir(path):
        return path
    if os.path.basename(path) in files and os.path.isfile(path):
        return os.path.dirname(path) or "."
    raise ValueError(f"RUN_OR_CHECKPOINT: expected the folder of a run or its {CHECKPOINT}, got {path!r}")


def checkpoint_of(path: str) -> str:
    """The checkpoint that a folder or a checkpoint stands for."""
    return os.path.join(path, CHECKPOINT) if os.path.isdir(path) else path


def load_model(path: str, device: str | None, own: str | None) -> Any:
    """The model of a run or of a checkpoint; `own` is as of `read_config`."""
    if own is not None:
        imported(own)
    return load(checkpoint_of(path), device=device)


def load_coding(path: str, device: str | None, own: str | None) -> Coding:
    """The model of a run or of a checkpoint, which has to have codes."""
    model = load_model(path, device, own)
    if not isinstance(model, Coding):
        raise ValueError(f"{path}: expected a model that has codes, got one of {type(model).__name__}")
    return model


def load_generative(path: str, device: str | None, own: str | None) -> Generative:
    """The model of a run or of a checkpoint, which has to have samples."""
    model = load_model(path, device, own)
    if not isinstance(model, Generative):
        raise ValueError(f"{path}: expected a model that has samples, got one of {type(model).__name__}")
    return model


def label_column(path: str) -> str | None:
    """The column of a table that had the labels of the run that a folder or a checkpoint stands for, if one had."""
    config = os.path.join(path if os.path.isdir(path) else os.path.dirname(path), CONFIG)
    named = toml.read(config).get("labels") if os.path.exists(config) else None
    return named if isinstance(named, str) and not labels.is_alone(named) else None


def read_config(folder: str, own: str | None = None) -> RunConfig:
    """The configuration of the run in a folder.

    It names a module where the model is a user's, and imports none by itself: `own` is that module:Class, to import.

    Raises:
        ValueError: there is none, or a bad one, or one of another model than `own`.
    """
    wanted = None if own is None else imported(own)
    path = os.path.join(folder, CONFIG)
    if not os.path.exists(path):
        raise ValueError(f"{folder}: expected the folder of a run or a checkpoint in it, but it has no {CONFIG}")
    options = config.read(path)
    if wanted not in (None, options.trains):
        raise ValueError(f"--model: expected the run's, {options.model}, got {own}")
    return options


def write_config(folder: str, text: str) -> None:
    """Writes the configuration of a run into its folder."""
    atomic.write(os.path.join(folder, CONFIG), text.encode())


def check_folder(folder: str) -> None:
    """Raises OSError unless a run can be written there: into the folder, or into one that can be made.

    Where nobody is asked for permission, as on a disk that is mounted for reading only, writing is what finds it out.
    """
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder for the run, and it is a file", place)
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no permission to write the run there", place)
