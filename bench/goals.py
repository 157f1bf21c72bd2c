"""What the measurements must show: limits by size, and whether a value keeps one."""

from __future__ import annotations

from typing import Any

# One thread: step time / (operations of the matrix products / the measured rate of multiply-adds).
ONE_THREAD = {"a": 1.25, "b": 1.15, "d": 1.25, "e": 1.8, "f": 1.2}
STEP = 1.0  # a peer's time / ours, at the least
EPOCH = 1.35  # the best peer's epoch / ours, at the least
OVERHEAD = {"e": 1.15, "f": 1.03}  # an epoch through fit / its bare steps
COLD_START = 0.3  # seconds from the start of a process to the end of its first step
IMPORT = 0.1  # seconds
MEMORY = {"a": 1 / 3, "b": 1 / 2, "c": 0.7, "d": 1 / 3, "e": 1 / 3, "f": 1 / 3}  # our peak / PyTorch's
WHEEL = 5e6  # bytes
LOAD = 2.2  # a step beside a busy process / a step alone
GROWTH = 1.1  # time per sample / that of the smallest batch, or time per operation / that of the smallest network
FORMULA, MEMORY_FLOOR = (0.9, 1.1), 2e6  # measured memory / the formula, and bytes that any process needs beside


def judged(result: dict[str, Any], value: float, goal: float, *, at_least: bool = False) -> dict[str, Any]:
    """The result with its goal, and with "met": None where nothing was decided."""
    met = value >= goal if at_least else value <= goal
    return result | {"goal": round(goal, 4), "met": met if result.get("decided", True) else None}
