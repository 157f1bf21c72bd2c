"""What a checkpoint of a run holds: which tensors, under which names, and the description beside them.

`files.checkpoint` knows the file format and nothing of this; this module knows runs and nothing of files.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..backends.shapes import ShapesBackend
from ..core.memory import Buffer
from ..errors import CheckpointError
from ..models.model import OLDEST, Model, from_description, named
from ..optim import OPTIMIZERS, schedules
from . import columns
from .progress import Run

DTYPES = {"cpu": "float32", "cuda": "float32", "reference": "float64"}  # by device, without its number
ADDED = {"labelled_batch_size": 100}  # settings of a trainer that older files do not have


def buffers(run: Run) -> dict[str, Buffer]:
    """Every buffer that a step changes and a later one reads, by its name in a checkpoint.

    Not the positions in the data, which follow from how far the epoch is.
    """
    names = {id(p): name for name, p in run.model.parameters.items()}
    found = {f"model/{name}": p.buffer for name, p in run.model.parameters.items()}
    for phase, optimizer in run.optimizers.items():
        found[f"optimizer/{phase}/state"] = optimizer.state
        for moment, table in optimizer.moments.items():
            found |= {f"optimizer/{phase}/{moment}/{names[key]}": buffer for key, buffer in table.items()}
    found["random/state"] = run.model.generator.state
    return found


def saved(run: Run) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a checkpoint holds: the tensors by name, and the description beside them.

    Raises:
        TypeError: a row of the history has a value that no file can hold.
    """
    arrays, history = columns.to_columns(run.history.rows)
    return tensors(run) | arrays, describe(run) | {"history": history}


def tensors(run: Run) -> dict[str, np.ndarray]:
    """Copies of parameters ("model/..."), moments ("optimizer/<phase>/...") and the random state {seed, counter}."""
    return {name: run.backend.to_host(buffer) for name, buffer in buffers(run).items()}


def describe(run: Run) -> dict[str, Any]:
    """The configuration and the position in the data, as plain values."""
    optimizers = {name: {**o.config(), "lr": run.base_lr[name]} for name, o in run.optimizers.items()}
    return {
        "model": run.model.config(),
        "trainer": {
            "batch_size": run.batch_size, "labelled_batch_size": run.labelled_batch_size, "optimizers": optimizers,
            "schedule": schedules.config(run.schedule), "clip_norm": run.clip_norm, "guard": run.guard,
            "record": run.record,
        },
        "position": {
            "steps": run.steps, "epoch": run.epoch, "rows_used": run.position, "rows": run.rows,
            "sums": run.sums.tolist(),
        },
    }  # fmt: skip


def expected(meta: Mapping[str, Any], make: Callable[..., Run]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and dtypes of the tensors that a description asks for, read off a run without memory.

    `make` is `Trainer`: it makes a run of a model and of what `options` gives.

    Raises:
        KeyError, TypeError, ValueError: the description is not that of a trainer.
        CheckpointError: it is that of a model whose module was not imported.
    """
    if is_alone(meta):
        raise CheckpointError("expected the checkpoint of a trainer, got a model alone, which aaecore.load reads")
    model = _without_memory(meta)
    phases, described = [phase.name for phase in model.phases], list(meta["trainer"]["optimizers"])
    if sorted(phases) != sorted(described):
        raise ValueError(f"expected optimizers of the phases {', '.join(phases)}, got {', '.join(described) or 'none'}")
    schedule = schedules.Constant() if "schedule" in _callables(meta) else None
    run = make(model, **options(meta, schedule) | {"guard": False})
    assert isinstance(run.backend, ShapesBackend)
    of_run = {name: (buffer.shape, run.backend.dtype(buffer)) for name, buffer in buffers(run).items()}
    return of_run | columns.expected(meta["history"])


def is_alone(meta: Mapping[str, Any]) -> bool:
    """Whether a description is that of a model without a trainer, as `Model.save` writes it."""
    return meta.keys() == {"model"}


def expected_alone(meta: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """As `expected`, of a model without a trainer."""
    model = _without_memory(meta)
    return {f"model/{name}": (p.shape, model.backend.real.name) for name, p in model.parameters.items()}


def _without_memory(meta: Mapping[str, Any]) -> Model:
    """The described model on a device that has no memory, only shapes."""
    kind = meta["model"].get("type", OLDEST)
    if isinstance(kind, str):
        try:
            named(kind)
        except ValueError as error:  # the file may be sound
            raise CheckpointError(str(error)) from None
    device = f"shapes:{DTYPES[str(meta['model']['device']).split(':')[0]]}"
    prior = _nobody if _callables(meta).keys() - {"schedule"} else None
    return from_description(meta["model"], prior=prior, device=device)


def _nobody(n: int, rng: np.random.Generator) -> np.ndarray:
    """Stands for a callable prior that no draw will ask."""
    raise AssertionError


def _callables(meta: Mapping[str, Any]) -> dict[str, str]:
    """The names of the functions that the saved run used, by what it used them for."""
    described = {**meta["model"], "schedule": None if is_alone(meta) else meta["trainer"]["schedule"]}
    found = {what: config for what, config in described.items() if isinstance(config, Mapping)}
    return {what: str(config["name"]) for what, config in found.items() if config["type"] == "callable"}


def check_callables(meta: Mapping[str, Any], prior: object, schedule: object) -> None:
    """ValueError if the saved run used a callable, which a file cannot hold, and none is given."""
    for what, name in _callables(meta).items():
        argument = "schedule" if what == "schedule" else "prior"
        if (schedule if what == "schedule" else prior) is None:
            raise ValueError(f"{what}: {name!r} was a callable, which a file cannot hold; pass it as {argument}=")


def options(meta: Mapping[str, Any], schedule: schedules.Schedule | None) -> dict[str, Any]:
    """The arguments of a trainer like the saved one; a `schedule` that is given replaces the stored one."""
    made: dict[str, Any] = ADDED | dict(meta["trainer"])
    made["schedule"] = schedule if schedule is not None else schedules.from_config(made["schedule"])
    made["optimizers"] = {
        phase: partial(OPTIMIZERS[config["type"]], **{k: v for k, v in config.items() if k != "type"})
        for phase, config in made["optimizers"].items()
    }
    return made


def restore(run: Run, values: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Sets a new run of the same description to the saved state."""
    position = meta["position"]
    steps, epoch, used, rows = (operator.index(position[name]) for name in ("steps", "epoch", "rows_used", "rows"))
    sums = [float(v) for v in position["sums"]]
    if not (0 <= used <= rows and steps >= 0 and epoch >= 0 and len(sums) == len(run.phases)):
        raise ValueError(f"expected a position within the data, got {position}")
    for name, buffer in buffers(run).items():
        run.backend.upload(buffer, values[name])
    run.steps, run.epoch, run.position, run.rows = steps, epoch, used, rows
    run.sums = np.array(sums)
    run.history = columns.from_columns(meta["history"], values)
