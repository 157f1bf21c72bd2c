"""What the driver and the peers agree on: the optimizer, the data, how a measurement is asked for, a step's state."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
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


class State(NamedTuple):
    """Where a single step starts: weights (out, in) and biases by aaecore's names, moments and step counts by phase."""

    x: np.ndarray
    z: np.ndarray
    weights: dict[str, np.ndarray]
    moments: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
    steps: dict[str, int]


class Stepped(NamedTuple):
    """What a single step made."""

    weights: Mapping[str, np.ndarray]
    losses: list[float]  # reconstruction, discriminator, generator


def batches(size: Size, count: int = BATCHES, seed: int = 0) -> Arrays:
    """`count` different (batch, inputs) float32 arrays in [0, 1)."""
    rng = np.random.default_rng(seed)
    return [rng.random((size.batch, size.inputs), np.float32) for _ in range(count)]


def read_state(path: Path) -> State:
    """What `write_state` wrote."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    weights = {name.removeprefix("weight/"): a for name, a in arrays.items() if name.startswith("weight/")}
    moments = {
        phase: {
            name: (arrays[f"m/{phase}/{name}"], arrays[f"v/{phase}/{name}"])
            for name in weights
            if name.split(".", 1)[0] in networks
        }
        for phase, networks in PHASES.items()
    }
    return State(arrays["x"], arrays["z"], weights, moments, {p: int(arrays[f"steps/{p}"]) for p in PHASES})


def write_state(path: Path, state: State) -> None:
    """Beside the weights, `m/<phase>/<name>` and `v/<phase>/<name>`, and `steps/<phase>`."""
    moments = {}
    for phase, table in state.moments.items():
        for name, (m, v) in table.items():
            moments |= {f"m/{phase}/{name}": m, f"v/{phase}/{name}": v}
    weights = {f"weight/{n}": w for n, w in state.weights.items()}
    steps = {f"steps/{p}": np.array(n) for p, n in state.steps.items()}
    np.savez(path, x=state.x, z=state.z, **weights, **moments, **steps)


def own_output() -> TextIO:
    """Standard output, for answers alone: what libraries print there, C's too, goes to standard error from now on."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # children do not have it
    os.dup2(2, 1)
    return answers


def layer_names(network: str) -> list[tuple[str, str]]:
    """(weight, bias) of the three layers of a network."""
    return [(f"{network}.{i}.weight", f"{network}.{i}.bias") for i in range(3)]
