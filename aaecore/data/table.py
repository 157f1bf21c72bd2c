"""The data of a run as one table: its columns, the streams of rows that a step takes, and who has a label.

The columns lie on the device once. A stream is an order of the rows, a position in it and a number of rows a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import choice
from ..core.backend import Backend
from .arrays import as_labels
from .order import epoch_order
from .rows import Rows, as_rows

KINDS = ("numbers", "unit", "label")
LABEL = "y"  # the column that labels are in
NOBODY = np.empty(0, np.int64)


@dataclass(frozen=True)
class Column:
    """A column of the data: `features` of it, and what they are.

    `kind` is "numbers", "unit" (in [0, 1], or bytes that stand for 0..1) or "label" (one-hot, all zero without one).
    `otherwise` is what to do where numbers are out of that range, besides scaling them: it ends the message.
    With `rest` the last feature of a label is no class: rows without a label have their one there. With `every` there
    must be no such rows.
    """

    features: int
    kind: str = "numbers"
    otherwise: str = ""
    rest: bool = False
    every: bool = False

    def __post_init__(self) -> None:
        choice("kind", self.kind, KINDS)
        if self.every and self.kind != "label":
            raise ValueError(f"every: expected False but for labels, got True for kind {self.kind!r}")
        if self.rest and (self.kind != "label" or self.features < 2):
            expected = "rest: expected False but for labels of one class or more, and one feature besides"
            raise ValueError(f"{expected}, got True for {self.features} features of kind {self.kind!r}")

    @property
    def classes(self) -> int:
        """Of a label."""
        return self.features - self.rest

    def demands(self) -> dict[str, Any]:
        """What `rows.as_rows` shall check of it."""
        return {"unit_range": self.kind == "unit", "otherwise": self.otherwise}


@dataclass(frozen=True)
class Stream:
    """Rows that every step takes of some columns.

    They are of all rows, once an epoch, or of the `labelled` ones, which come round as often as they are needed.
    """

    columns: tuple[str, ...]
    labelled: bool = False


class Table:
    """Checked columns of equal length by name, and the rows that have a label."""

    def __init__(self, columns: Mapping[str, Rows], labelled: np.ndarray) -> None:
        self.columns = dict(columns)
        self.labelled = labelled  # positions, ascending
        self._rows = len(next(iter(self.columns.values())))

    def __len__(self) -> int:
        return self._rows


def as_table(
    backend: Backend, columns: Mapping[str, Column], x: Any, y: Any, names: tuple[str, str] = ("x", "y"), who: str = "",
    whole: bool = False, as_classes: Callable[[Any, str], Any] = lambda y, name: y,
) -> Table:  # fmt: skip
    """`x` (N, features) and labels `y` (N,) as a table; -1 is no label, and None none at all.

    Args:
        backend: where the data will be.
        columns: what the table must have.
        x: numbers, see `rows.as_rows`.
        y: integers, if there is a column of labels.
        names: what messages call both.
        who: wants the table, for the message about labels that nobody takes.
        whole: whether it is a data set, and no batch of one; see `rows.as_rows`.
        as_classes: gives the classes of `y`, whose name is its second argument, where users call them otherwise.

    Raises:
        ValueError, TypeError: bad data, or labels where no column takes them.
    """
    at_x, at_y = names
    column = columns["x"]
    rows = as_rows(backend, x, at_x, column.features, **column.demands(), whole=whole)
    label = columns.get(LABEL)
    if label is None:
        if y is not None:
            came = f"labels of shape {np.shape(y)}"
            raise ValueError(f"{at_y}: expected None, since {who or 'this model'} takes no labels, got {came}")
        return Table({"x": rows}, NOBODY)
    labels = np.full(len(rows), -1)
    if y is not None:
        labels = check_labels(as_classes(y, at_y), at_y, len(rows), label.classes)
    if label.every and (labels < 0).any():
        came = "None" if y is None else f"a row without one at row {(labels < 0).argmax()}"
        raise ValueError(f"{at_y}: expected a label for every row, which {who or 'this model'} needs, got {came}")
    ones = np.where(labels < 0, label.classes, labels) if label.rest else labels
    one_hot = (ones[:, None] == np.arange(label.features)).view(np.uint8)
    return Table({"x": rows, LABEL: one_hot}, np.flatnonzero(labels >= 0))


def check_labels(y: Any, name: str, rows: int, classes: int) -> np.ndarray:
    """`y` as int64 (rows,), each -1 for no label or a class below `classes`.

    Raises:
        ValueError, TypeError: another length, no integers, or classes that there are not.
    """
    labels = as_labels(y, name, rows)
    wrong = np.flatnonzero((labels < -1) | (labels >= classes))
    if wrong.size:
        expected = f"classes from 0 to {classes - 1}, or -1 for no label"
        raise ValueError(f"{name}: expected {expected}, got {labels[wrong[0]]} at row {wrong[0]}")
    return labels


def stream_order(table: Table, stream: Stream, number: int, rows: int, seed: int, epoch: int) -> np.ndarray:
    """The `rows` rows that a stream gives in one epoch: a pure function of its arguments, int64.

    A stream of all rows has the order of `data.epoch_order`. One of labelled rows goes round them, in a new order every
    time, which depends on the seed, the epoch, the round and the stream's `number`.
    """
    if not stream.labelled:
        return epoch_order(rows, seed, epoch)
    labelled = len(table.labelled)
    key = np.array([seed, (number + 1) << 56 | epoch], np.uint64)  # no epoch of all rows has such a number
    words = np.random.Philox(key=key).random_raw(-(-rows // labelled) * labelled).reshape(-1, labelled)
    return table.labelled[np.argsort(words, axis=1, kind="stable").reshape(-1)[:rows]]
