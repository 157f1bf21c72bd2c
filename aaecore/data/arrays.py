"""Checked input: arrays from the user."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arguments import reals

ROUNDING = 1e-6  # beyond [0, 1] that scaling a float32 table to it may leave; taken as it is
_BLOCK = 1 << 18  # values looked at together while searching for a bad one: a 256 KiB mask


def as_matrix(
    x: Any, name: str = "x", *, features: int | None = None, unit_range: bool = False, non_empty: bool = True,
    otherwise: str = "",
) -> np.ndarray:  # fmt: skip
    """User data as a C-contiguous 2-D array of uint8 (kept: images 0..255) or float32 (everything else).

    Args:
        x: array-like (rows, features) of real numbers: any integer, bool or float dtype, byte order and strides.
            Integers other than uint8 are plain numbers: they are converted, not scaled.
        name: the argument's name in error messages.
        features: the number of columns wanted, or None for any.
        unit_range: demand values in [0, 1], but for rounding (1e-6); uint8 always passes, since it stands for 0..1 in
            steps of 1/255.
        non_empty: demand at least one row and one column.
        otherwise: what to do where values are out of that range, besides scaling them; ends the message.

    Returns:
        The very memory of `x` where nothing has to change (read-only stays read-only), otherwise a copy.

    Raises:
        TypeError: `x` does not hold real numbers (object, string, complex, masked, ...).
        ValueError: wrong shape, no rows, values outside [0, 1], or not finite in float32 (NaN, infinity, overflow).
    """
    given = reals(name, x)
    if given.ndim != 2:
        raise ValueError(f"{name}: expected 2-D, (rows, features), got shape {given.shape}")
    if features is not None and given.shape[1] != features:
        raise ValueError(f"{name}: expected {features} features (columns), got {given.shape[1]}: shape {given.shape}")
    if non_empty and given.size == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {given.shape}")
    if given.dtype == np.uint8:
        return np.require(given, requirements=("C", "A"))
    with np.errstate(all="ignore"):  # an overflow becomes infinity, which is reported below
        matrix = np.require(given, np.float32, ("C", "A"))
    if matrix.size:
        _check_values(matrix, given, name, unit_range, otherwise)
    return matrix


def is_bits(matrix: np.ndarray) -> bool:
    """Whether bytes are ones and zeros only, with a one among them; it reads up to the first larger one."""
    rows = max(1, _BLOCK // matrix.shape[1])
    if any(matrix[start : start + rows].max() > 1 for start in range(0, len(matrix), rows)):
        return False
    return bool(matrix.any())


def as_labels(y: Any, name: str, n: int | None) -> np.ndarray:
    """Labels as an int64 array (n,), of any length if n is None; floats are taken where every one is a whole number.

    Raises:
        TypeError: `y` does not hold real numbers.
        ValueError: the shape is not (n,), or a value is not a whole number within int64.
    """
    given = reals(name, y)
    if given.ndim != 1 or n not in (None, len(given)):
        hint = f"; of one-hot rows give {name}.argmax(axis=1)" if given.ndim == 2 and given.shape[1] > 1 else ""
        expected = f"{name}: expected shape ({'rows' if n is None else n},), one label for each row"
        raise ValueError(f"{expected}, got shape {given.shape}{hint}")
    with np.errstate(all="ignore"):  # what does not survive the conversion is found by comparing
        labels = np.require(given, np.int64, ("C", "A"))
    wrong = np.flatnonzero(labels != given)
    if wrong.size:
        raise ValueError(
            f"{name}: expected whole numbers within int64, -1 for no label; {wrong.size} of {len(given)} are not, "
            f"the first is {given[wrong[0]]} at position {wrong[0]}"
        )
    return labels


def _check_values(matrix: np.ndarray, given: np.ndarray, name: str, unit_range: bool, otherwise: str) -> None:
    low, high = float(matrix.min()), float(matrix.max())  # both pass NaN on, and neither needs a temporary
    if not (math.isfinite(low) and math.isfinite(high)):
        count, row, column = _find_non_finite(matrix)
        raise ValueError(
            f"{name}: expected finite float32 values (up to 3.4e38); {count} of {matrix.size} are not, "
            f"the first is {given[row, column]} at row {row}, column {column}"
        )
    if unit_range and not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise ValueError(
            f"{name}: expected values in [0, 1], got {low} to {high}; scale it, pass images as uint8 0..255"
            f"{', or ' if otherwise else ''}{otherwise}"
        )


def _find_non_finite(matrix: np.ndarray) -> tuple[int, int, int]:
    """How many values are not finite, and the row and column of the first, a block of rows at a time."""
    rows = max(1, _BLOCK // matrix.shape[1])
    count, first = 0, (-1, -1)
    for start in range(0, len(matrix), rows):
        bad = ~np.isfinite(matrix[start : start + rows])
        if count == 0 and bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            first = (start + int(row), int(column))
        count += int(np.count_nonzero(bad))
    return count, *first
