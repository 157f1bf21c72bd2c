"""Pictures of a model and its training. Each function gives a `matplotlib.figure.Figure`; `save` writes one.

Nothing here touches pyplot or matplotlib's global settings, so it works without a display and inside other programs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import as_matrix
from ..evaluation.figures import Shown
from ..files import atomic
from ..models.autoencoder import Autoencoder
from ..models.phase import Phase
from ..priors import GaussianMixture, Hypersphere, Normal, Prior, SwissRoll, Uniform
from ..training.history import History
from .drawing import COLOURS, INCHES, MARKERS, colour_of, grey_of, name_of, new_figure, show_images
from .offers import Generative, Headed, Reconstructing, Walked, labels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
PRIOR_SAMPLES = 2000  # of a prior that no curve describes
MIDDLE = 50  # points of a curve before its middle
MOST_TURNS = 50  # of a roll that is drawn as a curve


def reconstructions(
    model: Reconstructing, x: np.ndarray, image_shape: Sequence[int], y: np.ndarray | None = None, *, columns: int = 10
) -> Figure:  # fmt: skip
    """Images x (N, features), float or uint8, each above its reconstruction; y (N,) for a model that needs labels.

    Raises:
        ValueError: `image_shape` does not fit the model, or x is bad data.
    """
    column = model.columns()["x"]
    x = as_matrix(x, "x", features=column.features, unit_range=column.kind == "unit")
    originals = x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    figure = new_figure(columns * INCHES + 1.2, rows * (2 * INCHES + 0.1) + 0.4)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for row, start in zip(axes, range(0, len(x), columns), strict=True):
        part = slice(start, start + columns)
        given = (x[part],) if y is None else (x[part], y[part])
        pair = np.stack([originals[part], model.reconstruct(*given)])
        height = show_images(row, pair, image_shape, grey=grey_of(model))
        row.set_yticks([height * 0.5, height * 1.5], ["original", "reconstruction"])
    axes[0].set_title("Originals and their reconstructions")
    return figure


def samples(model: Generative, n: int, image_shape: Sequence[int]) -> Figure:
    """n samples of a model, in a grid that is about square.

    Raises:
        ValueError: `image_shape` does not fit the model.
    """
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    drawn = model.sample(n)
    blank = np.full((rows * columns - n, drawn.shape[1]), np.nan, np.float32)
    tiles = np.concatenate([drawn, blank]).reshape(rows, columns, -1)
    figure = new_figure(columns * INCHES + 0.3, rows * INCHES + 0.5)
    axes = figure.subplots()
    show_images(axes, tiles, image_shape, grey=grey_of(model))
    axes.set_title("Samples")
    return figure


def manifold(model: Autoencoder, image_shape: Sequence[int], n: int = 20) -> Figure:
    """What an n x n grid of percentiles of a 2-D Gaussian prior decodes to: figure 2 of the paper.

    Raises:
        ValueError: the code is not 2-D, the prior is not Gaussian, or `image_shape` does not fit the model.
    """
    if model.latent_dim != 2:
        raise ValueError(f"model: expected a 2-D code, got latent_dim {model.latent_dim}")
    if not isinstance(model.prior, Normal):
        raise ValueError(f"manifold: expected a model with a Normal prior, got {type(model.prior).__name__}")
    prior = NormalDist(model.prior.mean, model.prior.std)
    z = np.array([prior.inv_cdf((i + 0.5) / n) for i in range(n)])
    codes = np.stack(np.meshgrid(z, z[::-1]), axis=-1)  # (n, n, 2): z1 grows to the right, z2 upwards
    figure = new_figure(n * INCHES * 0.7 + 0.8, n * INCHES * 0.7 + 0.9)
    axes = figure.subplots()
    decoded = model.decode(codes.reshape(-1, 2)).reshape(n, n, -1)
    tile = show_images(axes, decoded, image_shape, grey=grey_of(model), gap=0)
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
    figure = new_figure(6.6 if names is None else 7.2, 5.6)
    axes = figure.subplots()
    scale = draw_codes(axes, model, x, y, names)
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
    figure = new_figure(4.4 * columns + 1.2, 4.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for line, row in zip(grid, shown, strict=True):
        for axes, (model, title) in zip(line, row, strict=True):
            scale = draw_codes(axes, model, x, y)
            axes.set_title(title)
        limit = max(abs(edge) for axes in line for edge in axes.dataLim.extents)
        for axes in line:
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
            axes.set_aspect("equal", adjustable="box")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False, markerscale=scale)
    return figure


def draw_codes(
    axes: Axes, model: Autoencoder, x: np.ndarray, y: np.ndarray | None, names: Sequence[str] | None = None
) -> float:
    """Draws the codes and the prior; gives how much larger than in the picture a legend's markers should be."""
    z = _flat(model, model.encode(x))
    if y is not None and np.shape(y) != (len(z),):
        raise ValueError(f"y: expected {len(z)} labels, one for each row of x, got shape {np.shape(y)}")
    classes = [] if y is None else list(np.unique(y))
    size = float(np.clip(12000 / len(z), 3, 24))
    for i, label in enumerate(classes):
        chosen = z[np.asarray(y) == label]
        style = {
            "color": colour_of(i, len(classes)),
            "marker": MARKERS[i % len(MARKERS)],
            "label": name_of(label, names),
        }
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, linewidths=0, alpha=0.8, **style)
    if y is None:
        axes.scatter(z[:, 0], z[:, 1], s=size, linewidths=0, alpha=0.6, color=COLOURS[1])
    _draw_places(axes, model, {label: colour_of(i, len(classes)) for i, label in enumerate(classes)})
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel="$z_1$", ylabel="$z_2$")
    return float((40 / size) ** 0.5)


def _draw_places(axes: Axes, model: Autoencoder, colours: Mapping[Any, Any]) -> None:
    """Draws where the prior has codes: of models with heads or parts for classes each in the colour of its label."""
    if not model.priors():
        return
    prior = model.priors()["z"][0]
    if isinstance(model, Headed):
        middles = _flat(model, model.heads)
        around = _outlines(prior)[:1] if model.latent_dim == 2 else []  # of a style that is not projected
        curves = [head[:, None] + curve for head in middles for curve in around]
        axes.scatter(middles[:, 0], middles[:, 1], s=60, marker="X", color="0.1", zorder=3)
    elif isinstance(model, Walked):
        ways, outlines = model.walks(MIDDLE * 2 + 1), _outlines(prior)
        middles, curves = ways[:, MIDDLE], outlines if len(outlines) > 1 else list(ways.transpose(0, 2, 1))
    else:
        _draw_prior(axes, prior)
        return
    labels = labels_of(model, len(middles))
    for label, curve in zip_longest(labels, curves):
        if curve is not None:
            axes.plot(*curve, color=colours.get(label, "0.3"), linewidth=1.5)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "0.3", "alpha": 0.8}
    for label, middle in zip(labels, middles, strict=True):
        beside: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points"}
        axes.annotate(name_of(label, None), middle, fontsize=8, ha="center", bbox=box, zorder=4, **beside)


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
    figure = new_figure(9.0 if games and alone else 4.8, 4.2)
    shown = figure.subplots(1, 2 if games and alone else 1, squeeze=False)[0]
    style: dict[str, Any] = {"marker": "o" if len(history) < 30 else "", "markersize": 3}

    def draw(axes: Axes, column: str, **line: Any) -> None:  # of the epochs that have it: a run may be gone on with
        axes.plot(
            *zip(*((row["epoch"], row[column]) for row in history if column in row), strict=True), **line, **style
        )

    if alone:
        names = {name: "training" if len(alone) == 1 else name for name in alone} | {"validation": "held out"}
        for i, (column, label) in enumerate(names.items()):
            if column in history.columns:
                draw(shown[0], column, color=COLOURS[i], label=label)
        title = alone[0].capitalize() if len(alone) == 1 else "Losses"
        shown[0].set(title=title, ylabel="loss per example")
    for i, phase in enumerate(games):
        draw(shown[-1], phase.name, color=COLOURS[i], label=phase.name)
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


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as a whole, in the format that the name ends in: .png, .pdf, .svg.

    Raises:
        ValueError: matplotlib does not know the format. OSError: the file could not be written; an old one is intact.
    """
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".") or "png"
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI)
    atomic.write(path, buffer.getvalue())


def is_flat(model: Autoencoder) -> bool:
    """Whether its codes can be drawn: they have two features, or there is a way to bring them to the plane."""
    return model.latent_dim == 2 or bool(getattr(model, "fixed_heads", False))


def _flat(model: Any, codes: np.ndarray) -> np.ndarray:
    """Codes as points of the plane, (N, 2)."""
    if not is_flat(model):
        raise ValueError(f"model: expected a 2-D code, got latent_dim {model.latent_dim}")
    return codes if model.latent_dim == 2 else np.asarray(model.projected(codes))
