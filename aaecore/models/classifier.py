"""Models whose class y learns from labels: what they predict, and how often they are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from ..data.table import LABEL, Column, Stream, Table
from ..options import number, option
from .class_style import JOINT, ClassAndStyle
from .labelled import Labelled


@dataclass(eq=False, repr=False)
class Classifier(ClassAndStyle, Labelled):
    """Of all rows every step takes some, and of the labelled ones others besides."""

    _: KW_ONLY
    classification_weight: float = option(
        number(0.0), "of the classification beside the reconstruction, in a joint update", default=1.0,
        beside=JOINT,
    )  # fmt: skip

    streams: ClassVar[Mapping[str, Stream]] = {"": Stream(("x",)), "labelled": Stream(("x", LABEL), labelled=True)}

    @property
    def categories(self) -> int:
        return self.classes

    def ratios(self) -> dict[str, tuple[float, str, str]]:
        if not (self.joint and self.learns_labels):
            return super().ratios()
        return super().ratios() | {
            "classification_weight": (self.classification_weight, "classification", "reconstruction")
        }

    def columns(self) -> dict[str, Column]:
        return super().columns() | ({LABEL: Column(self.classes, "label")} if self.learns_labels else {})

    def predict(self, x: Any) -> np.ndarray:
        """The most probable labels of rows x (N, input_dim), as the user has them: (N,) int64 or strings."""
        return self.own_labels(super().predict(x))

    def score(self, x: Any, y: Any) -> float:
        """The share of rows x (N, input_dim) whose label y (N,) is the most probable one.

        Raises:
            ValueError, TypeError: bad data, a row without a label, or one that the model does not know.
        """
        if not self.learns_labels:
            raise ValueError("score: expected a model that learns labels; evaluation.majority_error is for clusters")
        rows = self.rows_of(x)
        wanted = self.as_probabilities(y, len(rows)).argmax(axis=1)
        return float(np.mean(super().predict(rows) == wanted))

    def validate(self, table: Table) -> dict[str, float]:
        """The reconstruction loss, and of labelled rows the share whose most probable class is another one."""
        measured = super().validate(table)
        if len(table.labelled):
            wanted = np.asarray(table.columns[LABEL])[table.labelled].argmax(axis=1)
            found = super().predict(table.columns["x"])[table.labelled]
            measured["error"] = float(np.mean(found != wanted))
        return measured
