"""A history as a checkpoint holds it: columns, since the rows of a long run would be most of the work of a save.

A column that has an integer in every row, or a float, is an array, "history/<number>". What callbacks add may have
gaps, text or None; such a column is in the description beside, as the rows that have it and their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .history import PLAIN, History, Row, columns_of, plain

ARRAYS = {float: "float64", int: "int64"}  # by the one type of a column
_NOTHING = object()


def to_columns(rows: Sequence[Row]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The rows of a history as arrays by their names in a checkpoint, and the description beside them.

    Raises:
        TypeError: a value that is no number, text or None.
    """
    arrays: dict[str, np.ndarray] = {}
    columns: list[list[Any]] = []
    for number, name in enumerate(columns_of(rows)):
        values = [row.get(name, _NOTHING) for row in rows]
        array = _as_array(values)
        if array is not None:
            arrays[f"history/{number}"] = array
            columns.append([name, array.dtype.name])
        else:
            there = [i for i, value in enumerate(values) if value is not _NOTHING]
            columns.append([name, {"rows": there, "values": [plain(name, values[i]) for i in there]}])
    last = [[name, plain(name, value)] for name, value in rows[-1].items()] if len(rows) else []
    return arrays, {"rows": len(rows), "columns": columns, "last": last}


def _as_array(values: list[Any]) -> np.ndarray | None:
    kinds = set(map(type, values))
    if len(kinds) != 1 or (kind := kinds.pop()) not in ARRAYS:
        return None
    try:
        return np.array(values, ARRAYS[kind])
    except OverflowError:  # integers beyond 64 bits
        return None


def expected(described: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the arrays that a description asks for, by name.

    Raises:
        KeyError, TypeError, ValueError: it describes no history.
    """
    if isinstance(described, list):  # of files of format 1, which have all rows in the description
        from_rows(described)
        return {}
    rows, names = described["rows"], [name for name, _ in described["columns"]]
    if type(rows) is not int or rows < 0 or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
        raise ValueError("expected a history of named columns")
    arrays: dict[str, tuple[tuple[int, ...], str]] = {}
    seen: set[int] = set()
    for number, (name, content) in enumerate(described["columns"]):
        if isinstance(content, str) and content in ARRAYS.values():
            arrays[f"history/{number}"] = ((rows,), content)
        else:
            _check_gaps(name, content["rows"], content["values"], rows)
            seen.update(content["rows"])
    if not arrays and len(seen) < rows:  # or a short description could ask for any number of rows
        raise ValueError(f"expected {rows} rows of a history that are not empty, got {len(seen)}")
    return arrays


def _check_gaps(name: str, at: list[Any], values: list[Any], rows: int) -> None:
    fits = len(at) == len(values) and all(type(i) is int for i in at) and all(type(v) in PLAIN for v in values)
    if not fits or at != sorted(set(at)) or not all(0 <= i < rows for i in at):
        raise ValueError(f"expected rows below {rows} in ascending order, and as many values, of history {name!r}")


def from_columns(described: Any, arrays: Mapping[str, np.ndarray]) -> History:
    """The history of a description that `expected` has seen, and of its arrays."""
    if isinstance(described, list):
        return from_rows(described)
    history = History()
    history.rows = [{} for _ in range(described["rows"])]
    for number, (name, content) in enumerate(described["columns"]):
        if isinstance(content, str):
            there, values = history.rows, arrays[f"history/{number}"].tolist()
        else:
            there, values = [history.rows[i] for i in content["rows"]], content["values"]
        for row, value in zip(there, values, strict=True):
            row[name] = value
    return history


def from_rows(described: list[Any]) -> History:
    """The history of a file of format 1: of each row the pairs of name and value.

    Raises:
        TypeError, ValueError: it is none.
    """
    return History([{str(name): plain(str(name), value) for name, value in row} for row in described])


def last_row(described: Any) -> Row:
    """The last row of a history that a checkpoint describes; empty where no epoch was made.

    Raises:
        KeyError, TypeError, ValueError: it describes no history.
    """
    last = described["last"] if isinstance(described, dict) else described[-1] if described else []
    return dict(last)
