"""The configuration of a run of the command line: a typed record, read from and written to TOML.

`RunConfig` is the one list of keys: the TOML file, the flags of `aaecore train` and the defaults all come from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from .. import datasets
from ..backends.cores import MAX_THREADS
from . import spelling, toml

PHASES = ("reconstruction", "discriminator", "generator")
# The discriminator learns easily: with equal rates it wins, and the codes never reach the prior. A short memory of the
# adversarial gradients (`adversarial_beta1`) keeps the two from circling around each other.
RATES = {"reconstruction": 1e-3, "discriminator": 2e-4, "generator": 3e-4}


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
        spelling.PRIOR,
        "normal:2",
    )
    reconstruction: str = _key(TEXT, "bce (data in [0, 1]) or mse", "bce")
    output: str = _key(TEXT, "of the decoder: sigmoid or linear", "sigmoid")
    precision: str = _key(TEXT, "of the matrix products: fp32, bf16, or tf32 on a GPU", "fp32")
    epochs: int = _key(COUNT, "passes over the training data", 18)
    batch_size: int = _key(COUNT, "rows of a mini-batch", 100)
    lr: dict[str, float] = _key(RATE, "learning rate, or one per phase: generator=5e-4,discriminator=2e-4", RATES)  # noqa: RUF009
    adversarial_beta1: float = _key(DECAY, "decay of Adam's first moment in the adversarial phases", 0.5)
    schedule: str = _key(TEXT, spelling.SCHEDULE, "cosine")
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


def read(path: str | os.PathLike[str]) -> RunConfig:
    """The configuration in a TOML file.

    Raises:
        ValueError: not TOML, an unknown key, or a value of another type. OSError: the file cannot be read.
    """
    return from_values(toml.read(path), os.fspath(path))


def flag_value(name: str, text: str) -> Any:
    """The TOML value that a flag's text stands for: "1000,1000" is the list [1000, 1000].

    Raises:
        ValueError: it stands for none that the key accepts.
    """
    kind = KEYS[name].metadata["kind"]
    forms = [text] if kind.quoted else toml.values(text, kind.brackets)
    for value in forms:
        if kind.accepts(value):
            return value
    raise ValueError(f"expected {kind.expected}, got {text!r}")


def to_toml(config: RunConfig) -> str:
    """The text that `read` makes an equal configuration of; every key with what it means."""
    lines, tables = [], []
    for name, key in KEYS.items():
        value, note = getattr(config, name), key.metadata["help"]
        if isinstance(value, dict):
            tables += ["", f"[{name}]  # {note}", *(f"{k} = {toml.text(v)}" for k, v in value.items())]
        elif value is not None:
            lines.append(f"{name} = {toml.text(value)}  # {note}")
    return "\n".join([*lines, *tables]) + "\n"
