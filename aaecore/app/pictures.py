"""Which pictures suit a run: what its models offer decides, not which models they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..models.autoencoder import Autoencoder
from ..models.model import Model
from ..priors import Normal
from ..training.history import History
from . import class_plots, plots
from .offers import Clustered, Generative, Reconstructing, Swept, Walked, takes
from .sources import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (
    "reconstructions.png", "samples.png", "manifold.png", "latent.png", "walks.png", "sweep.png", "clusters.png",
    "losses.png",
)  # fmt: skip
RECONSTRUCTED, SAMPLED, SCATTERED = 30, 100, 5000  # rows in them


def of_run(models: Sequence[Model], history: History, source: Source) -> dict[str, Callable[[], Figure]]:
    """What draws those of PICTURES that suit a run: its models, of which the first has the history, and its data."""
    model, shape = models[0], source.image_shape
    found = _of_images(model, source, shape) if shape else {}
    flat = next((m for m in models if isinstance(m, Autoencoder) and plots.is_flat(m)), None)
    if flat is not None:
        labels = None if source.test_labels is None else source.test_labels[:SCATTERED]
        found["latent.png"] = lambda: plots.latent_scatter(flat, source.test[:SCATTERED], labels, source.class_names)
        if shape and isinstance(flat.prior, Normal) and not takes(flat.decode, "y"):
            found["manifold.png"] = lambda: plots.manifold(flat, shape)
    if len(history):
        found["losses.png"] = lambda: plots.loss_curves(history, model.phases)
    return {name: found[name] for name in PICTURES if name in found}


def _of_images(model: Model, source: Source, shape: Sequence[int]) -> dict[str, Callable[[], Figure]]:
    test, labels, names = source.test, source.test_labels, source.class_names
    found: dict[str, Callable[[], Figure]] = {}
    if isinstance(model, Reconstructing):
        y = labels[:RECONSTRUCTED] if labels is not None and takes(model.reconstruct, "y") else None
        found["reconstructions.png"] = lambda: plots.reconstructions(model, test[:RECONSTRUCTED], shape, y)
    if isinstance(model, Generative):
        found["samples.png"] = lambda: plots.samples(model, SAMPLED, shape)
    if isinstance(model, Walked):
        found["walks.png"] = lambda: class_plots.walks(model, shape, names)
    if isinstance(model, Swept) and takes(model.decode, "y"):
        found["sweep.png"] = lambda: class_plots.sweep(model, shape, names)
    if isinstance(model, Clustered):
        found["clusters.png"] = lambda: class_plots.clusters(model, test[:SCATTERED], shape)
    return found
