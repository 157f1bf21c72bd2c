"""What a checkpoint of a trainer holds: which tensors, under which names, and the description beside them.

`checkpoint` knows the file format and nothing of this; this module knows trainers and nothing of files.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.memory import Buffer
from ..core.ops import STATE_SIZE
from ..models.aae import network_sizes
from ..optim import OPTIMIZERS, schedules
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer

NETWORKS = {  # which networks each optimizer moves
    "reconstruction": ("encoder", "decoder"), "discriminator": ("discriminator",), "generator": ("encoder",),
}  # fmt: skip
DTYPES = {"cpu": "float32", "cuda": "float32", "reference": "float64"}  # by device, without its number


def _buffers(trainer: Trainer) -> dict[str, Buffer]:
    names = {id(p): name for name, p in trainer.model.parameters.items()}
    buffers = {f"model/{name}": p.buffer for name, p in trainer.model.parameters.items()}
    for phase, optimizer in trainer.optimizers.items():
        buffers[f"optimizer/{phase}/state"] = optimizer.state
        for moment, table in optimizer.moments.items():
            buffers |= {f"optimizer/{phase}/{moment}/{names[key]}": buffer for key, buffer in table.items()}
    buffers["random/state"] = trainer.model.generator.state
    return buffers


def tensors(trainer: Trainer) -> dict[str, np.ndarray]:
    """Copies of parameters ("model/..."), moments ("optimizer/<phase>/...") and the random state {seed, counter}."""
    return {name: trainer.backend.to_host(buffer) for name, buffer in _buffers(trainer).items()}


def describe(trainer: Trainer) -> dict[str, Any]:
    """The configuration, the position in the data and the history, as plain values."""
    optimizers = {name: {**o.config(), "lr": trainer.base_lr[name]} for name, o in trainer.optimizers.items()}
    return {
        "model": trainer.model.config(),
        "trainer": {
            "batch_size": trainer.batch_size, "optimizers": optimizers, "schedule": schedules.config(trainer.schedule),
            "clip_norm": trainer.clip_norm, "guard": trainer.guard, "record": trainer.record,
        },
        "position": {
            "steps": trainer.steps, "epoch": trainer.epoch, "rows_used": trainer.position, "rows": trainer.rows,
            "sums": trainer._sums.tolist(),
        },
        "history": [
            [[name, getattr(value, "item", lambda v=value: v)()] for name, value in row.items()]
            for row in trainer.history.rows
        ],  # pairs, since JSON keys would come back sorted; plain numbers, also where a callback added NumPy's
    }  # fmt: skip


def expected(meta: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and dtypes of the tensors that a description asks for.

    Raises:
        KeyError, TypeError, ValueError: the description is not that of a trainer.
    """
    real = DTYPES[meta["model"]["device"].split(":")[0]]
    for described in (meta["model"]["prior"], meta["trainer"]["schedule"]):
        str(described["type"])
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for network, sizes in network_sizes(meta["model"]).items():
        shapes[network] = {}
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            shapes[network] |= {f"{network}.{i}.weight": (outputs, inputs), f"{network}.{i}.bias": (outputs,)}
    spec: dict[str, tuple[tuple[int, ...], str]] = {"random/state": ((2,), "uint64")}
    spec |= {f"model/{name}": (shape, real) for table in shapes.values() for name, shape in table.items()}
    for phase, networks in NETWORKS.items():
        spec[f"optimizer/{phase}/state"] = ((STATE_SIZE,), "float64")
        for moment in OPTIMIZERS[meta["trainer"]["optimizers"][phase]["type"]].moment_names:
            for network in networks:
                spec |= {f"optimizer/{phase}/{moment}/{name}": (shape, real) for name, shape in shapes[network].items()}
    return spec


def check_callables(meta: Mapping[str, Any], prior: object, schedule: object) -> None:
    """ValueError if the saved run used a callable, which a file cannot hold, and none is given."""
    for what, given, config in (
        ("prior", prior, meta["model"]["prior"]),
        ("schedule", schedule, meta["trainer"]["schedule"]),
    ):
        if given is None and config["type"] == "callable":
            raise ValueError(f"{what}: {config['name']!r} was a callable, which a file cannot hold; pass it as {what}=")


def options(meta: Mapping[str, Any], schedule: schedules.Schedule | None) -> dict[str, Any]:
    """The arguments of a trainer like the saved one; a `schedule` that is given replaces the stored one."""
    made = dict(meta["trainer"])
    made["schedule"] = schedule if schedule is not None else schedules.from_config(made["schedule"])
    made["optimizers"] = {
        phase: partial(OPTIMIZERS[config["type"]], **{k: v for k, v in config.items() if k != "type"})
        for phase, config in made["optimizers"].items()
    }
    return made


def restore(trainer: Trainer, values: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Sets a new trainer of the same description to the saved state."""
    position = meta["position"]
    steps, epoch, used, rows = (operator.index(position[name]) for name in ("steps", "epoch", "rows_used", "rows"))
    sums = [float(v) for v in position["sums"]]
    if not (0 <= used <= rows and steps >= 0 and epoch >= 0 and len(sums) == len(trainer.phases)):
        raise ValueError(f"expected a position within the data, got {position}")
    for name, buffer in _buffers(trainer).items():
        trainer.backend.upload(buffer, values[name])
    trainer.steps, trainer.epoch, trainer.position, trainer.rows = steps, epoch, used, rows
    trainer._sums = np.array(sums)
    trainer.history = History([dict(row) for row in meta["history"]])
