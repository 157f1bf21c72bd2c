"""What is said of runs: the table that they end with, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..files import checkpoint
from ..models.autoencoder import Autoencoder
from ..training.columns import last_row
from ..training.trainer import Trainer
from .offers import takes
from .sources import Source


def print_table(source: Source, trainers: Sequence[Trainer], titles: Sequence[str], seconds: Sequence[float]) -> None:
    """Prints what was reached, a column for each model."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", *titles)
    for name, cell in _rows(source, trainers[0]).items():
        table.add_row(name, *(cell(trainer) for trainer in trainers))
    table.add_row("training, seconds", *(f"{s:.1f}" for s in seconds))
    Console().print(table)


def _rows(source: Source, first: Trainer) -> dict[str, Callable[[Trainer], str]]:
    """What the table says of a model, by the name of the row."""
    rows: dict[str, Callable[[Trainer], str]] = {}
    if isinstance(first.model, Autoencoder):
        rows |= {
            "reconstruction loss, training data": lambda t: _loss(t, source.train, source.train_labels),
            "reconstruction loss, test data": lambda t: _loss(t, source.test, source.test_labels),
            "codes of test data: mean, std": lambda t: _spread(_autoencoder(t).encode(source.test)),
        }
        if first.model.priors():
            rows["prior: mean, std"] = lambda t: _spread(_autoencoder(t).sample_prior(10000))
    if "error" in first.history.columns:
        rows[f"wrong labels, {source.held_out[0]} data"] = lambda t: f"{t.history['error'][-1]:.1%}"
    for phase in first.phases:
        known = phase.equilibrium
        if known is not None or not isinstance(first.model, Autoencoder):
            title = f"{phase.name} loss" + (f" (equilibrium {known:.2f})" if known is not None else "")
            rows[title] = lambda t, name=phase.name: f"{t.history.rows[-1][name]:.2f}"  # type: ignore[misc]
    rows["parameters"] = lambda t: f"{sum(p.buffer.size for p in t.model.parameters.values()):,}"
    rows["steps"] = lambda t: str(t.steps)
    return rows


def _autoencoder(trainer: Trainer) -> Autoencoder:
    assert isinstance(trainer.model, Autoencoder)
    return trainer.model


def _loss(trainer: Trainer, x: np.ndarray, y: np.ndarray | None) -> str:
    evaluate: Any = _autoencoder(trainer).evaluate
    return f"{evaluate(x, y) if takes(evaluate, 'y') else evaluate(x):.1f}"


def _spread(z: np.ndarray) -> str:
    return f"{z.mean():.2f}, {z.std(axis=0).mean():.2f}"


def described(path: str) -> dict[str, Any]:
    """What a checkpoint says of itself, by name."""
    meta = checkpoint.peek(path)
    try:
        if meta.keys() == {"model"} and "type" in meta["model"]:  # of `Model.save`
            return dict(meta["model"])
        position, last = meta["position"], last_row(meta["history"])
        table = {**meta["model"], "batch_size": meta["trainer"]["batch_size"], "schedule": meta["trainer"]["schedule"]}
        table |= {f"lr, {phase}": o["lr"] for phase, o in meta["trainer"]["optimizers"].items()}
        table |= {"epochs made": position["epoch"], "steps made": position["steps"]}
        table |= {f"last {name}": value for name, value in last.items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: expected a model, or the checkpoint of a trainer: {error!r}") from None
    return table
