"""What all pictures share: figures without pyplot, colours and names of classes, images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .images import check_image_shape
from .offers import OfData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "pip install '.[app]' in the checkout of aaecore"
INCHES = 0.55  # side of one image in a grid
# Paul Tol's "muted" scheme, which readers with any common colour blindness can tell apart, and black for a tenth class.
COLOURS = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#000000")
MARKERS = "os^Dv"  # a second way to tell classes apart


def new_figure(width: float, height: float) -> Figure:
    """One of so many inches.

    Raises:
        ImportError: there is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(f"aaecore.app needs matplotlib: {INSTALL}") from None
    return Figure(figsize=(width, height), layout="constrained")


def name_of(label: Any, names: Sequence[str] | None) -> str:
    """Of a class, for people; -1 and "" stand for no label, as in training."""
    if label in (-1, ""):
        return "no label"
    return names[label] if names is not None and 0 <= label < len(names) else str(label)


def colour_of(i: int, classes: int) -> Any:
    if classes <= len(COLOURS):
        return COLOURS[i]
    import matplotlib

    return matplotlib.colormaps["cividis"](i / (classes - 1))


def grey_of(model: OfData) -> tuple[float, float] | None:
    """What is black and what is white in the data of a model, if it says so."""
    unit = model.columns()["x"].kind == "unit" or getattr(model, "output", None) == "sigmoid"
    return (0.0, 1.0) if unit else None


def show_images(
    axes: Axes, images: np.ndarray, shape: Sequence[int], *, grey: tuple[float, float] | None, gap: int = 2
) -> float:
    """Draws (R, C, features) images side by side on `axes`; NaN is blank. Gives the height of one, with its gap.

    `grey` is what is drawn black and white; the darkest and the lightest value by default.
    """
    check_image_shape(shape, images.shape[-1])
    rows, columns = images.shape[:2]
    height, width, *colours = shape
    tiles = images.reshape(rows, columns, height, width, *[c for c in colours if c == 3])
    if tiles.ndim == 5:
        tiles = np.clip(np.nan_to_num(tiles, nan=1.0), 0, 1)
    edges = [(0, 0), (0, 0), (0, gap), (0, gap)] + [(0, 0)] * (tiles.ndim - 4)
    tiles = np.pad(tiles, edges, constant_values=np.nan if tiles.ndim == 4 else 1.0)
    mosaic = tiles.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), *tiles.shape[4:])
    mosaic = mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]
    low, high = grey or (np.nanmin(mosaic), np.nanmax(mosaic))
    extent = (0, mosaic.shape[1], mosaic.shape[0], 0)
    axes.imshow(mosaic, cmap="gray", vmin=low, vmax=high, interpolation="nearest", extent=extent)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return float(height + gap)
