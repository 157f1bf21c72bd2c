"""Pictures of classes and styles: walks through the parts of a prior, classes in one style, clusters and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.figures import Shown
from .drawing import INCHES, grey_of, name_of, new_figure, show_images
from .offers import Clustered, Swept, Walked, labels_of
from .plots import draw_codes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WALKED, STYLES, EXAMPLES = 15, 10, 12  # images of a walk, rows of a sweep, examples of a cluster


def walks(model: Walked, image_shape: Sequence[int], names: Sequence[str] | None = None, n: int = WALKED) -> Figure:
    """What n codes on the way through the part of each class decode to, a row a class: figure 4 of the paper.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    classes = len(model.walks(1))
    figure = new_figure(n * INCHES + 1.2, classes * INCHES + 0.6)
    _draw_walks(figure.subplots(), model, image_shape, names, n)
    return figure


def _draw_walks(
    axes: Axes, model: Walked, image_shape: Sequence[int], names: Sequence[str] | None = None, n: int = WALKED
) -> None:  # fmt: skip
    codes = model.walks(n)
    images = model.decode(codes.reshape(-1, codes.shape[-1])).reshape(*codes.shape[:2], -1)
    height = show_images(axes, images, image_shape, grey=grey_of(model))
    _name_rows(axes, height, _named(model, len(codes), names))
    axes.set_title("Along the part of the prior that each class has")


def places(shown: Sequence[Shown], x: np.ndarray, y: np.ndarray, image_shape: Sequence[int]) -> Figure:
    """For each model the codes of x by labels y, and walks through the part of each class: figure 4 of the paper.

    Raises:
        ValueError: as `plots.latent_scatter` and `walks`; a model without parts for classes.
    """
    widths = [5.6, WALKED * INCHES + 0.6]
    figure = new_figure(sum(widths), len(shown) * 5.6)
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=widths)
    for (left, right), (model, title) in zip(grid, shown, strict=True):
        if not isinstance(model, Walked):
            raise ValueError(f"shown: expected models with a part of the prior for each class, got {title}")
        draw_codes(left, model, x, y)
        left.set_title(f"{title}: codes of held-out rows")
        _draw_walks(right, model, image_shape)
    return figure


def sweep(model: Swept, image_shape: Sequence[int], names: Sequence[str] | None = None, styles: int = STYLES) -> Figure:
    """What each class looks like in some styles, a row a style: figure 7 of the paper. Styles are drawn of the prior.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    prior, dim = model.priors()["z"]
    n = model.categories
    z = np.repeat(prior.sample(styles, dim), n, axis=0)
    images = model.decode(z, np.tile(np.eye(n), (styles, 1))).reshape(styles, n, -1)
    figure = new_figure(n * INCHES + 0.8, styles * INCHES + 0.9)
    axes = figure.subplots()
    height = show_images(axes, images, image_shape, grey=grey_of(model))
    width = height - image_shape[0] + image_shape[1]  # with its gap
    axes.set_xticks([(i + 0.5) * width for i in range(n)], _named(model, n, names))
    axes.xaxis.tick_top()
    axes.set(ylabel="a style in each row", title="Every class in the same styles")
    return figure


def clusters(model: Clustered, x: np.ndarray, image_shape: Sequence[int], n: int = EXAMPLES) -> Figure:
    """The head of each cluster, and the first n rows of x (N, features) that belong to it: figure 9 of the paper.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    heads, found = np.asarray(model.cluster_heads()), model.predict(x)
    scale = np.float32(1 / 255 if x.dtype == np.uint8 else 1)
    examples = np.full((len(heads), n, heads.shape[1]), np.nan, np.float32)
    for cluster in range(len(heads)):
        rows = x[found == cluster][:n].astype(np.float32) * scale
        examples[cluster, : len(rows)] = rows
    figure = new_figure((n + 1) * INCHES + 1.4, len(heads) * INCHES + 0.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, n])
    height = show_images(left, heads[:, None], image_shape, grey=grey_of(model))
    _name_rows(left, height, [f"{c}: {np.mean(found == c):.0%}" for c in range(len(heads))])
    left.set_title("head")
    show_images(right, examples, image_shape, grey=grey_of(model))
    right.set_title("rows of the cluster")
    return figure


def _named(model: object, n: int, names: Sequence[str] | None) -> list[str]:
    return [name_of(label, names) for label in labels_of(model, n)]


def _name_rows(axes: Axes, height: float, names: Sequence[str]) -> None:
    axes.set_yticks([(i + 0.5) * height for i in range(len(names))], names)
