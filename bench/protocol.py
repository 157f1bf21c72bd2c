"""What the driver and the peers agree on: the optimizer, the data, how a measurement is asked for, a step's state."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from sizes import Size

Arrays = list[np.ndarray]
BATCHES = 8  # different ones, in turn, so that x is not always in the cache
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8  # of Adam in all three phases, the defaults of every library here
PHASES = {"reconstruction": ("encoder", "decoder"), "discriminator": ("discriminator",), "generator": ("encoder",)}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "AAECORE_NUM_THREADS")


class Unavailable(Exception):
    """This variant or precision does not exist here; the message says why."""


class Request(NamedTuple):
    """How a serving process is asked for a measurement."""

    seconds: float = 0.3
    warmup: float = 0.15  # threads, caches and clock after a pause
    calls: int = 3  # at the least, after the warm-up
    probe: float = 0.0  # seconds of the peer's own probe of the machine, before and after


Moments = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]  # of Adam, by phase and name


class State(NamedTuple):
    """Where a single step starts: weights (out, in) and biases by aaecore's names, moments and step counts by phase."""

    inputs: dict[str, np.ndarray]  # rows, and what is drawn: x and z, or more of other models
    weights: dict[str, np.ndarray]
    moments: Moments
    steps: dict[str, int]


class Stepped(NamedTuple):
    """What a single step made."""

    weights: Mapping[str, np.ndarray]
    losses: list[float]  # of the phases, in their order
    moments: Moments = {}  # noqa: RUF012 (never changed); where a peer gives them


def batches(size: Size, count: int = BATCHES, seed: int = 0) -> Arrays:
    """`count` different (batch, inputs) float32 arrays in [0, 1)."""
    rng = np.random.default_rng(seed)
    return [rng.random((size.batch, size.inputs), np.float32) for _ in range(count)]


def read_state(path: Path) -> State:
    """What `write_state` wrote."""
    arrays = _read(path)
    steps = {phase: int(n) for phase, n in _below("steps", arrays).items()}
    return State(_below("input", arrays), _below("weight", arrays), _moments(arrays), steps)


def idle(names: Iterable[str]) -> set[str]:
    """Biases before batch norm. They change nothing, so their gradients, which Adam makes steps of, are rounding."""
    return {name.replace(".norm.gamma", ".bias") for name in names if name.endswith(".norm.gamma")}


def unfold(inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """(the rows of a state by name, what is drawn: "code/noise" as ["code"]["noise"])."""
    rows, drawn = {}, {}
    for name, array in inputs.items():
        if "/" in name:
            where, what = name.split("/")
            drawn.setdefault(where, {})[what] = array
        else:
            rows[name] = array
    return rows, drawn


def write_state(path: Path, state: State) -> None:
    steps = {f"steps/{p}": np.array(n) for p, n in state.steps.items()}
    inputs = {f"input/{n}": a for n, a in state.inputs.items()}
    np.savez(path, **inputs, **_named(state.weights, state.moments), **steps)


def read_stepped(path: Path) -> Stepped:
    """What `write_stepped` wrote."""
    arrays = _read(path)
    return Stepped(_below("weight", arrays), [float(v) for v in arrays["losses"]], _moments(arrays))


def write_stepped(path: Path, made: Stepped) -> None:
    np.savez(path, losses=np.array(made.losses), **_named(made.weights, made.moments))


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _named(weights: Mapping[str, np.ndarray], moments: Moments) -> dict[str, np.ndarray]:
    """`weight/<name>`, and `m/<phase>/<name>` and `v/<phase>/<name>`."""
    tables = {
        f"{k}/{p}/{n}": a for p, t in moments.items() for n, both in t.items() for k, a in zip("mv", both, strict=True)
    }
    return {f"weight/{name}": value for name, value in weights.items()} | tables


def _below(kind: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.split("/", 1)[1]: a for name, a in arrays.items() if name.startswith(f"{kind}/")}


def _moments(arrays: Mapping[str, np.ndarray]) -> Moments:
    made: Moments = {}
    for place, first in _below("m", arrays).items():
        phase, name = place.split("/", 1)
        made.setdefault(phase, {})[name] = (first, arrays[f"v/{place}"])
    return made


def own_output() -> TextIO:
    """Standard output, for answers alone: what libraries print there, C's too, goes to standard error from now on."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # children do not have it
    os.dup2(2, 1)
    return answers


def layer_names(network: str) -> list[tuple[str, str]]:
    """(weight, bias) of the three layers of a network."""
    return [(f"{network}.{i}.weight", f"{network}.{i}.bias") for i in range(3)]
