"""Our steps of the works: the models, what a step is given, what it drew, and what it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import protocol
import works
from protocol import Moments, State, Stepped
from steps import make_trainer
from works import Work

import aaecore
from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer
from aaecore.models import Model

PLACES = {False: ("reconstruction", "code", "classification"), True: ("reconstruction",)}  # where a step corrupts x
NONE = -1  # no label


def make_model(work: Work, precision: str = "fp32", device: str = "cpu", seed: int = 0) -> Model:
    """The model of a work, as the peers have it."""
    if work.kind in works.COMPARED:
        return _compared(work, precision=precision, device=device, seed=seed)
    given: dict[str, Any] = {
        "hidden": (work.hidden, work.hidden), "latent_dim": work.latent, "reconstruction": "mse", "output": "sigmoid",
        "standardise": False, "input_noise": work.noise, "input_dropout": work.dropout,
        "batch_norm": "encoder" if work.batch_norm else "none", "precision": precision, "device": device, "seed": seed,
        "generator_weight": works.GENERATOR if work.joint else 0.0,
    }  # fmt: skip
    if work.kind in ("label-informed", "supervised"):
        given |= {"classes": work.classes, "gradient_penalty": 0.0}
        if work.kind == "label-informed":
            return aaecore.LabelInformedAAE(work.inputs, **given)
        return aaecore.SupervisedAAE(work.inputs, informed=work.joint, **given)
    given |= {"joint": work.joint, "warm_up": 0, "critic_noise": 0.0}
    if work.kind == "clustering":
        return aaecore.ClusteringAAE(work.inputs, clusters=work.classes, **given)
    given |= {"classes": work.classes, "classification_weight": works.CLASSIFICATION}
    if work.kind == "semi-supervised":
        return aaecore.SemiSupervisedAAE(work.inputs, **given)
    heads = {"head_distance": works.LEAST, "head_weight": works.HINGE}
    return aaecore.ReductionAAE(work.inputs, dim=work.latent, labelled=bool(work.labelled), **heads, **given)


def _compared(work: Work, **how: Any) -> Model:
    """A model that the paper compares with."""
    how |= {"hidden": (work.hidden, work.hidden), "latent_dim": work.latent, "standardise": False, "output": "sigmoid"}
    if work.kind == "gan":
        return aaecore.GAN(work.inputs, gradient_penalty=0.0, average=0.0, **how)
    if work.kind == "gmmn":
        return aaecore.GMMN(work.inputs, widths=works.WIDTHS, **how)
    how |= {"reconstruction": "mse", "input_noise": work.noise, "input_dropout": work.dropout}
    if work.kind == "wae":
        return aaecore.WAE(work.inputs, widths=works.WIDTHS, discrepancy_weight=works.GENERATOR, **how)
    return aaecore.DenoisingAE(work.inputs, **how)


def rows_of(work: Work, count: int) -> list[dict[str, np.ndarray]]:
    """`count` batches by the names of a step's inputs; labels are classes, int64, and sometimes none."""
    made: list[dict[str, np.ndarray]] = [{"x": x} for x in protocol.batches(work, count)]
    if work.labelled:
        for rows, (x, y) in zip(made, works.labelled_batches(work, count), strict=True):
            rows |= {"labelled.x": x, "labelled.y": y}
    if work.kind in ("label-informed", "supervised"):
        rng = np.random.default_rng(2)
        least = 0 if work.kind == "supervised" else NONE
        for rows in made:
            rows["y"] = rng.integers(least, work.classes, work.batch)
    return made


def as_inputs(work: Work, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows as a step has them: labels one-hot, with a last column for those without one where a model has that."""
    columns = np.arange(work.classes + (work.kind == "label-informed"))

    def one_hot(y: np.ndarray) -> np.ndarray:
        return (np.where(y == NONE, columns[-1], y)[:, None] == columns).astype(np.float32)

    return {name: one_hot(a) if name.endswith("y") else a for name, a in rows.items()}


def step(trainer: aaecore.Trainer, rows: Mapping[str, np.ndarray]) -> list[float]:
    """One step; its losses in the order of the phases."""
    labelled = (rows["labelled.x"], rows["labelled.y"]) if "labelled.x" in rows else None
    losses = trainer.step(rows["x"], y=rows.get("y"), labelled=labelled)
    return [losses[phase.name] for phase in trainer.model.phases]


def arrays_of(trainer: aaecore.Trainer) -> tuple[dict[str, np.ndarray], Moments]:
    """Parameters by name, and Adam's moments of each, in the backend's precision."""
    model, fetch = trainer.model, trainer.backend.to_host
    names = {id(p): name for name, p in model.parameters.items()}
    moments = {
        phase.name: {
            names[id(p)]: tuple(fetch(trainer.optimizers[phase.name].moments[k][id(p)]) for k in ("m", "v"))
            for p in model.moved(phase)
        }
        for phase in model.phases
        if phase.moves
    }
    return {name: fetch(p.buffer) for name, p in model.parameters.items()}, moments


@contextmanager
def watched(backend: Backend) -> Iterator[dict[str, list[np.ndarray]]]:
    """What is drawn meanwhile, on the host, by kind: "noise" N(0, 1), "keep" 0 or 1 / (1 - rate), "y" and "z"."""
    drawn: dict[str, list[np.ndarray]] = {"noise": [], "keep": [], "y": [], "z": []}
    launch, seen = backend.launch, set()

    def again(
        name: str, buffers: tuple[Buffer, ...], value: float, dims: tuple[int, ...], *scalars: float
    ) -> np.ndarray:
        """What the launch makes of an x of equal numbers."""
        x, y = backend.from_host(np.full(buffers[1].shape, value)), backend.empty(buffers[2].shape)
        launch(name, (buffers[0], x, y), dims, scalars)
        return backend.to_host(y)

    def watching(name: str, buffers: tuple[Buffer, ...], dims: Any = (), scalars: Any = ()) -> None:
        launch(name, buffers, dims, scalars)
        if name == "add_noise":
            drawn["noise"].append(again(name, buffers, 0.0, dims, 1.0))
        elif name == "dropout" and dims[1] not in seen:  # a backward pass has the stream of its forward pass
            seen.add(dims[1])
            drawn["keep"].append(again(name, buffers, 1.0, (*dims[:2], 0), *scalars))
        elif name.startswith("random_"):
            drawn["y" if name == "random_categorical" else "z"].append(backend.to_host(buffers[-1]))

    backend.launch = watching  # type: ignore[method-assign]
    try:
        yield drawn
    finally:
        del backend.launch


def one_step(trainer: aaecore.Trainer, work: Work, rows: Mapping[str, np.ndarray]) -> tuple[State, Stepped]:
    """Makes a step of a trainer that does not record; where it started, with what it drew, and what it made."""
    weights, moments = arrays_of(trainer)
    steps = {phase: trainer.optimizers[phase].steps for phase in moments}
    with watched(trainer.backend) as drawn:
        losses = step(trainer, rows)
    inputs = as_inputs(work, rows)
    for place, kind in ((place, kind) for kind in ("noise", "keep") for place in PLACES[work.joint]):
        if drawn[kind]:
            inputs[f"{place}/{kind}"] = drawn[kind].pop(0)
    inputs |= {f"priors/{kind}": drawn[kind].pop(0) for kind in ("y", "z") if drawn[kind]}
    assert not any(drawn.values()), f"drawn and not asked for: { {k: len(v) for k, v in drawn.items()} }"
    after, moved = arrays_of(trainer)
    return State(inputs, weights, moments, steps), Stepped(after, losses, moved)


def trained(work: Work, states: tuple[int, ...], **how: str) -> Iterator[tuple[int, State, Stepped]]:
    """Single steps after so many steps of training each."""
    model = make_model(work, **how)
    trainer = make_trainer(model, work.batch, record=False, labelled_batch_size=work.labelled or 1)
    rows = rows_of(work, max(states) + len(states))
    for count in states:
        while trainer.steps < count:
            step(trainer, rows[trainer.steps])
        yield (count, *one_step(trainer, work, rows[trainer.steps]))
