"""What the measurements on a GPU must show, and the sizes that they are made at.

Limits in microseconds were set for an H200. On another GPU a step may take as much longer as its floor is longer: the
least time in which the machine can move what a step must move, and compute what it must compute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import goals
from sizes import SIZES, Size, matrix_flops, parameters, parse_size

DRY = os.environ.get("AAECORE_GPU_DRY") == "1"  # the emulator instead of a GPU: tiny sizes of the same names
LARGE = "g"  # the network of a, a batch for which the arithmetic counts
GPU_SIZES: dict[str, Size] = {**SIZES, LARGE: parse_size("784-1000-8-4096")}
if DRY:
    GPU_SIZES = {name: Size(12, 9, 2, 7 + i) for i, name in enumerate(GPU_SIZES)}
MODE = "burst"  # of ours, that the goals are about: many steps in one call, as `fit` makes them
STEP = {  # microseconds at the most on an H200, by size and precision
    ("a", "fp32"): 130.0, ("a", "tf32"): 110.0, ("a", "bf16"): 110.0, ("g", "bf16"): 450.0, ("g", "tf32"): 750.0,
}  # fmt: skip
EAGER = {"a": 8.0}  # PyTorch eager / ours, at the least
# The fastest peer that compiles or records its steps / ours, at the least: first, and then.
BEST: dict[tuple[str, str], tuple[float, ...]] = {
    ("a", "fp32"): (2.5,), ("a", "tf32"): (2.5,), ("a", "bf16"): (2.5,), (LARGE, "bf16"): (1.0, 1.3),
}  # fmt: skip
EPOCH = 0.1  # seconds of 60000 rows at batch 100
Row = dict[str, Any]


class Machine(NamedTuple):
    """What a GPU does at best: bytes a second to and from its memory, operations a second of bf16 products."""

    bandwidth: float
    rate: float


H200 = Machine(4.3e12, 790e12)
MEASURED = (  # the ceilings that a `Machine` is made of; of several the best
    ("copy beyond the cache", "driver's copy beyond the cache"),
    ("matrix product bf16",),
)
SLOWER = {"bf16": 1, "tf32": 2, "fp32": 6}  # times that a product takes longer; fp32 is three of tf32


def machine_of(ceilings: Mapping[str, Any]) -> tuple[Machine, list[str]]:
    """From measured ceilings by name; and which of them were not measured, for which an H200's stand.

    Nothing counts as better than an H200, so that no limit is stricter than was set.
    """
    values = [[v for name in names if isinstance(v := ceilings.get(name), int | float)] for names in MEASURED]
    missing = [names[0] for names, found in zip(MEASURED, values, strict=True) if not found]
    best = [min(usual, max(found, default=usual)) for found, usual in zip(values, H200, strict=True)]
    return Machine(*best), missing


def step_traffic(size: Size) -> int:
    """Bytes of weights and moments that a step must move, 213 MB at size a.

    Adam reads and writes a weight and its two moments, of the encoder in two optimizers. Beside that a network's
    weights are read forwards and backwards in each phase that it takes part in.
    """
    encoder, decoder, discriminator = parameters(size)
    updates = 2 * encoder + decoder + discriminator
    passes = 4 * encoder + 2 * decoder + 4 * discriminator
    return 4 * (6 * updates + passes)


def floor(size: Size, precision: str, machine: Machine) -> float:
    """Microseconds of a step at the least."""
    moving = step_traffic(size) / machine.bandwidth
    return 1e6 * max(moving, matrix_flops(size) * SLOWER[precision] / machine.rate)


def step_limit(size: str, precision: str, machine: Machine) -> float:
    """Microseconds at the most."""
    network = GPU_SIZES[size]
    return STEP[size, precision] + floor(network, precision, machine) - floor(network, precision, H200)


def judged(name: str, value: float | None, goal: float, *, at_least: bool = False) -> Row:
    """A row of the table of goals; "met" is None where nothing was measured."""
    if value is None:
        return {"goal of": name, "value": None, "goal": goal, "at_least": at_least, "met": None}
    return goals.judged({"goal of": name, "value": value, "at_least": at_least}, value, goal, at_least=at_least)
