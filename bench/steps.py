"""One training step of aaecore from its public parts: what `Trainer` launches, without its checks and its guard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from protocol import BETA1, BETA2, LR
from sizes import Size

from aaecore import AAE, Trainer, priors
from aaecore.core.memory import Buffer
from aaecore.core.ops import OPS
from aaecore.core.plan import Plan
from aaecore.models.batch import Batch
from aaecore.optim import Adam

PAPER = {"standardise": False, "generator_weight": 0.0, "gradient_penalty": 0.0}  # the step that the peers make


def make_model(size: Size, seed: int = 0, precision: str = "fp32", device: str = "cpu") -> AAE:
    """The model of a size as in the paper: three phases, Bernoulli cross-entropy, prior N(0, I)."""
    options = {"prior": priors.Normal(std=1.0), "precision": precision, "device": device, "seed": seed, **PAPER}
    return AAE(size.inputs, size.latent, (size.hidden, size.hidden), **options)


def make_trainer(model: AAE, batch: int, *, record: bool = True) -> Trainer:
    """A trainer with the Adam that the peers have, in each of the three phases."""
    adam = partial(Adam, lr=LR, betas=(BETA1, BETA2))
    return Trainer(model, batch, optimizers={phase.name: adam for phase in model.phases}, record=record)


def make_step(model: AAE, batch: int) -> tuple[Callable[[], None], Buffer, Buffer]:
    """(the launches of one step, its input x (batch, features), its three losses), with optimizers of its own."""
    backend = model.backend
    x, losses = backend.empty((batch, model.input_dim)), backend.zeros((len(model.phases),))
    optimizers = [Adam(model.moved(phase)) for phase in model.phases]

    def step() -> None:
        for i, (_, loss) in enumerate(model.step(Batch({"x": x}, model.draws, {}, model.generator))):
            optimizers[i].advance()
            loss.backward(optimizers[i])
            backend.launch("copy", (loss.buffer, losses.rows(i, i + 1)), (1, 0))
        model.generator.advance()

    return step, x, losses


def plan_bytes(plan: Plan) -> int:
    """Bytes that the launches of a plan must move at least, each by itself, from the op table."""
    return sum(OPS[c.name].bytes(dict(zip(OPS[c.name].dims, c.dims, strict=True))) for c in plan.calls)


def plan_buffers(plan: Plan) -> int:
    """Bytes of all buffers that the launches of a plan touch, each once."""
    buffers = {buffer.pointer: buffer for call in plan.calls for buffer in call.buffers}
    return sum(buffer.storage.nbytes for buffer in buffers.values())
