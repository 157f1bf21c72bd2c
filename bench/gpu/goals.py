"""What the measurements on a GPU must show, and the sizes that they are made at."""

from __future__ import annotations

from typing import Any

import goals
from sizes import SIZES, Size, parse_size

LARGE = "g"  # the network of a, a batch for which the arithmetic counts
GPU_SIZES: dict[str, Size] = {**SIZES, LARGE: parse_size("784-1000-8-4096")}
MODE = "burst"  # of ours, that the goals are about: many steps in one call, as `fit` makes them
STEP = {  # microseconds at the most, by size and precision
    ("a", "fp32"): 130.0, ("a", "tf32"): 110.0, ("a", "bf16"): 110.0, ("g", "bf16"): 450.0, ("g", "tf32"): 750.0,
}  # fmt: skip
EAGER = {"a": 8.0}  # PyTorch eager / ours, at the least
BEST = {"a": 2.5}  # the best of torch.compile and JAX / ours, at the least
EPOCH = 0.1  # seconds of 60000 rows at batch 100
Row = dict[str, Any]


def judged(name: str, value: float | None, goal: float, *, at_least: bool = False) -> Row:
    """A row of the table of goals; "met" is None where nothing was measured."""
    if value is None:
        return {"goal of": name, "value": None, "goal": goal, "at_least": at_least, "met": None}
    return goals.judged({"goal of": name, "value": value, "at_least": at_least}, value, goal, at_least=at_least)
