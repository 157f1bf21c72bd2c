"""Figures of the paper: the models behind them are trained, and drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..datasets import Dataset
from ..evaluation import figures
from ..evaluation.figures import Training
from . import class_plots, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_2(data: Dataset, training: Training) -> Figure:
    """Codes of adversarial and variational autoencoders with equal priors, side by side."""
    return plots.compared_codes(figures.figure_2(data.train.x, training), data.test.x, data.test.y)


def figure_4(data: Dataset, training: Training) -> Figure:
    """Codes by class, and what lies along the part of the prior that each class has, of a mixture and of a roll."""
    shown = figures.figure_4(data.train.x, data.train.y, training)
    return class_plots.places(shown, data.test.x, data.test.y, data.image_shape)


def figure_7(data: Dataset, training: Training) -> Figure:
    """Every digit in the same styles."""
    return class_plots.sweep(figures.figure_7(data.train.x, data.train.y, training), data.image_shape)


FIGURES: dict[str, Callable[[Dataset, Training], Figure]] = {
    "figure-2": figure_2, "figure-4": figure_4, "figure-7": figure_7,
}  # fmt: skip
