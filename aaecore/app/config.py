"""The configuration of a run of the command line: a typed record, read from and written to TOML.

`RunConfig` has the keys of every run, and `of(model)` those of the model's options besides: the TOML file, the flags of
`aaecore train` and the defaults all come from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, make_dataclass, replace
from functools import cache
from typing import Any, ClassVar

from .. import datasets
from ..backends.cores import MAX_THREADS
from ..data.table import LABEL
from ..files import labels
from ..models import DEFAULT
from ..models.autoencoder import Autoencoder
from ..models.frozen import AUTOENCODER
from ..models.model import Model
from ..models.phase import Phase
from ..models.registry import named
from ..options import COUNT, COUNTS, SWITCH, TEXT, Kind, declared, integer, one_of, option, unused
from ..options import number as numbers
from ..training.recipe import GAME_BETA1, rates_of
from . import spelling, toml


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `aaecore train` does. Keys that are None are absent from a file."""

    trains: ClassVar[type[Model]]

    data: str = option(
        TEXT, f"{', '.join(datasets.NAMES)}, or a .h5, .npy, .npz, .csv or IDX file", default=datasets.SAMPLE
    )
    data_folder: str | None = option(
        TEXT, "where the files of named data are; the variable AAECORE_DATA by default", default=None
    )
    dataset: str = option(TEXT, "name of the dataset inside a .h5 file", default="x")
    labels: str | None = option(
        TEXT, "of a file: a dataset in the .h5, a column of the .csv, or another file .npy, .csv or IDX", default=None
    )
    labelled_rows: int | None = option(
        COUNT, "how many rows keep their label, spread over the classes by seed; all by default", default=None
    )
    validation_rows: int | None = option(
        COUNT, "how many training rows to keep out of training, for choices such as when to stop, or the sigma of a "
        "likelihood; none by default", default=None,
    )  # fmt: skip
    image_shape: tuple[int, ...] | None = option(
        COUNTS, "height and width of the images in a file; known for named sets", default=None
    )
    model: str = option(TEXT, "what to train, or module:Class of your own", default=DEFAULT.__name__)
    epochs: int = option(COUNT, "passes over the training data", default=18)
    batch_size: int = option(COUNT, "rows of a mini-batch", default=100)
    labelled_batch_size: int = option(COUNT, "rows with a label that a step takes besides, if it does", default=100)
    lr: dict[str, float] = field(default_factory=dict)
    optimizer: str = option(one_of("adam", "sgd"), "adam or sgd", default="adam")
    momentum: dict[str, float] | None = None
    adversarial_beta1: float = option(
        numbers(0.0, 1.0), "decay of Adam's first moment in the adversarial phases", default=GAME_BETA1
    )
    schedule: str = option(TEXT, spelling.SCHEDULE, default="constant")
    clip_norm: float | None = option(
        numbers(0.0, open_low=True), "upper bound of the norm of each phase's gradients; none by default", default=None
    )
    patience: int | None = option(
        COUNT, "end after so many epochs without a better loss on held-out rows, and keep the best model", default=None
    )
    threads: int | None = option(integer(1, MAX_THREADS), "of the CPU kernels; all cores by default", default=None)
    plots: bool = option(SWITCH, "draw pictures at the end", default=True)
    two_dimensional: bool = option(
        SWITCH, "for images, also train a model with a 2-D code to draw its manifold", default=False
    )
    two_dimensional_epochs: int = option(COUNT, "passes over the data for that model", default=11)
    two_dimensional_prior: str = option(TEXT, "of that model", default="normal:1")

    def of_model(self) -> dict[str, Any]:
        """The options of the model by name, as in a file."""
        return {name: getattr(self, name) for name in _in_files(self.trains)}


# Names that `train` has for all models.
RESERVED = {*dir(RunConfig), *declared(RunConfig), "lr", "momentum", "trains", "help", "toml", "folder", "overwrite"}


@cache
def of(model: type[Model]) -> type[RunConfig]:
    """The record for runs that train a model.

    Raises:
        ValueError: an option of the model without a value to begin with, or with the name of one of all runs.
    """
    rates = {phase.name: phase.rate for phase in model.phases}
    names = ",".join(f"{name}={rate:g}" for name, rate in list(rates.items())[-2:])
    lr = {
        "kind": _rates(model.phases),
        "help": f"learning rate of the first phase, which scales the others, or one per phase: {names}",
        "run": rates,
    }
    own: list[Any] = [
        ("lr", dict[str, float], field(default_factory=rates.copy, metadata=lr)),
        ("momentum", Any, option(_momenta(model.phases), "of sgd, or one per phase; 0.9, in a game 0.1", default=None)),
    ]
    for name, key in _in_files(model).items():
        is_prior, default = key.metadata["kind"] in spelling.PRIORS, key.metadata["run"]
        kind, help = key.metadata["kind"], key.metadata["help"]
        if is_prior:
            kind, help = TEXT, spelling.PRIORS[kind]
        if is_prior and default is not MISSING and not isinstance(default, str):
            default = None  # the model's own, which has no spelling
        if kind is AUTOENCODER:
            kind = Kind(TEXT.expected, TEXT.check, kind.metavar, quoted=True)  # where its file is
        if default is MISSING:
            raise ValueError(f"{model.__name__}.{name}: expected a default, run= or of_data=True for the command line")
        if name in RESERVED:
            raise ValueError(
                f"{model.__name__}.{name}: expected another name, which the command line does not use itself"
            )
        own.append((name, Any, option(kind, help, default=default)))
    namespace = {"trains": model}
    made = make_dataclass("RunConfig", own, bases=(RunConfig,), namespace=namespace, frozen=True, kw_only=True)
    return made


def _in_files(model: type[Model]) -> dict[str, Field[Any]]:
    """The options of a model that files and flags have: the data tell the others."""
    own = sorted(declared(model).items(), key=lambda item: item[0] in declared(Model))  # before those of all models
    return {name: key for name, key in own if not key.metadata["of_data"]}


def _rates(phases: tuple[Phase, ...]) -> Kind:
    return _by_phase(phases, numbers(0.0), lambda rate: rates_of(phases, rate))


def _momenta(phases: tuple[Phase, ...]) -> Kind:
    return _by_phase(phases, numbers(0.0, 1.0), lambda momentum: {phase.name: momentum for phase in phases})


def _by_phase(phases: tuple[Phase, ...], one: Kind, of_all: Callable[[float], dict[str, float]]) -> Kind:
    """Numbers by phase; a number alone stands for those that `of_all` gives."""
    names = [phase.name for phase in phases]

    def check(name: str, value: Any) -> dict[str, float]:
        if not isinstance(value, dict):
            return of_all(one.check(name, value))
        if unknown := sorted(set(value) - set(names)):
            raise ValueError(f"{name}: expected phases among {', '.join(names)}, got {', '.join(unknown)}")
        return {phase: one.check(name, each) for phase, each in value.items()}

    return Kind(f"{one.expected}, or such numbers by phase ({', '.join(names)})", check, "X", brackets="{}")


def keys(config: type[RunConfig] | RunConfig) -> dict[str, Field[Any]]:
    """The keys of a configuration by name, in the order of a file."""
    found = declared(config)
    data = ("data", "dataset", "data_folder", "image_shape", "labels", "labelled_rows", "validation_rows", "model")
    first = [*data, *_in_files(config.trains)]
    return {name: found[name] for name in [*first, *(n for n in found if n not in first)]}


def from_values(values: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """A configuration from TOML values, the defaults for keys that are absent.

    Raises:
        ValueError: an unknown key, or a value of another type; `where` begins the message.
    """
    name = values.get("model", DEFAULT.__name__)
    if not TEXT.accepts(name):
        raise ValueError(f"{where}: model: expected {TEXT.expected}, got {name!r}")
    try:
        config = of(named(name.rpartition(":")[2]))  # whoever wants a module imported has done it
    except ValueError as error:
        hint = f"; a file imports nothing by itself: give --model {name}" if ":" in name else ""
        raise ValueError(f"{where}: {error}{hint}") from None
    known, checked = keys(config), dict[str, Any]()
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where}: unknown option {name!r}; expected one of {', '.join(known)}")
        kind = known[name].metadata["kind"]
        if not kind.accepts(value):
            raise ValueError(f"{where}: {name}: expected {kind.expected}, got {value!r}")
        checked[name] = kind.check(name, value)
    if "lr" in checked:
        checked["lr"] = {**known["lr"].metadata["run"], **checked["lr"]}
    return config(**checked)


def merge(values: Mapping[str, Any], flags: Mapping[str, Any], phases: tuple[Phase, ...]) -> dict[str, Any]:
    """The values of a file, replaced by those of the flags; of learning rates only the phases that are given.

    A number as a flag is the first phase's rate, as everywhere, and scales the others that the file has by phase.
    """
    merged, rates, kind = {**values, **flags}, values.get("lr"), _rates(phases)
    if "lr" not in values or "lr" not in flags:
        return merged
    if not kind.accepts(rates):
        merged["lr"] = rates  # `from_values` says what is wrong with it
    elif isinstance(flags["lr"], dict):
        merged["lr"] = {**kind.check("lr", rates), **flags["lr"]}
    elif isinstance(rates, dict):
        in_file = rates_of(phases, rates)
        merged["lr"] = rates_of([replace(phase, rate=in_file[phase.name]) for phase in phases], flags["lr"])
    return merged


def check_used(config: RunConfig, flags: Collection[str]) -> None:
    """ValueError for a flag, by the name of its key, that changes nothing in such a run. A file may have every key."""
    model, file = config.trains, config.data not in datasets.NAMES
    games, labelled = any(p.game for p in model.phases), any(s.labelled for s in model.streams.values())
    learns = any(LABEL in s.columns for s in model.streams.values())
    sgd = config.optimizer == "sgd"
    second = (config.two_dimensional, "--two-dimensional besides, got none")
    coded = issubclass(model, Autoencoder)
    needs = {
        "two_dimensional": (coded or not config.two_dimensional, f"an autoencoder, got {config.model}"),
        "two_dimensional_epochs": second,
        "two_dimensional_prior": second,
        "momentum": (sgd, "--optimizer sgd besides, got adam"),
        "adversarial_beta1": (
            games and not sgd,
            "--optimizer adam, got sgd" if games else f"a model with a game, got {config.model}",
        ),
        "labelled_batch_size": (labelled, f"a model that takes labelled rows besides, got {config.model}"),
        "image_shape": (file and not is_npz(config.data), f"data of a file without a shape, got {config.data}"),
        "labels": (file and learns, f"data of a file and a model that takes labels, got {config.data}, {config.model}"),
        "labelled_rows": (learns, f"a model that takes labels, got {config.model}"),
        "dataset": (file and is_hdf5(config.data), f"data of a .h5 file, got {config.data}"),
        "data_folder": (not file and config.data != datasets.SAMPLE, f"data that have files, got {config.data}"),
    }
    needs |= {name: (False, wanted) for name, wanted in _idle(config).items()}
    for name, (used, wanted) in needs.items():
        if name in flags and not used:
            raise ValueError(f"--{name.replace('_', '-')}: expected {wanted}")


def _idle(config: RunConfig) -> dict[str, str]:
    """The flags of a model's options that others leave without a use, and what they would need."""
    found, values = {}, config.of_model()
    for name, (other, needed) in unused(declared(config.trains), values).items():
        *most, last = (_as_flag(other, value) for value in needed)
        wanted = f"{', '.join(most)} or {last}" if most else last
        came = values[other]
        found[name] = f"{wanted} besides, got {_as_flag(other, came) if isinstance(came, bool) else came}"
    if "labels" in found:  # those of the run may still say what is no feature of a row
        found |= dict.fromkeys(("labelled_rows", "labelled_batch_size"), found.pop("labels"))
    return found


def _as_flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    return f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"


def is_hdf5(path: str) -> bool:
    """Whether the file has datasets with names, by its own name."""
    return path.lower().endswith((".h5", ".hdf5"))


def is_npz(path: str) -> bool:
    """Whether the file has images and their labels in arrays with names, by its own name."""
    return path.lower().endswith(".npz")


def with_absolute_data(config: RunConfig) -> RunConfig:
    """The same configuration, independent of the current folder and of the environment.

    Raises:
        ValueError: a file name that a TOML file cannot hold.
    """
    for name, key in _in_files(config.trains).items():
        if key.metadata["kind"] is AUTOENCODER and getattr(config, name) is not None:
            absolute: dict[str, Any] = {name: _kept(name, getattr(config, name))}
            config = replace(config, **absolute)
    if config.labels is not None and labels.is_alone(config.labels):
        config = replace(config, labels=_kept("labels", config.labels))
    if config.data not in datasets.NAMES:
        return replace(config, data=_kept("data", config.data))
    folder = config.data_folder or os.environ.get(datasets.DATA_VARIABLE)
    if config.data == datasets.SAMPLE or not folder:
        return config
    return replace(config, data_folder=_kept("data_folder", folder))


def _kept(name: str, path: str) -> str:
    try:
        return toml.of_path(os.path.abspath(path))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def read(path: str | os.PathLike[str]) -> RunConfig:
    """The configuration in a TOML file.

    Raises:
        ValueError: not TOML, an unknown key, or a value of another type. OSError: the file cannot be read.
    """
    return from_values(toml.read(path), os.fspath(path))


def flag_value(key: Field[Any], text: str) -> Any:
    """The TOML value that a flag's text stands for: "1000,1000" is the list [1000, 1000].

    Raises:
        ValueError: it stands for none that the key accepts.
    """
    kind = key.metadata["kind"]
    forms = [text] if kind.quoted else toml.values(text, kind.brackets) if text.strip() else []
    for value in forms:
        if kind.accepts(value):
            return value
    raise ValueError(f"expected {kind.expected}, got {text!r}")


def to_toml(config: RunConfig) -> str:
    """The text that `read` makes an equal configuration of; every key with what it means."""
    lines, tables = [], []
    for name, key in keys(config).items():
        value, note = getattr(config, name), key.metadata["help"]
        if isinstance(value, dict):
            tables += ["", f"[{name}]  # {note}", *(f"{k} = {toml.text(v)}" for k, v in value.items())]
        elif value is not None:
            lines.append(f"{name} = {toml.text(value)}  # {note}")
    return "\n".join([*lines, *tables]) + "\n"
