"""Pictures of a model and its training. Each function gives a `matplotlib.figure.Figure`; `save` writes one.

Nothing here touches pyplot or matplotlib's global settings, so it works without a display and inside other programs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import as_matrix
from ..files import atomic
from ..priors import Normal
from .images import check_image_shape
from .sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..models.aae import AAE
    from ..training.history import History

PICTURES = ("reconstructions.png", "samples.png", "manifold.png", "latent.png", "losses.png")  # of a run
RECONSTRUCTED, SAMPLED, SCATTERED = 30, 100, 5000  # rows in them
DPI = 150
INCHES = 0.55  # side of one image in a grid
# Paul Tol's "muted" scheme, which readers with any common colour blindness can tell apart, and black for a tenth class.
COLOURS = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#000000")
MARKERS = "os^Dv"  # a second way to tell classes apart
CHANCE = {"discriminator": 2 * np.log(2), "generator": np.log(2)}  # losses where D cannot tell codes from the prior


def reconstructions(model: AAE, x: np.ndarray, image_shape: Sequence[int], *, columns: int = 10) -> Figure:
    """Images x (N, features), float or uint8, each above its reconstruction.

    Raises:
        ValueError: `image_shape` does not fit the model, or x is bad data.
    """
    x = as_matrix(x, "x", features=model.input_dim, unit_range=model.reconstruction == "bce")
    originals = x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    figure = _figure(columns * INCHES + 1.2, rows * (2 * INCHES + 0.1) + 0.4)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for row, start in zip(axes, range(0, len(x), columns), strict=True):
        part = slice(start, start + columns)
        pair = np.stack([originals[part], model.reconstruct(x[part])])
        height = _show_images(row, model, pair, image_shape)
        row.set_yticks([height * 0.5, height * 1.5], ["original", "reconstruction"])
    axes[0].set_title("Originals and their reconstructions")
    return figure


def samples(model: AAE, n: int, image_shape: Sequence[int]) -> Figure:
    """n decoded samples of the prior, in a grid that is about square.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    drawn = model.sample(n)
    blank = np.full((rows * columns - n, model.input_dim), np.nan, np.float32)
    figure = _figure(columns * INCHES + 0.3, rows * INCHES + 0.5)
    axes = figure.subplots()
    _show_images(axes, model, np.concatenate([drawn, blank]).reshape(rows, columns, -1), image_shape)
    axes.set_title("Samples from the prior")
    return figure


def manifold(model: AAE, image_shape: Sequence[int], n: int = 20) -> Figure:
    """What an n x n grid of percentiles of a 2-D Gaussian prior decodes to: figure 2 of the paper.

    Raises:
        ValueError: the code is not 2-D, the prior is not Gaussian, or `image_shape` does not fit the model.
    """
    _check_2d(model)
    if not isinstance(model.prior, Normal):
        raise ValueError(f"manifold: expected a model with a Normal prior, got {type(model.prior).__name__}")
    prior = NormalDist(model.prior.mean, model.prior.std)
    z = np.array([prior.inv_cdf((i + 0.5) / n) for i in range(n)])
    codes = np.stack(np.meshgrid(z, z[::-1]), axis=-1)  # (n, n, 2): z1 grows to the right, z2 upwards
    figure = _figure(n * INCHES * 0.7 + 0.8, n * INCHES * 0.7 + 0.9)
    axes = figure.subplots()
    tile = _show_images(axes, model, model.decode(codes.reshape(-1, 2)).reshape(n, n, -1), image_shape, gap=0)
    ticks = sorted({0, n // 4, n // 2, 3 * n // 4, n - 1})
    width = tile * image_shape[1] / image_shape[0]
    axes.set_xticks([(i + 0.5) * width for i in ticks], [f"{z[i]:.1f}" for i in ticks])
    axes.set_yticks([(n - i - 0.5) * tile for i in ticks], [f"{z[i]:.1f}" for i in ticks])
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title="Manifold, by percentiles of the prior")
    return figure


def latent_scatter(model: AAE, x: np.ndarray, y: np.ndarray | None = None) -> Figure:
    """The 2-D codes of x (N, features), coloured by the labels y (N,) if given, with the prior's 2-sigma circle.

    Raises:
        ValueError: the code is not 2-D, or x and y have different lengths.
    """
    _check_2d(model)
    z = model.encode(x)
    if y is not None and np.shape(y) != (len(z),):
        raise ValueError(f"y: expected {len(z)} labels, one for each row of x, got shape {np.shape(y)}")
    figure = _figure(6.6, 5.6)
    axes = figure.subplots()
    classes = [] if y is None else list(np.unique(y))
    size = float(np.clip(12000 / len(z), 3, 24))
    for i, label in enumerate(classes):
        chosen = z[np.asarray(y) == label]
        style = {"color": _colour(i, len(classes)), "marker": MARKERS[i % len(MARKERS)], "label": str(label)}
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, linewidths=0, alpha=0.8, **style)
    if y is None:
        axes.scatter(z[:, 0], z[:, 1], s=size, linewidths=0, alpha=0.6, color=COLOURS[1])
    if isinstance(model.prior, Normal):
        angle = np.linspace(0, 2 * np.pi, 200)
        mean, radius = model.prior.mean, 2 * model.prior.std
        circle = (mean + radius * np.cos(angle), mean + radius * np.sin(angle))
        axes.plot(*circle, color="0.3", linestyle="--", linewidth=1, label=r"prior, 2$\sigma$")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title="Codes of the test data")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, markerscale=(40 / size) ** 0.5)
    return figure


def loss_curves(history: History) -> Figure:
    """The losses by epoch: reconstruction on the left, the adversarial game and its equilibrium on the right.

    Raises:
        ValueError: the history has no rows.
    """
    if not len(history):
        raise ValueError("history: expected at least one epoch, got none")
    figure = _figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    epochs = history["epoch"]
    marker = "o" if len(epochs) < 30 else ""
    names = {"reconstruction": "training", "validation": "test"}
    others = [c for c in history.columns if c not in ("epoch", "step", *names) and not c.startswith("lr_")]
    for i, (column, label) in enumerate(names.items()):
        if column in history.columns:
            left.plot(epochs, history[column], color=COLOURS[i], marker=marker, markersize=3, label=label)
    for i, column in enumerate(others):
        right.plot(epochs, history[column], color=COLOURS[i], marker=marker, markersize=3, label=column)
        if column in CHANCE:
            right.axhline(CHANCE[column], color=COLOURS[i], linestyle=":", label="in equilibrium")
    left.set(title="Reconstruction", ylabel="loss per example")
    right.set(title="Adversarial losses", ylabel="binary cross-entropy (nats)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return figure


def of_run(models: Sequence[AAE], history: History, source: Source) -> dict[str, Callable[[], Figure]]:
    """What draws those of PICTURES that suit a run: its models, of which the first has the history, and its data."""
    model, shape = models[0], source.image_shape
    flat = next((m for m in models if m.latent_dim == 2), None)
    figures: dict[str, Callable[[], Figure]] = {}
    if shape:
        figures["reconstructions.png"] = lambda: reconstructions(model, source.test[:RECONSTRUCTED], shape)
        figures["samples.png"] = lambda: samples(model, SAMPLED, shape)
    if shape and flat is not None and isinstance(flat.prior, Normal):
        figures["manifold.png"] = lambda: manifold(flat, shape)
    if flat is not None:
        labels = None if source.test_labels is None else source.test_labels[:SCATTERED]
        figures["latent.png"] = lambda: latent_scatter(flat, source.test[:SCATTERED], labels)
    if len(history):
        figures["losses.png"] = lambda: loss_curves(history)
    return figures


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as a whole, in the format that the name ends in: .png, .pdf, .svg.

    Raises:
        ValueError: matplotlib does not know the format. OSError: the file could not be written; an old one is intact.
    """
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".") or "png"
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI)
    atomic.write(path, buffer.getvalue())


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("aaecore.plots needs matplotlib: pip install 'aaecore[app]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def _check_2d(model: AAE) -> None:
    if model.latent_dim != 2:
        raise ValueError(f"model: expected a 2-D code, got latent_dim {model.latent_dim}")


def _colour(i: int, classes: int) -> Any:
    if classes <= len(COLOURS):
        return COLOURS[i]
    import matplotlib

    return matplotlib.colormaps["cividis"](i / (classes - 1))


def _show_images(axes: Axes, model: AAE, images: np.ndarray, shape: Sequence[int], *, gap: int = 2) -> float:
    """Draws (R, C, features) images side by side on `axes`; NaN is blank. Gives the height of one, with its gap."""
    check_image_shape(shape, model.input_dim)
    rows, columns = images.shape[:2]
    height, width, *colours = shape
    tiles = images.reshape(rows, columns, height, width, *[c for c in colours if c == 3])
    if tiles.ndim == 5:
        tiles = np.clip(np.nan_to_num(tiles, nan=1.0), 0, 1)
    edges = [(0, 0), (0, 0), (0, gap), (0, gap)] + [(0, 0)] * (tiles.ndim - 4)
    tiles = np.pad(tiles, edges, constant_values=np.nan if tiles.ndim == 4 else 1.0)
    mosaic = tiles.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), *tiles.shape[4:])
    mosaic = mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]
    low, high = (0.0, 1.0) if model.output == "sigmoid" else (np.nanmin(mosaic), np.nanmax(mosaic))
    extent = (0, mosaic.shape[1], mosaic.shape[0], 0)
    axes.imshow(mosaic, cmap="gray", vmin=low, vmax=high, interpolation="nearest", extent=extent)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return float(height + gap)
