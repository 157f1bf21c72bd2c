"""Labels as users have them, integers or strings, and the classes 0, 1, ... that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import shown
from .arrays import as_labels

Labels = tuple[int, ...] | tuple[str, ...]  # by class
NONE, UNNAMED = -1, ""  # no label, among integers and among strings


def as_own(y: Any, name: str, n: int | None = None) -> np.ndarray:
    """Labels as users have them: int64 (N,), where -1 is no label, or strings (N,), where "" is none.

    Args:
        y: integers, whole floats, or strings, among which None is no label either.
        name: the argument's name in error messages.
        n: how many there must be, or None for any number.

    Raises:
        TypeError: neither numbers nor strings, or both. ValueError: another shape, or numbers that are not whole.
    """
    if not _has_strings(y):
        return as_labels(y, name, n)
    given = np.asarray(y, object)
    if given.ndim != 1 or n not in (None, len(given)):
        expected = f"{name}: expected shape ({'rows' if n is None else n},), one label for each row"
        raise ValueError(f"{expected}, got shape {given.shape}")
    wrong = next((i for i, value in enumerate(given) if not (value is None or isinstance(value, str))), None)
    if wrong is not None:
        expected = 'integers, -1 for no label, or strings, "" or None for no label'
        raise TypeError(f"{name}: expected {expected}, got both, such as {shown(given[wrong])} at position {wrong}")
    return np.array([value or UNNAMED for value in given], str)


def _has_strings(y: Any) -> bool:
    """Whether there is a string or None among them; not in masked arrays, which nobody takes."""
    kind = getattr(getattr(y, "dtype", None), "kind", "O")  # of arrays of any library, in a file too
    if kind not in "OUT" or (isinstance(y, np.ndarray) and hasattr(y, "filled")):
        return False
    try:
        # As objects: NumPy would make strings of the numbers among strings.
        return any(value is None or isinstance(value, str) for value in np.asarray(y, object).flat)
    except Exception:  # ragged lists, arrays of a device, and whatever an __array__ raises: `as_labels` says it
        return False


def is_labelled(own: np.ndarray) -> np.ndarray:
    """Which of them are labels, bool (N,)."""
    return np.asarray(own != (NONE if own.dtype.kind == "i" else UNNAMED))


def distinct(own: np.ndarray) -> Labels:
    """The different labels among them, sorted."""
    return tuple(np.unique(own[is_labelled(own)]).tolist())


def are_classes(own: np.ndarray, classes: int) -> bool:
    """Whether all labels are integers from 0 to classes - 1, so that they need no other names."""
    return own.dtype.kind == "i" and bool(((own >= NONE) & (own < classes)).all())


def to_classes(own: np.ndarray, labels: Sequence[int] | Sequence[str], name: str) -> np.ndarray:
    """The classes that labels stand for, int64 (N,); -1 is none. `labels` are those of class 0, 1, ...

    Raises:
        ValueError: one that is not among them.
    """
    known, labelled = np.array(labels), is_labelled(own)
    order = np.argsort(known, kind="stable")
    same_kind = known.dtype.kind == own.dtype.kind
    at = order[np.searchsorted(known[order], own).clip(max=len(known) - 1)] if same_kind else np.zeros(len(own), int)
    wrong = np.flatnonzero(labelled & (known[at] != own) if same_kind else labelled)
    if wrong.size:
        none = "-1" if known.dtype.kind == "i" else '""'
        expected = f"labels among {shown(list(labels))}, or {none} for no label"
        raise ValueError(f"{name}: expected {expected}, got {shown(own[wrong[0]].item())} at row {wrong[0]}")
    return np.where(labelled, at, NONE).astype(np.int64)


def to_own(classes: np.ndarray, labels: Sequence[int] | Sequence[str]) -> np.ndarray:
    """The labels of classes, int64 or strings, of their shape; those of -1 and of classes beyond all are no label."""
    none: Any = NONE if isinstance(labels[0], int) else UNNAMED
    known = np.array([*labels, none])
    return np.asarray(known[np.where(classes < len(labels), classes, -1)])
