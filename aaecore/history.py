"""What training measured: one row per epoch, and the losses of one step."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence

Row = dict[str, float]


class Losses(Mapping[str, float]):
    """The losses of one step by phase, also as attributes: ``losses.reconstruction``."""

    def __init__(self, names: Sequence[str], values: Sequence[float]) -> None:
        self._values = dict(zip(names, values, strict=True))

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __getattr__(self, name: str) -> float:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"losses: expected one of {', '.join(self._values)}, got {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Losses({', '.join(f'{k}={v:.6g}' for k, v in self._values.items())})"


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
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self.columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
