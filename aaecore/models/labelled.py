"""Models that learn from labels: what users call the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, cast

import numpy as np

from ..arguments import shown
from ..data import labels as names
from ..data.rows import as_rows
from ..data.table import Table, as_table, check_labels
from ..functions import concat
from ..functions.tensor import Tensor
from ..options import LABELS, option
from .batch import Batch
from .model import Model


class _Declared:
    """What every such model declares itself: it stands at different places among its arguments."""

    classes: int


@dataclass(eq=False, repr=False)
class Labelled(Model, _Declared):
    """A model whose labels may be any integers or strings. A subclass declares the option `classes`.

    `labels` are what the user calls the classes 0, 1, ... Without them the first `fit` takes the different labels that
    it is given, sorted, or 0 to classes - 1 where all labels are among these. From then on they stay, in files and
    copies too, and another label is an error. Among integers -1 is no label, among strings "" or None.
    """

    _: KW_ONLY
    labels: Sequence[int] | Sequence[str] | None = option(
        LABELS, "of the classes, in their order", default=None, of_data=True
    )

    def _check(self) -> None:
        super()._check()
        if self.labels is not None and len(self.labels) > self.classes:
            expected = f"labels: expected at most {self.classes} (classes)"
            raise ValueError(f"{expected}, got {len(self.labels)}: {shown(list(self.labels))}")

    def as_classes(self, y: Any, name: str, *, first: bool = False) -> np.ndarray:
        """The classes of labels as users have them, int64 (N,); -1 is none, and classes are not looked at further.

        Args:
            y: integers, or strings.
            name: the argument's name in error messages.
            first: whether they may become the model's, if it has none.

        Raises:
            ValueError, TypeError: labels that the model does not know, too many, or none at all.
        """
        own = names.as_own(y, name)
        labels = self._labels_for(own, name, first)
        as_they_are = labels is None or (own.dtype.kind == "i" and labels == tuple(range(self.classes)))
        return own if as_they_are else names.to_classes(own, cast(names.Labels, labels), name)

    def own_labels(self, classes: np.ndarray) -> np.ndarray:
        """The labels of classes as users have them, int64 or strings, of their shape.

        Those of -1 and of classes that got no label are -1 or "".
        """
        return np.asarray(classes, np.int64) if self.labels is None else names.to_own(classes, self.labels)

    def table(self, x: Any, y: Any) -> Table:
        """Rows and their labels, checked as in training."""
        who = type(self).__name__
        return as_table(self.backend, self.columns(), x, y, who=who, as_classes=self.as_classes)

    def forget_labels(self) -> None:
        vars(self)["labels"] = None

    def keep_labels(self, y: Any, *, first: bool) -> None:
        if self.labels is None:
            own = names.as_own(y, "y")
            kept = self._labels_for(own, "y", first)
            vars(self)["labels"] = kept if names.is_labelled(own).any() else None  # a finished model sets no option

    def _labels_for(self, own: np.ndarray, name: str, first: bool) -> names.Labels | None:
        """The labels of the classes where the model has seen some; None where integers can only be classes."""
        if self.labels is not None:
            return cast(names.Labels, tuple(self.labels))
        if names.are_classes(own, self.classes):
            return tuple(range(self.classes))
        found = names.distinct(own)
        if first and len(found) <= self.classes:
            return found
        if first:
            expected = f"at most {self.classes} different labels, one for each class"
            raise ValueError(f"{name}: expected {expected}, got {len(found)}: {shown(list(found))}")
        if own.dtype.kind == "i":
            return None  # whoever checks classes says which one there is not
        got = shown(found[0]) if found else "strings"
        expected = f"integers, since {type(self).__name__} has no labels yet, which fit or labels= gives it"
        raise ValueError(f"{name}: expected {expected}, got {got}")


def beside_labels(z: Tensor, batch: Batch) -> Tensor:
    """Codes of a batch, or samples of the prior and then codes, with the labels of its rows: [z | y].

    So the discriminator tells a sample that was drawn for a label apart from codes of that label.
    """
    y = batch.y if len(z.buffer) == len(batch) else concat((batch.y, batch.y), axis=0)
    return concat((z, y))


def class_weights(model: Model, y: Any, n: int, classes: int) -> np.ndarray:
    """Weights of classes (n, classes) on the host: one-hot, of a label for each row, or numbers of that shape.

    Raises:
        ValueError, TypeError: neither, another length, labels that the model does not know, or a row without one.
    """
    if y is None:
        raise ValueError(f"y: expected ({n},) labels, or {(n, classes)} numbers, got None")
    if _is_matrix(y):
        numbers = as_rows(model.backend, y, "y", classes, pixels=False)
        if len(numbers) != n:
            raise ValueError(f"y: expected shape {(n, classes)}, got {numbers.shape}")
        return numbers if isinstance(numbers, np.ndarray) else model.backend.to_host(numbers)
    labels = check_labels(model.as_classes(y, "y"), "y", n, classes)
    if (labels < 0).any():
        raise ValueError(f"y: expected a label for every row, got none at row {int(np.argmin(labels))}")
    return np.asarray(labels[:, None] == np.arange(classes), np.float32)


def _is_matrix(y: Any) -> bool:
    try:
        return np.ndim(y) == 2
    except ValueError:  # rows of several lengths
        return False
