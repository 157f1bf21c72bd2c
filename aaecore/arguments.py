"""Checks of arguments: one way to say what was expected and what came.

NumPy's integers and floats are numbers like Python's; True and False are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
SEED_LIMIT = 2**63
MOST = 1000  # layers of a network: a hostile file could ask for millions
INTEGERS = (int, np.integer)  # a replay is checked too: a tuple is twice as fast as a union made anew


def count(name: str, value: Any, least: int = 1, most: int | None = None, *, expected: str = "") -> int:
    """`value` as an int from `least` to `most`.

    `expected` says it in other words than "an integer >= 1".

    Raises:
        ValueError: another value, or no integer.
    """
    is_integer = isinstance(value, INTEGERS) and not isinstance(value, bool)
    if not is_integer or value < least or (most is not None and value > most):
        usual = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
        raise ValueError(f"{name}: expected {expected or usual}, got {value!r}")
    return int(value)


def counts(name: str, values: Any) -> tuple[int, ...]:
    """`values` as integers >= 1.

    Raises:
        ValueError: no sequence, or one of them is something else.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"{name}: expected a sequence of integers >= 1, got {values!r}")
    if len(values) > MOST:
        raise ValueError(f"{name}: expected at most {MOST} integers, got {len(values)}")
    return tuple(count(name, value) for value in values)


def number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """`value` as a float that float32 can hold, in [low, high), or (low, high) with `open_low`.

    Raises:
        TypeError: no number. ValueError: another number.
    """
    expected = f"a number {'>' if open_low else '>='} {low:g}" + ("" if high == math.inf else f" and < {high:g}")
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX or not low <= value < high or (open_low and value == low):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return float(value)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """`value`, one of the options.

    Raises:
        ValueError: none of them.
    """
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {value!r}")
    return str(value)


def seed(value: Any) -> int:
    """`value` as an int in [0, 2^63).

    Raises:
        ValueError: another value, or no integer.
    """
    return count("seed", value, 0, SEED_LIMIT - 1, expected="an integer from 0 to 2^63 - 1")
