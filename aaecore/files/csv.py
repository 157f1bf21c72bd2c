"""Tables of numbers as text: comma-separated values."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from ..arguments import INT64_MAX, shown
from ..errors import DataError
from . import atomic
from .reading import reading

_DELIMITERS = "\t;,"  # the first of them that the first line has
_MISSING = {"", "nan", "NaN", "NA"}  # no label: as pandas, NumPy and R write it
_EXACT = 2**53  # below it every whole number is a float64


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
    with _reading(path) as name:
        return _read(name, delimiter)


def load_labelled_csv(path: str | os.PathLike[str], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a table of numbers and, of one more column, labels: (rows, columns) float64 and (rows,) int64 or strings.

    The first line holds the names of the columns. Cells of the labels that are empty, nan or NA are no label. Where all
    others are numbers the labels are integers, and -1 where there is none; else they are strings, and "".

    Raises:
        DataError: as `load_csv`, or there is no column of that name, or no other, or two, or labels are numbers but not
        whole ones within int64.
    """
    with _reading(path) as name:
        head = _head(name, None)
        at = _place(head, column)
        if at is None:
            raise DataError(f"expected one column {column!r} and others, got the first line {shown(head.cells)}")
        if not head.more:
            raise DataError("holds names of columns but no rows")
        return _table(name, head, head.cells, text=at), _as_labels(_texts(name, head, at), _where(head.cells, at))


def load_csv_without(path: str | os.PathLike[str], column: str) -> np.ndarray:
    """Read a table of numbers as `load_csv` does, but without the column of that name where there is one.

    Raises:
        DataError: as `load_csv`.
    """
    with _reading(path) as name:
        head = _head(name, None)
        at = _place(head, column)
        return _read(name, None) if at is None or not head.more else _table(name, head, head.cells, text=at)


def load_csv_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read labels alone, the one column of a file: (rows,) int64 or strings, as of a column of `load_labelled_csv`.

    The first line is the name of the column, unless it is a number or no label. Empty lines are skipped: "" and NA are
    no label.

    Raises:
        DataError: the file is missing or empty, has more columns, or labels are numbers but not whole ones in int64.
    """
    with _reading(path) as name, open(name, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        cells = []
        for row in filter(None, lines):
            if len(row) != 1:
                raise DataError(f"line {lines.line_num}: expected one column, of labels, got {len(row)}")
            cells.append((lines.line_num, row[0].strip()))
        named = bool(cells) and not (cells[0][1] in _MISSING or _is_number(cells[0][1]))
        if len(cells) == named:
            raise DataError("holds a name but no labels" if named else "is empty: expected labels")
        return _as_labels(cells[named:], _where([cells[0][1]] if named else None, 0))


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[str]:
    """Says of every error which file it is about."""
    with reading(path, "CSV file") as name:
        try:
            yield name
        except csv.Error as error:  # a quote without an end, and the like
            raise DataError(f"not a readable CSV file: {error}") from error


def _place(head: _Head, column: str) -> int | None:
    """Where the column of that name is, if there is one, and others."""
    names = [cell.strip() for cell in head.cells]
    return names.index(column) if names.count(column) == 1 and len(names) > 1 else None


def _texts(name: str, head: _Head, column: int) -> list[tuple[int, str]]:
    """The cells of a column below its name, and their lines."""
    cells = []
    with open(name, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=head.delimiter)
        for row in filter(_has_text, lines):
            if len(row) != len(head.cells):
                raise _located(name, head, head.cells, column)
            cells.append((lines.line_num, row[column].strip()))
    return cells[1:]


def save_csv(path: str | os.PathLike[str], name: str, values: np.ndarray) -> None:
    """Writes one column (N,), its name in the first line, replacing an old file whole.

    Raises:
        OSError: it could not be written; an old file is as before.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[name], *([value] for value in values.tolist())])
    atomic.write(path, text.getvalue().encode())


def _as_labels(cells: Sequence[tuple[int, str]], where: str) -> np.ndarray:
    """The labels in cells, beside which their lines are: integers if all that are there are numbers, or strings."""
    texts = ["" if text in _MISSING else text for _, text in cells]
    if not all(_is_number(text) for text in texts if text):
        return np.array(texts, str)
    labels = [_whole(text) if text else -1 for text in texts]
    if None in labels:
        line, text = cells[labels.index(None)]
        expected = "a whole number within int64, since all labels are numbers"
        raise DataError(f"line {line}, {where}: expected {expected}, got {shown(text)}")
    return np.array(labels, np.int64)


def _whole(text: str) -> int | None:
    """The whole number that a text is, also as 1.0 where a float64 is exact; None if it is none within int64."""
    try:
        value = int(text)
    except ValueError:  # also of thousands of digits
        number = float(text)
        value = int(number) if number.is_integer() and abs(number) < _EXACT else INT64_MAX + 1
    return value if abs(value) <= INT64_MAX else None


class _Head(NamedTuple):
    delimiter: str
    cells: list[str]  # of the first line
    lines: int  # that it takes, with empty ones before it
    more: bool  # whether there are others


def _head(name: str, delimiter: str | None) -> _Head:
    with open(name, encoding="utf-8-sig", newline="") as file:  # a byte order mark is no part of the first name
        first = next((line for line in file if line.strip()), "")
        delimiter = next((d for d in _DELIMITERS if d in first), ",") if delimiter is None else delimiter
        file.seek(0)
        lines = csv.reader(file, delimiter=delimiter)
        rows = filter(_has_text, lines)
        cells = next(rows, None)
        if cells is None:
            raise DataError("is empty: expected rows of numbers")
        head = _Head(delimiter, cells, lines.line_num, next(rows, None) is not None)
    if not cells[0].strip() and (_are_names(cells) or _count_up(cells[1:])):
        got = f"line {head.lines}, column 1: expected a name, got {shown(cells[0])}"
        raise DataError(f"{got}; row numbers? write it with index=False")
    return head


def _read(name: str, delimiter: str | None) -> np.ndarray:
    head = _head(name, delimiter)
    named = _are_names(head.cells)
    if named and not head.more:
        raise DataError("holds names of columns but no rows")
    count_up = head.more and len(head.cells) > 2 and _count_up(head.cells)
    return _table(name, head, head.cells if named or count_up else None)


def _table(name: str, head: _Head, names: list[str] | None, text: int | None = None) -> np.ndarray:
    """The numbers of all columns but that of `text`; with names the first line is none of them."""
    read = partial(np.loadtxt, quotechar='"', comments=None, encoding="utf-8-sig", ndmin=2)
    columns = [i for i in range(len(head.cells)) if i != text]
    used = None if text is None else columns  # of all columns it finds lines that have more by itself
    try:
        table: np.ndarray = read(
            name, delimiter=head.delimiter, skiprows=0 if names is None else head.lines, usecols=used
        )
    except ValueError:
        raise _located(name, head, names, text) from None
    if table.shape[1] != len(columns):
        raise _located(name, head, names, text)
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


def _located(name: str, head: _Head, names: list[str] | None, text: int | None) -> DataError:
    """What is wrong with the first line that is no row of numbers, but in the column of `text`."""
    columns = len(head.cells)
    with open(name, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=head.delimiter)
        for n, row in enumerate(filter(_has_text, lines)):
            if n == 0 and names is not None:
                continue
            if len(row) != columns:
                return DataError(f"line {lines.line_num}: expected {columns} columns, got {len(row)}")
            for i, cell in enumerate(row):
                if i != text and not _is_number(cell):
                    got = f"expected a number, got {shown(cell)}"
                    return DataError(f"line {lines.line_num}, {_where(names, i)}: {got}")
    return DataError("expected rows of numbers, all of the same length")


def _where(names: list[str] | None, column: int) -> str:
    return f"column {column + 1}" + (f" ({names[column]})" if names is not None else "")
