"""The configuration of a run of the command line: a typed record, read from and written to TOML.

`RunConfig` is the one list of keys: the TOML file, the flags of `aaecore train` and the defaults all come from it.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from . import data, datasets, priors, schedules
from ._cores import MAX_THREADS
from .errors import DataError

PHASES = ("reconstruction", "discriminator", "generator")
# The discriminator learns easily: with equal rates it wins, and the codes never reach the prior. A short memory of the
# adversarial gradients (`adversarial_beta1`) keeps the two from circling around each other.
RATES = {"reconstruction": 1e-3, "discriminator": 2e-4, "generator": 3e-4}
FLOOR = 0.05  # the factor at which a cosine schedule ends


class Kind(NamedTuple):
    """What a key may hold: `accepts` judges a TOML value, `expected` says which ones."""

    expected: str
    accepts: Callable[[Any], bool]
    metavar: str
    quoted: bool = False  # a flag's text is the value
    brackets: str = ""  # put around a flag's text to make it TOML


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_of_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_integer(1), value))


def _rates(value: Any) -> bool:
    table = isinstance(value, dict) and set(value) <= set(PHASES) and all(map(_number, value.values()))
    return table or _number(value)


TEXT = Kind("a string", lambda v: isinstance(v, str) and v != "", "TEXT", quoted=True)
SWITCH = Kind("true or false", lambda v: isinstance(v, bool), "")
COUNT = Kind("an integer >= 1", _integer(1), "N")
SEED = Kind("an integer >= 0", _integer(0), "N")
COUNTS = Kind("a list of integers >= 1", _list_of_counts, "N,N", brackets="[]")
THREADS = Kind(f"an integer from 1 to {MAX_THREADS}", lambda v: _integer(1)(v) and v <= MAX_THREADS, "N")
DECAY = Kind("a number in [0, 1)", lambda v: _number(v) and 0 <= v < 1, "X")
RATE = Kind(f"a number, or numbers by phase ({', '.join(PHASES)})", _rates, "X", brackets="{}")


def _key(kind: Kind, help: str, default: Any = None) -> Any:
    return field(default_factory=lambda: copy(default), metadata={"kind": kind, "help": help})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `aaecore train` does. Keys that are None are absent from a file."""

    data: str = _key(TEXT, "mnist-sample, mnist, fashion-mnist, or a .h5, .npy or IDX file", "mnist-sample")
    dataset: str = _key(TEXT, "name of the dataset inside a .h5 file", "x")
    image_shape: tuple[int, ...] | None = _key(COUNTS, "height and width of the images in a file; known for named sets")
    latent_dim: int = _key(COUNT, "features of the code", 8)
    hidden: tuple[int, ...] = _key(COUNTS, "features of the hidden layers", (1000, 1000))
    posterior: str = _key(TEXT, "deterministic, gaussian or universal", "deterministic")
    prior: str = _key(
        TEXT,
        "normal[:STD[:MEAN]], uniform[:LOW:HIGH], ring[:COMPONENTS], swissroll, hypersphere[:RADIUS] or categorical",
        "normal:2",
    )
    reconstruction: str = _key(TEXT, "bce (data in [0, 1]) or mse", "bce")
    output: str = _key(TEXT, "of the decoder: sigmoid or linear", "sigmoid")
    precision: str = _key(TEXT, "of the matrix products: fp32, bf16, or tf32 on a GPU", "fp32")
    epochs: int = _key(COUNT, "passes over the training data", 18)
    batch_size: int = _key(COUNT, "rows of a mini-batch", 100)
    lr: dict[str, float] = _key(RATE, "learning rate, or one per phase: generator=5e-4,discriminator=2e-4", RATES)  # noqa: RUF009
    adversarial_beta1: float = _key(DECAY, "decay of Adam's first moment in the adversarial phases", 0.5)
    schedule: str = _key(TEXT, "constant, cosine[:FLOOR], or step:EPOCH[:EPOCH...], a tenth from each on", "cosine")
    seed: int = _key(SEED, "of weights, noise and the order of the data", 0)
    device: str = _key(TEXT, "cpu, cuda or cuda:<number> for a GPU, or reference for float64 NumPy", "cpu")
    threads: int | None = _key(THREADS, "of the CPU kernels; all cores by default")
    plots: bool = _key(SWITCH, "draw pictures at the end", True)
    two_dimensional: bool = _key(SWITCH, "for images, also train a model with a 2-D code to draw its manifold", True)
    two_dimensional_epochs: int = _key(COUNT, "passes over the data for that model", 11)
    two_dimensional_prior: str = _key(TEXT, "of that model", "normal:3")


KEYS = {f.name: f for f in fields(RunConfig)}


def from_values(values: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """A configuration from TOML values, the defaults for keys that are absent.

    Raises:
        ValueError: an unknown key, or a value of another type; `where` begins the message.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in KEYS:
            raise ValueError(f"{where}: unknown option {name!r}; expected one of {', '.join(KEYS)}")
        kind = KEYS[name].metadata["kind"]
        if not kind.accepts(value):
            raise ValueError(f"{where}: {name}: expected {kind.expected}, got {value!r}")
        if name == "lr":
            value = {phase: float(rate) for phase, rate in {**RATES, **_by_phase(value)}.items()}
        checked[name] = tuple(value) if isinstance(value, list) else float(value) if kind is DECAY else value
    return RunConfig(**checked)


def _by_phase(rates: Any) -> dict[str, Any]:
    return rates if isinstance(rates, dict) else dict.fromkeys(PHASES, rates)


def merge(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a file, replaced by those of the flags; of learning rates only the phases that are given."""
    merged = {**values, **flags}
    if "lr" in values and isinstance(flags.get("lr"), dict):
        merged["lr"] = {**_by_phase(values["lr"]), **flags["lr"]}
    return merged


def with_absolute_data(config: RunConfig) -> RunConfig:
    """The same configuration, independent of the current folder."""
    return config if config.data in datasets.NAMES else replace(config, data=os.path.abspath(config.data))


def read_values(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values in a TOML file, not yet checked.

    Raises:
        ValueError: the file is not TOML. OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except ValueError as error:  # also of bytes that are not UTF-8
        raise ValueError(f"{os.fspath(path)}: not a TOML file: {error}") from None


def read(path: str | os.PathLike[str]) -> RunConfig:
    """The configuration in a TOML file.

    Raises:
        ValueError: not TOML, an unknown key, or a value of another type. OSError: the file cannot be read.
    """
    return from_values(read_values(path), os.fspath(path))


def flag_value(name: str, text: str) -> Any:
    """The TOML value that a flag's text stands for: "1000,1000" is the list [1000, 1000].

    Raises:
        ValueError: it stands for none that the key accepts.
    """
    kind = KEYS[name].metadata["kind"]
    forms = [text] if kind.quoted else _toml_values(text, kind.brackets)
    for value in forms:
        if kind.accepts(value):
            return value
    raise ValueError(f"expected {kind.expected}, got {text!r}")


def _toml_values(text: str, brackets: str) -> list[Any]:
    values = []
    for candidate in (text, f"{brackets[:1]}{text}{brackets[1:]}"):
        try:
            table = tomllib.loads(f"value = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
        values += [table["value"]] if len(table) == 1 else []  # more: the text had a line of its own
    return values


def to_toml(config: RunConfig) -> str:
    """The text that `read` makes an equal configuration of; every key with what it means."""
    lines, tables = [], []
    for name, key in KEYS.items():
        value, note = getattr(config, name), key.metadata["help"]
        if isinstance(value, dict):
            tables += ["", f"[{name}]  # {note}", *(f"{k} = {_toml(v)}" for k, v in value.items())]
        elif value is not None:
            lines.append(f"{name} = {_toml(value)}  # {note}")
    return "\n".join([*lines, *tables]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(c) for c in value) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def _escaped(c: str) -> str:
    return f"\\{c}" if c in '"\\' else f"\\u{ord(c):04x}" if ord(c) < 0x20 or c == "\x7f" else c


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


# --- what the strings stand for ---------------------------------------------------------------------------------------

PRIORS: dict[str, tuple[Callable[..., priors.Prior], int]] = {  # name -> what makes it, and of how many numbers at most
    "normal": (priors.Normal, 2),
    "uniform": (priors.Uniform, 2),
    "ring": (lambda components=10: priors.GaussianMixture.ring(_whole(components)), 1),
    "swissroll": (priors.SwissRoll, 0),
    "hypersphere": (priors.Hypersphere, 1),
    "categorical": (priors.Categorical, 0),
}


def make_prior(text: str, key: str = "prior") -> priors.Prior:
    """The prior that a string such as "normal:5" or "uniform:-1:1" stands for.

    Raises:
        ValueError: none; `key` begins the message.
    """
    name, numbers = _spec(key, text, tuple(PRIORS))
    make, most = PRIORS[name]
    if len(numbers) > most:
        raise ValueError(f"{key}: {name} takes at most {most} numbers, got {text!r}")
    try:
        return make(*numbers)
    except ValueError as error:
        raise ValueError(f"{key}: {text!r}: {error}") from None


def make_schedule(text: str, epochs: int, steps_per_epoch: int) -> schedules.Schedule:
    """The schedule that a string such as "cosine:0.1" stands for, over `epochs` epochs.

    Raises:
        ValueError: none.
    """
    name, numbers = _spec("schedule", text, ("constant", "cosine", "step"))
    try:
        if name == "step" and numbers:
            return schedules.StepWise([_whole(epoch) * steps_per_epoch for epoch in numbers])
        if name == "cosine" and len(numbers) <= 1:
            return schedules.Cosine(epochs * steps_per_epoch, *(numbers or [FLOOR]))
    except ValueError as error:
        raise ValueError(f"schedule: {text!r}: {error}") from None
    if name == "constant" and not numbers:
        return schedules.Constant()
    raise ValueError(f"schedule: expected {KEYS['schedule'].metadata['help']}, got {text!r}")


def _spec(key: str, text: str, names: tuple[str, ...]) -> tuple[str, list[float]]:
    name, *numbers = text.split(":")
    if name not in names:
        raise ValueError(f"{key}: expected one of {', '.join(names)}, got {name!r}")
    try:
        return name, [float(n) for n in numbers]
    except ValueError:
        raise ValueError(f"{key}: expected numbers after {name}:, got {text!r}") from None


def _whole(value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"expected a whole number, got {value:g}")
    return int(value)


# --- data ------------------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """What a run trains on: rows (N, features), the labels of the test rows and the shape of an image where known."""

    train: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray | None
    image_shape: tuple[int, ...] | None


def load_data(config: RunConfig) -> Source:
    """The data of a run; of a file a tenth of the rows, drawn with the run's seed, is kept for testing.

    Raises:
        ValueError, TypeError, DataError: there is no such data, or it cannot be used.
    """
    if config.data in datasets.NAMES:
        named = _load_named(config.data)
        return Source(named.train.x, named.test.x, named.test.y, named.image_shape)
    rows = load_array(config.data, config.dataset)
    shape = config.image_shape or (rows.shape[1:] if is_image(rows.shape[1:]) else None)
    x = data.as_matrix(as_rows(rows), "data")
    if len(x) < 2:
        raise ValueError(f"data: expected at least 2 rows, got {len(x)}")
    if shape is not None:
        check_image_shape(shape, x.shape[1])
    order = data.epoch_order(len(x), config.seed, 0)
    kept = max(1, len(x) // 10)
    return Source(x[np.sort(order[kept:])], x[np.sort(order[:kept])], None, shape)


def _load_named(name: str) -> datasets.Dataset:
    try:
        return datasets.load(name, dtype="uint8")
    except DataError as error:  # a configuration has no folder=
        raise DataError(str(error).replace("give folder=... or set", "set")) from None


def load_array(path: str, dataset: str) -> np.ndarray:
    """The array in a .npy, .h5 or IDX file.

    Raises:
        ValueError: another kind of file. DataError: it cannot be read.
    """
    name = os.path.basename(path).lower()
    if name.endswith((".h5", ".hdf5")):
        return data.load_hdf5(path, dataset)
    if name.endswith(".npy"):
        with data.reading(path, "NumPy file") as file:
            with open(file, "rb") as stream:  # np.load would also take a .npz
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    if name.endswith(("ubyte", "ubyte.gz")):
        return data.read_idx(path)
    known = f"one of {', '.join(datasets.NAMES)}, or a file .h5, .npy or ...-ubyte[.gz]"
    raise ValueError(f"data: expected {known}, got {path!r}")


def as_rows(rows: np.ndarray) -> np.ndarray:
    """(N, ...) images as rows (N, features)."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])) if rows.ndim > 2 else rows


def is_image(shape: Sequence[int]) -> bool:
    """Whether the shape is (height, width), (height, width, 1) or (height, width, 3)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def check_image_shape(shape: Sequence[int], features: int) -> None:
    """Raises ValueError unless rows of so many features can be seen as images of the shape."""
    if not is_image(shape) or math.prod(shape) != features:
        raise ValueError(f"image_shape: expected height, width (and 1 or 3) of {features} values, got {tuple(shape)}")
