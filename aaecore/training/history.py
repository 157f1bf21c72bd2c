"""What training measured: one row per epoch, and the losses of one step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..files import atomic

Row = dict[str, float]


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


class History:
    """Rows of numbers, one per epoch; ``history["reconstruction"]`` is a column."""

    def __init__(self, rows: Sequence[Mapping[str, float]] = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]

    def __getitem__(self, column: str) -> list[float]:
        if column not in self.columns:
            raise KeyError(f"history: expected one of {', '.join(self.columns)}, got {column!r}")
        return [row[column] for row in self.rows if column in row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes all rows, replacing an old file whole; numbers as Python prints them, so they read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic.write(path, text.getvalue().encode())
