"""Tables of numbers as text: comma-separated values."""

from __future__ import annotations

import csv
import os
from functools import partial

import numpy as np

from ..arguments import shown
from ..errors import DataError
from .reading import reading

_DELIMITERS = "\t;,"  # the first of them that the first line has


def load_csv(path: str | os.PathLike[str], *, delimiter: str | None = None) -> np.ndarray:
    """Read a table of numbers: (rows, columns) float64.

    The first line may hold the names of the columns: it is skipped if none of its cells is a number, or if they are
    0, 1, 2 and so on, three or more, which are pandas' names of columns that have none. Text is UTF-8.

    Args:
        path: a text file, a row a line.
        delimiter: the character between two cells; a tab, a semicolon or a comma by default, whichever the file has.

    Raises:
        DataError: the file is missing, empty, has a first column of row numbers, or a cell is no number. The message
        names the file, line and column. TypeError, ValueError: a delimiter that is no single character.
    """
    if delimiter is not None:
        _check(delimiter)
    with reading(path, "CSV file") as name:
        try:
            return _read(name, delimiter)
        except csv.Error as error:  # a quote without an end, and the like
            raise DataError(f"not a readable CSV file: {error}") from error


def _read(name: str, delimiter: str | None) -> np.ndarray:
    with open(name, encoding="utf-8-sig", newline="") as file:  # a byte order mark is no part of the first name
        first = next((line for line in file if line.strip()), "")
        delimiter = next((d for d in _DELIMITERS if d in first), ",") if delimiter is None else delimiter
        file.seek(0)
        lines = csv.reader(file, delimiter=delimiter)
        rows = filter(_has_text, lines)
        cells = next(rows, None)
        if cells is None:
            raise DataError("is empty: expected rows of numbers")
        begun, named, more = lines.line_num, _are_names(cells), next(rows, None) is not None
        if not cells[0].strip() and (named or _count_up(cells[1:])):
            got = f"line {begun}, column 1: expected a name, got {shown(cells[0])}"
            raise DataError(f"{got}; row numbers? write it with index=False")
        if named and not more:
            raise DataError("holds names of columns but no rows")
        names = cells if named or (more and len(cells) > 2 and _count_up(cells)) else None
        begun = 0 if names is None else begun
    read = partial(np.loadtxt, quotechar='"', comments=None, encoding="utf-8-sig", ndmin=2)
    try:
        table: np.ndarray = read(name, delimiter=delimiter, skiprows=begun)
    except ValueError:
        raise _located(name, delimiter, len(cells), names) from None
    if table.shape[1] != len(cells):
        raise _located(name, delimiter, len(cells), names)
    return table


def _check(delimiter: str) -> None:
    expected = f"delimiter: expected one character, no quote and no end of a line, got {shown(delimiter)}"
    if not isinstance(delimiter, str):
        raise TypeError(expected)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(expected)


def _has_text(row: list[str]) -> bool:
    return any(map(str.strip, row))


def _are_names(cells: list[str]) -> bool:
    return not any(map(_looks_like_a_number, cells))


def _count_up(cells: list[str]) -> bool:
    """Whether they are 0, 1, 2, ..., as pandas calls columns without names; 0, 1 alone may be two bits."""
    return [cell.strip() for cell in cells] == [str(i) for i in range(len(cells))]


def _looks_like_a_number(cell: str) -> bool:
    """Also one with a comma for its point, which is an error, but no name."""
    return _is_number(cell.replace(",", "."))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python takes between digits


def _located(name: str, delimiter: str, columns: int, names: list[str] | None) -> DataError:
    """What is wrong with the first line that is no row of `columns` numbers."""
    with open(name, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter)
        for n, row in enumerate(filter(_has_text, lines)):
            if n == 0 and names is not None:
                continue
            if len(row) != columns:
                return DataError(f"line {lines.line_num}: expected {columns} columns, got {len(row)}")
            for i, cell in enumerate(row):
                if not _is_number(cell):
                    where = f"column {i + 1}" + (f" ({names[i]})" if names is not None else "")
                    return DataError(f"line {lines.line_num}, {where}: expected a number, got {shown(cell)}")
    return DataError("expected rows of numbers, all of the same length")
