"""One training step of aaecore from its public parts: what `Trainer` launches, without its checks and its guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from protocol import BETA1, BETA2, LR
from sizes import Size

from aaecore import AAE, Trainer, priors
from aaecore.core.memory import Buffer
from aaecore.core.ops import OPS
from aaecore.core.plan import Plan
from aaecore.functions import backward
from aaecore.models import Model
from aaecore.models.batch import Batch
from aaecore.optim import Adam

PAPER = {"standardise": False, "generator_weight": 0.0, "gradient_penalty": 0.0}  # the step that the peers make


def make_model(size: Size, seed: int = 0, precision: str = "fp32", device: str = "cpu") -> AAE:
    """The model of a size as in the paper: three phases, Bernoulli cross-entropy, prior N(0, I)."""
    options = {"prior": priors.Normal(std=1.0), "precision": precision, "device": device, "seed": seed, **PAPER}
    return AAE(size.inputs, size.latent, (size.hidden, size.hidden), **options)


def make_trainer(model: Model, batch: int, **options: Any) -> Trainer:
    """A trainer with the Adam that the peers have, in each of the three phases."""
    adam = partial(Adam, lr=LR, betas=(BETA1, BETA2))
    return Trainer(model, batch, optimizers={phase.name: adam for phase in model.phases if phase.moves}, **options)


def launches_of(model: Model, inputs: Mapping[str, Buffer]) -> tuple[Callable[[], None], Buffer]:
    """(the launches of one step on inputs by name, its losses by phase), with optimizers and dials of its own."""
    backend, losses = model.backend, model.backend.zeros((len(model.phases),))
    optimizers = {phase.name: Adam(model.moved(phase)) for phase in model.phases if phase.moves}
    values = {name: dial(0) for name, dial in model.dials().items()}
    values |= {name: factor for name, (factor, *_) in model.ratios().items()}
    dials = {name: backend.from_host(np.array([value])) for name, value in values.items()}
    batch = Batch(inputs, model.draws, dials, model.generator)

    def step() -> None:
        for i, (phase, *made) in enumerate(model.step(batch)):
            if phase in optimizers:
                optimizers[phase].advance()
                backward(made, optimizers[phase])
            for at, loss in enumerate(loss for loss in made if loss.counted):
                backend.launch("copy", (loss.buffer, losses.rows(i, i + 1)), (1, at > 0))
        model.settle(batch)
        model.generator.advance()

    return step, losses


def make_step(model: AAE, batch: int) -> tuple[Callable[[], None], Buffer, Buffer]:
    """(the launches of one step, its input x (batch, features), its three losses), with optimizers of its own."""
    x = model.backend.empty((batch, model.input_dim))
    step, losses = launches_of(model, {"x": x})
    return step, x, losses


def plan_bytes(plan: Plan) -> int:
    """Bytes that the launches of a plan must move at least, each by itself, from the op table."""
    return sum(OPS[c.name].bytes(dict(zip(OPS[c.name].dims, c.dims, strict=True))) for c in plan.calls)


def plan_buffers(plan: Plan) -> int:
    """Bytes of all buffers that the launches of a plan touch, each once."""
    buffers = {buffer.pointer: buffer for call in plan.calls for buffer in call.buffers}
    return sum(buffer.storage.nbytes for buffer in buffers.values())
