"""What a checkpoint of a run holds: which tensors, under which names, and the description beside them.

`files.checkpoint` knows the file format and nothing of this; this module knows runs and nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..arguments import FLOAT32_MAX, count, shown
from ..backends.shapes import ShapesBackend
from ..core.memory import Buffer
from ..core.ops import BETA1, BETA2, EPS, GRAD_SCALE, LR, STEP
from ..errors import CheckpointError
from ..models.model import Model, from_description
from ..models.registry import OLDEST, named
from ..optim import OPTIMIZERS, Passive, schedules
from ..options import SEED
from . import columns
from .progress import Moment, Run, Settings

DTYPES = {"cpu": "float32", "cuda": "float32", "reference": "float64"}  # by device, without its number
ADDED = {"labelled_batch_size": 100}  # settings of a trainer that older files do not have


def buffers(run: Run) -> dict[str, Buffer]:
    """Every buffer that a step changes and a later one reads, by its name in a checkpoint.

    Not the positions in the data, which follow from how far the epoch is.
    """
    names = {id(p): name for name, p in run.model.parameters.items()}
    found = {f"model/{name}": t.buffer for name, t in run.model.tensors.items()}
    for phase, optimizer in run.optimizers.items():
        found[f"optimizer/{phase}/state"] = optimizer.state
        for moment, table in optimizer.moments.items():
            found |= {f"optimizer/{phase}/{moment}/{names[key]}": buffer for key, buffer in table.items()}
    found["random/state"] = run.model.generator.state
    return found


def saved(
    run: Run, of: Mapping[str, Buffer], moment: Moment, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a checkpoint holds: the tensors by name, and the description beside them.

    Args:
        run: the run.
        of: its buffers by name, or copies of them from before, which belong to the moment and the settings.
        moment: how far training was then.
        settings: as they were then.

    Raises:
        TypeError: a row of the history has a value that no file can hold.
        CheckpointError: a number that a run cannot go on with.
    """
    arrays, history = columns.to_columns(run.made_rows(moment))
    tensors = {name: run.backend.to_host(buffer) for name, buffer in of.items()}
    check_numbers(tensors)
    return tensors | arrays, describe(run, moment, settings) | {"history": history}


def check_numbers(tensors: Mapping[str, np.ndarray]) -> None:
    """CheckpointError for a tensor of a run with numbers that it cannot go on with, which names it."""
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            raise CheckpointError(f"{name}: expected finite numbers, got {bad} of {array.size} that are not")
        if name.startswith("optimizer/") and "/v/" in name and array.size and array.min() < 0:
            raise CheckpointError(f"{name}: expected second moments >= 0, got {array.min():g}")


def _check_states(run: Run, tensors: Mapping[str, np.ndarray]) -> None:
    """ValueError for a state of an optimizer or of the random numbers that contradicts the description beside it."""
    for phase, optimizer in run.optimizers.items():
        name = f"optimizer/{phase}/state"
        state, new = tensors[name], run.backend.to_host(optimizer.state)
        is_sound = (
            state[STEP] >= 0 and float(state[STEP]).is_integer() and 0 <= state[LR] <= FLOAT32_MAX
            and 0 <= state[GRAD_SCALE] <= 1 and np.array_equal(state[[BETA1, BETA2, EPS]], new[[BETA1, BETA2, EPS]])
        )  # fmt: skip
        if not is_sound:
            raise ValueError(f"{name}: expected the state of {shown(optimizer.config())}, got {state.tolist()}")
    seed = int(tensors["random/state"][0])
    if seed != run.model.seed:
        raise ValueError(f"random/state: expected the seed {run.model.seed}, got {seed}")


def describe(run: Run, moment: Moment, settings: Settings) -> dict[str, Any]:
    """The configuration and the position in the data of a moment, as plain values."""
    optimizers = {name: {**o.config(), "lr": settings.rates[name]} for name, o in run.optimizers.items()}
    trainer = settings._asdict()
    del trainer["rates"]
    return {
        "model": run.model.config(),
        "trainer": {**trainer, "optimizers": optimizers, "schedule": schedules.config(settings.schedule)},
        "position": {
            "steps": moment.steps, "epoch": moment.epoch, "rows_used": moment.position, "rows": moment.rows,
            "sums": moment.sums.tolist(),
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
    return {f"model/{name}": (p.shape, model.backend.real.name) for name, p in model.tensors.items()}


def _without_memory(meta: Mapping[str, Any]) -> Model:
    """The described model on a device that has no memory, only shapes."""
    kind = meta["model"].get("type", OLDEST)
    if isinstance(kind, str):
        try:
            named(kind)
        except ValueError as error:  # the file may be sound
            raise CheckpointError(str(error)) from None
    SEED.check("seed", meta["model"]["seed"])  # None would draw one, and every run from the file another
    device = f"shapes:{DTYPES[str(meta['model']['device']).split(':')[0]]}"
    return from_description(meta["model"], device=device)


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
    described = made["optimizers"]
    made["lr"] = {phase: config["lr"] for phase, config in described.items() if config["type"] == Passive.__name__}
    made["optimizers"] = {
        phase: partial(OPTIMIZERS[config["type"]], **{k: v for k, v in config.items() if k != "type"})
        for phase, config in described.items()
        if phase not in made["lr"]
    }
    return made


def restore(run: Run, values: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Sets a new run of the same description to the saved state."""
    position = meta["position"]
    steps, epoch, used, rows = (
        count(f"position: {name}", position[name], 0) for name in ("steps", "epoch", "rows_used", "rows")
    )
    sums = np.array([float(v) for v in position["sums"]])
    if used > rows or len(sums) != len(run.phases) or not np.isfinite(sums).all():
        raise ValueError(f"expected a position within the data, got {shown(position)}")
    tensors = {name: values[name] for name in buffers(run)}
    check_numbers(tensors)
    _check_states(run, tensors)
    weights = {name.removeprefix("model/"): v for name, v in tensors.items() if name.startswith("model/")}
    run.model.check_statistics(weights)
    for name, buffer in buffers(run).items():
        run.backend.upload(buffer, tensors[name])
    run.model.untouched = run.model.writes.count
    run._now.moment = Moment(steps, epoch, used, rows, sums)
    run.history = columns.from_columns(meta["history"], values)
