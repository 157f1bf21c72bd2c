"""Pictures of a model and its training. Each function gives a `matplotlib.figure.Figure`; `save` writes one.

Nothing here touches pyplot or matplotlib's global settings, so it works without a display and inside other programs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..data import as_matrix
from ..data.table import Column
from ..evaluation.figures import Shown
from ..files import atomic
from ..models.autoencoder import Autoencoder
from ..models.model import Model
from ..models.phase import Phase
from ..priors import GaussianMixture, Hypersphere, Normal, Prior, SwissRoll, Uniform
from ..training.history import History
from .images import check_image_shape
from .sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "pip install '.[app]' in the checkout of aaecore"
PICTURES = ("reconstructions.png", "samples.png", "manifold.png", "latent.png", "losses.png")  # of a run
RECONSTRUCTED, SAMPLED, SCATTERED = 30, 100, 5000  # rows in them
PRIOR_SAMPLES = 2000  # of a prior that no curve describes
MOST_TURNS = 50  # of a roll that is drawn as a curve
DPI = 150
INCHES = 0.55  # side of one image in a grid
# Paul Tol's "muted" scheme, which readers with any common colour blindness can tell apart, and black for a tenth class.
COLOURS = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#000000")
MARKERS = "os^Dv"  # a second way to tell classes apart


@runtime_checkable
class Generative(Protocol):
    """A model that has samples of what it learned."""

    def columns(self) -> dict[str, Column]:
        """The columns of its data."""
        ...

    def sample(self, n: int) -> np.ndarray:
        """(n, features) new rows."""
        ...


def reconstructions(model: Autoencoder, x: np.ndarray, image_shape: Sequence[int], *, columns: int = 10) -> Figure:
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
        height = _show_images(row, pair, image_shape, grey=_grey(model))
        row.set_yticks([height * 0.5, height * 1.5], ["original", "reconstruction"])
    axes[0].set_title("Originals and their reconstructions")
    return figure


def samples(model: Generative, n: int, image_shape: Sequence[int]) -> Figure:
    """n decoded samples of the prior, in a grid that is about square.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    drawn = model.sample(n)
    blank = np.full((rows * columns - n, drawn.shape[1]), np.nan, np.float32)
    tiles = np.concatenate([drawn, blank]).reshape(rows, columns, -1)
    figure = _figure(columns * INCHES + 0.3, rows * INCHES + 0.5)
    axes = figure.subplots()
    _show_images(axes, tiles, image_shape, grey=_grey(model))
    axes.set_title("Samples from the prior")
    return figure


def manifold(model: Autoencoder, image_shape: Sequence[int], n: int = 20) -> Figure:
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
    decoded = model.decode(codes.reshape(-1, 2)).reshape(n, n, -1)
    tile = _show_images(axes, decoded, image_shape, grey=_grey(model), gap=0)
    ticks = sorted({0, n // 4, n // 2, 3 * n // 4, n - 1})
    width = tile * image_shape[1] / image_shape[0]
    axes.set_xticks([(i + 0.5) * width for i in ticks], [f"{z[i]:.1f}" for i in ticks])
    axes.set_yticks([(n - i - 0.5) * tile for i in ticks], [f"{z[i]:.1f}" for i in ticks])
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title="Manifold, by percentiles of the prior")
    return figure


def latent_scatter(
    model: Autoencoder, x: np.ndarray, y: np.ndarray | None = None, names: Sequence[str] | None = None
) -> Figure:
    """The 2-D codes of x (N, features), coloured by the labels y (N,) if given, and where the prior has its codes.

    Args:
        names: of the classes 0, 1, ..., for the legend; the numbers by default.

    Raises:
        ValueError: the code is not 2-D, or x and y have different lengths.
    """
    figure = _figure(6.6 if names is None else 7.2, 5.6)
    axes = figure.subplots()
    scale = _scatter(axes, model, x, y, names)
    axes.set_title("Codes of the test data")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, markerscale=scale)
    return figure


def compared_codes(shown: Sequence[Sequence[Shown]], x: np.ndarray, y: np.ndarray) -> Figure:
    """The 2-D codes of x by labels y, one picture for each of the models, which stand in rows: figure 2 of the paper.

    Pictures of a row have the same scale, since they have the same prior.

    Raises:
        ValueError: as `latent_scatter`.
    """
    rows, columns = len(shown), len(shown[0])
    figure = _figure(4.4 * columns + 1.2, 4.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for line, row in zip(grid, shown, strict=True):
        for axes, (model, title) in zip(line, row, strict=True):
            scale = _scatter(axes, model, x, y)
            axes.set_title(title)
        limit = max(abs(edge) for axes in line for edge in axes.dataLim.extents)
        for axes in line:
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
            axes.set_aspect("equal", adjustable="box")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False, markerscale=scale)
    return figure


def _scatter(
    axes: Axes, model: Autoencoder, x: np.ndarray, y: np.ndarray | None, names: Sequence[str] | None = None
) -> float:
    """Draws the codes and the prior; gives how much larger than in the picture a legend's markers should be."""
    _check_2d(model)
    z = model.encode(x)
    if y is not None and np.shape(y) != (len(z),):
        raise ValueError(f"y: expected {len(z)} labels, one for each row of x, got shape {np.shape(y)}")
    classes = [] if y is None else list(np.unique(y))
    size = float(np.clip(12000 / len(z), 3, 24))
    for i, label in enumerate(classes):
        chosen = z[np.asarray(y) == label]
        style = {"color": _colour(i, len(classes)), "marker": MARKERS[i % len(MARKERS)], "label": _name(label, names)}
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, linewidths=0, alpha=0.8, **style)
    if y is None:
        axes.scatter(z[:, 0], z[:, 1], s=size, linewidths=0, alpha=0.6, color=COLOURS[1])
    _draw_prior(axes, model.priors()["z"][0])
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel="$z_1$", ylabel="$z_2$")
    return float((40 / size) ** 0.5)


def _name(label: Any, names: Sequence[str] | None) -> str:
    """Of a class, for people; -1 and "" stand for no label, as in training."""
    if label in (-1, ""):
        return "no label"
    return names[label] if names is not None and 0 <= label < len(names) else str(label)


def _draw_prior(axes: Axes, prior: Prior) -> None:
    """Draws where a 2-D prior has its codes: by curves where they tell it, else by faint samples."""
    curves = _outlines(prior)
    line: dict[str, Any] = {"color": "0.3", "linestyle": "--", "linewidth": 1}
    for i, curve in enumerate(curves):
        name = r"prior, 2$\sigma$" if isinstance(prior, (Normal, GaussianMixture)) else "prior"
        axes.plot(*curve, label=name if i == 0 else None, **line)
    if not curves:
        z = prior.sample(PRIOR_SAMPLES, 2)
        points = np.unique(z, axis=0)
        if len(points) <= 50:  # it has no others
            axes.scatter(points[:, 0], points[:, 1], s=60, marker="X", color="0.3", label="prior", zorder=3)
        else:
            faint: dict[str, Any] = {"color": "0.3", "alpha": 0.25, "linewidths": 0, "zorder": 0}
            axes.scatter(z[:, 0], z[:, 1], s=8, label="prior, samples", **faint)


def _outlines(prior: Prior) -> list[np.ndarray]:
    """Curves (2, points): of a Gaussian, or of each one of a mixture, two standard deviations away from its middle; of
    others the set that their codes lie in. None where no curve says it.
    """
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    if isinstance(prior, Normal):
        return [prior.mean + 2 * prior.std * circle]
    if isinstance(prior, GaussianMixture):
        factors = np.linalg.cholesky(np.asarray(prior.covariances))
        return [np.array(m)[:, None] + f @ (2 * circle) for m, f in zip(prior.means, factors, strict=True)]
    if isinstance(prior, Uniform):
        low, high = prior.low, prior.high
        return [np.array([[low, high, high, low, low], [low, low, high, high, low]])]
    if isinstance(prior, Hypersphere):
        return [prior.radius * circle]
    if isinstance(prior, SwissRoll):
        begin, end = prior.turns
        if end - begin > MOST_TURNS:  # lines would cover the picture, and so many points all memory
            return []
        turns = np.linspace(begin, end, max(200, round(100 * (end - begin))))
        return [prior.radius * turns / end * np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])]
    return []


def loss_curves(history: History, phases: Sequence[Phase]) -> Figure:
    """The losses by epoch: of games and their equilibrium on the right, if there are any, and of all else on the left.

    Raises:
        ValueError: the history has no rows.
    """
    if not len(history):
        raise ValueError("history: expected at least one epoch, got none")
    games = [phase for phase in phases if phase.game]
    alone = [phase.name for phase in phases if not phase.game]
    figure = _figure(9.0 if games and alone else 4.8, 4.2)
    shown = figure.subplots(1, 2 if games and alone else 1, squeeze=False)[0]
    epochs = history["epoch"]
    style: dict[str, Any] = {"marker": "o" if len(epochs) < 30 else "", "markersize": 3}
    if alone:
        names = {name: "training" if len(alone) == 1 else name for name in alone} | {"validation": "test"}
        for i, (column, label) in enumerate(names.items()):
            if column in history.columns:
                shown[0].plot(epochs, history[column], color=COLOURS[i], label=label, **style)
        title = alone[0].capitalize() if len(alone) == 1 else "Losses"
        shown[0].set(title=title, ylabel="loss per example")
    for i, phase in enumerate(games):
        shown[-1].plot(epochs, history[phase.name], color=COLOURS[i], label=phase.name, **style)
        if phase.equilibrium is not None:
            shown[-1].axhline(phase.equilibrium, color=COLOURS[i], linestyle=":", label="in equilibrium")
    if games:
        shown[-1].set(title="Adversarial losses", ylabel="binary cross-entropy (nats)")
        shown[-1].set_ylim(bottom=0)
    for axes in shown:
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return figure


def of_run(models: Sequence[Model], history: History, source: Source) -> dict[str, Callable[[], Figure]]:
    """What draws those of PICTURES that suit a run: its models, of which the first has the history, and its data."""
    model, shape = models[0], source.image_shape
    coders = [m for m in models if isinstance(m, Autoencoder)]
    flat = next((m for m in coders if m.latent_dim == 2), None)
    figures: dict[str, Callable[[], Figure]] = {}
    if shape and isinstance(model, Autoencoder):
        figures["reconstructions.png"] = lambda: reconstructions(coders[0], source.test[:RECONSTRUCTED], shape)
    if shape and isinstance(model, Generative):
        figures["samples.png"] = lambda: samples(model, SAMPLED, shape)
    if shape and flat is not None and isinstance(flat.prior, Normal):
        figures["manifold.png"] = lambda: manifold(flat, shape)
    if flat is not None:
        labels = None if source.test_labels is None else source.test_labels[:SCATTERED]
        figures["latent.png"] = lambda: latent_scatter(flat, source.test[:SCATTERED], labels, source.class_names)
    if len(history):
        figures["losses.png"] = lambda: loss_curves(history, model.phases)
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
        raise ImportError(f"aaecore.app.plots needs matplotlib: {INSTALL}") from None
    return Figure(figsize=(width, height), layout="constrained")


def _check_2d(model: Autoencoder) -> None:
    if model.latent_dim != 2:
        raise ValueError(f"model: expected a 2-D code, got latent_dim {model.latent_dim}")


def _colour(i: int, classes: int) -> Any:
    if classes <= len(COLOURS):
        return COLOURS[i]
    import matplotlib

    return matplotlib.colormaps["cividis"](i / (classes - 1))


def _grey(model: Generative) -> tuple[float, float] | None:
    """What is black and what is white in the data of a model, if it says so."""
    unit = model.columns()["x"].kind == "unit" or getattr(model, "output", None) == "sigmoid"
    return (0.0, 1.0) if unit else None


def _show_images(
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
