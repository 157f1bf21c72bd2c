"""What training measured: one row per epoch, and the losses of one step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from ..files import atomic

Row = dict[str, Any]  # numbers; a callback may add text, or None where it measured nothing
SHOWN = 10  # rows of a table for people: the first and the last ones
PLAIN = (float, int, str, bool, type(None))


class Losses(Mapping[str, float]):
    """The losses of one step by phase, also as attributes: ``losses.reconstruction``.

    `values` are numbers, or a function that fetches them from the device when the first of them is wanted.
    """

    def __init__(self, names: Sequence[str], values: Sequence[float] | Callable[[], Sequence[float]]) -> None:
        self._names = tuple(names)
        self._given = values

    def _values(self) -> Sequence[float]:
        if callable(self._given):
            self._given = self._given()
        return self._given

    def __getitem__(self, name: str) -> float:
        if name not in self._names:
            raise KeyError(name)
        return self._values()[self._names.index(name)]

    def __getattr__(self, name: str) -> float:
        names = self.__dict__.get("_names", ())
        if name not in names:
            raise AttributeError(f"losses: expected one of {', '.join(names)}, got {name!r}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Losses({', '.join(f'{k}={v:.6g}' for k, v in self.items())})"


def plain(name: str, value: Any) -> Any:
    """A value of a row as Python has it: what is a number of NumPy, or of a device, becomes a plain one.

    Raises:
        TypeError: no number, text or None.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if type(value) not in PLAIN:
        raise TypeError(f"history: {name!r}: expected a number, text or None, got {value!r}")
    return value


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The names of all columns, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def shown(value: Any, digits: int = 6) -> str:
    """A value of a row for people; nothing for None."""
    return "" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)


class History(Sequence[Row]):
    """What training measured, a row per epoch: a sequence of rows, and ``history["reconstruction"]`` is a column.

    A row has "epoch" and "step" (made so far), the mean loss of every phase, what the model measured on validation
    data ("validation" of an autoencoder), the learning rates at the end of the epoch ("lr_<phase>"), and what
    callbacks added to it: numbers, text or None.

    Attributes:
        rows: the rows as dictionaries, in a list; `pandas.DataFrame(history.rows)` is a table.
        columns: the names of all columns.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]

    @overload
    def __getitem__(self, at: str) -> list[Any]: ...
    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...

    def __getitem__(self, at: str | int | slice) -> Any:
        """A column, of the rows that have it; or a row, or some of them."""
        if not isinstance(at, str):
            return self.rows[at]
        if at not in self:
            raise KeyError(f"history: expected one of {', '.join(self.columns) or 'no columns yet'}, got {at!r}")
        return [row[at] for row in self.rows if at in row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __contains__(self, wanted: object) -> bool:
        """Whether there is a column of this name, or such a row."""
        return any(wanted in row for row in self.rows) if isinstance(wanted, str) else wanted in self.rows

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order of appearance."""
        return columns_of(self.rows)

    def settle(self) -> None:
        """Makes plain values of what callbacks added to the last row.

        Raises:
            TypeError: a value that no file could hold.
        """
        if self.rows:
            self.rows[-1].update({name: plain(name, value) for name, value in self.rows[-1].items()})

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes all rows, replacing an old file whole; numbers as Python prints them, so they read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic.write(path, text.getvalue().encode(errors="backslashreplace"))

    # --- for people -------------------------------------------------------------------------------

    def _table(self) -> list[list[str]]:
        """Cells, the names first; of many rows the first and the last ones, with a row of dots between them."""
        names, rows = self.columns, self.rows
        dots = len(rows) > SHOWN
        chosen = [*rows[: SHOWN // 2], *rows[-SHOWN // 2 :]] if dots else rows
        cells = [[shown(row.get(name)) for name in names] for row in chosen]
        if dots:
            cells.insert(SHOWN // 2, ["..."] * len(names))
        return [names, *cells]

    def __repr__(self) -> str:
        if not self.rows:
            return "History of 0 epochs"
        cells = self._table()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([f"History of {len(self)} epochs", *lines])

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        from html import escape

        names, *cells = self._table()
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        parts = (f"<caption>{len(self)} epochs</caption>", f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>")
        return f"<table>{''.join(parts)}</table>"
