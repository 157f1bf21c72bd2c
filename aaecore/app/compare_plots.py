"""The picture of a comparison: samples of each model, and the training images next to them (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .drawing import INCHES, new_figure, show_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 2  # pixels between two images


class Drawn(NamedTuple):
    """Of a model: samples (n, features), and the training image (features,) that is nearest to the last of them."""

    title: str
    samples: np.ndarray
    nearest: np.ndarray


def samples(rows: Sequence[Drawn], image_shape: Sequence[int], grey: tuple[float, float] | None) -> Figure:
    """A row for each model: its samples, and on the right the training image that is nearest to the last of them.

    Args:
        rows: of the picture.
        image_shape: height, width and perhaps colours of an image.
        grey: what is black and what is white; the darkest and the lightest value by default.

    Raises:
        ValueError: `image_shape` does not fit the samples.
    """
    n, features = rows[0].samples.shape
    blank = np.full((len(rows), 1, features), np.nan, np.float32)
    drawn, nearest = np.stack([row.samples for row in rows]), np.stack([row.nearest for row in rows])
    beside = 0.1 * max(len(row.title) for row in rows)
    figure = new_figure((n + 2) * INCHES + beside + 0.3, len(rows) * INCHES + 0.5)
    axes = figure.subplots()
    tiles = np.concatenate([drawn, blank, nearest[:, None]], axis=1)
    height, width = show_images(axes, tiles, image_shape, grey=grey, gap=GAP), image_shape[1] + GAP
    axes.set_yticks([(i + 0.5) * height for i in range(len(rows))], [row.title for row in rows])
    axes.set_xticks([n / 2 * width, (n + 1.5) * width], ["samples", "nearest to the\nlast, in training"])
    axes.tick_params(labeltop=True, labelbottom=False)
    return figure
