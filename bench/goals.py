"""What the measurements must show: limits by size, and whether a value keeps one."""

from __future__ import annotations

from typing import Any

# One thread: step time / (operations of the matrix products / the measured rate of multiply-adds).
ONE_THREAD = {"a": 1.25, "b": 1.15, "d": 1.25, "e": 1.8, "f": 1.2}
# A peer's step / ours, at the least; 1 where none is given.
STEP = {
    "jax:jit": {"a": 1.5, "b": 1.25, "c": 1.3, "d": 3.2, "e": 6.0, "f": 1.85},
    "jax:scan": {"a": 1.5, "b": 1.25, "c": 1.3, "d": 3.2, "e": 6.0, "f": 1.85},
    "torch:eager": {"a": 2.8, "b": 2.3, "c": 2.2, "d": 9.0, "e": 60.0, "f": 3.8},
    "torch:eager:bf16": {"a": 2.0, "b": 1.4, "c": 1.3, "f": 2.0},
}
MODELS = {"fp32": 1.3, "bf16": 2.0}  # a peer's step of the later models / ours, at the least
NORMED = 1.1  # a step with batch norm and dropout / the same without
EPOCH = 1.35  # the best peer's epoch / ours, at the least
OVERHEAD = {"e": 1.15, "f": 1.03}  # an epoch through fit / its bare steps
COLD_START = 0.3  # seconds from the start of a process to the end of its first step
IMPORT = 0.1  # seconds
MEMORY = {"a": 1 / 3, "b": 1 / 2, "c": 0.7, "d": 1 / 3, "e": 1 / 3, "f": 1 / 3}  # our peak / PyTorch's
WHEEL = 5e6  # bytes
LOAD = 2.2  # a step beside a busy process / a step alone
GROWTH = 1.1  # time per sample / that of the smallest batch, or time per operation / that of the smallest network
FORMULA, MEMORY_FLOOR = (0.9, 1.1), 2e6  # measured memory / the formula, and bytes that any process needs beside


def step(size: str, peer: str) -> float:
    return STEP.get(peer, {}).get(size, 1.0)


def judged(result: dict[str, Any], value: float, goal: float, *, at_least: bool = False) -> dict[str, Any]:
    """The result with its goal, and with "met": None where nothing was decided."""
    met = value >= goal if at_least else value <= goal
    return result | {"goal": round(goal, 4), "met": met if result.get("decided", True) else None}
