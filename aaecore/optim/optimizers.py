"""Optimizers. What changes from step to step (step count, learning rate, bias corrections) lives in a small buffer.

A step is `advance()`, then `loss.backward(optimizer)`; or `loss.backward(parameters=optimizer.parameters)`, perhaps
`clip_grad_norm`, then `step()`. Both give the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from ..arguments import number
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.ops import BETA1, BETA2, EPS, GRAD_SCALE, LR, MOMENTUM, STATE_SIZE, STEP, op_of
from ..functions.tensor import Parameter


class Optimizer(ABC):
    """Moves a fixed list of parameters. Moments have the parameters' layout and start at zero."""

    moment_names: ClassVar[tuple[str, ...]]
    advance_op: ClassVar[str]
    step_op: ClassVar[str]

    def __init__(self, parameters: Sequence[Parameter], lr: float) -> None:
        self.parameters: Sequence[Parameter] = tuple(parameters)
        if not self.parameters:
            raise ValueError("parameters: expected at least one parameter, got none")
        self.backend = self.parameters[0].backend
        self.moments = {
            name: {id(p): self.backend.zeros(p.shape, p.buffer.kind) for p in self.parameters}
            for name in self.moment_names
        }
        self.state = self.backend.zeros((STATE_SIZE,), "float64")
        self._set_state(GRAD_SCALE, 1.0)
        self.lr = lr

    def _set_state(self, index: int, value: float) -> None:
        state = self.backend.to_host(self.state)
        state[index] = value
        self.backend.upload(self.state, state)

    @property
    def lr(self) -> float:
        """The learning rate: of the last step that a trainer made with it, or of the next one by hand.

        What is set is also `base_lr`, which a trainer's schedule scales from the next step on.
        """
        self.backend.host_access("lr")
        return float(self.backend.to_host(self.state)[LR])

    @lr.setter
    def lr(self, value: float) -> None:
        self.backend.host_access("lr")
        self.base_lr = value
        self._set_state(LR, self.base_lr)

    @property
    def base_lr(self) -> float:
        """The learning rate that a trainer's schedule scales."""
        return self._base_lr

    @base_lr.setter
    def base_lr(self, value: float) -> None:
        self._base_lr = number("lr", value, 0.0)

    @property
    def steps(self) -> int:
        """How many steps were made."""
        self.backend.host_access("steps")
        return int(self.backend.to_host(self.state)[STEP])

    def advance(self) -> None:
        """Begins a step: counts it and makes what depends on the count."""
        self.backend.launch(self.advance_op, (self.state,))

    def step(self) -> None:
        """Moves every parameter by its stored gradient."""
        self.update(self.parameters)

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Moves the given parameters by their stored gradients."""
        for p in parameters:
            flat = [b.flat() for b in (p.buffer, p.gradient(), *(m[id(p)] for m in self.moments.values()))]
            self.backend.launch(self.step_op, (*flat, self.state), (flat[0].size,))

    def fused_linear(self, weight: Parameter, bias: Parameter, x: Buffer, dy: Buffer, precision: str) -> bool:
        """Updates a linear layer while its gradient is made; False if this optimizer cannot."""
        return False

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What makes an equal optimizer, as plain values: {"type": ..., hyper-parameters}."""


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1) with PyTorch's defaults; bias corrections in double precision.

    Args:
        parameters: what to move.
        lr: learning rate, >= 0.
        betas: decay rates of the moments, each in [0, 1).
        eps: added to the root of the corrected second moment, > 0.
    """

    moment_names = ("m", "v")
    advance_op = "adam_advance"
    step_op = "adam_step"

    def __init__(
        self, parameters: Sequence[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        if len(betas) != 2:
            raise ValueError(f"betas: expected two numbers, got {betas!r}")
        self._set_state(BETA1, number("betas[0]", betas[0], 0.0, 1.0))
        self._set_state(BETA2, number("betas[1]", betas[1], 0.0, 1.0))
        self._set_state(EPS, number("eps", eps, 0.0, open_low=True))

    def fused_linear(self, weight: Parameter, bias: Parameter, x: Buffer, dy: Buffer, precision: str) -> bool:
        m, v = self.moments["m"], self.moments["v"]
        moved = [b for p in (weight, bias) for b in (p.buffer, m[id(p)], v[id(p)])]
        buffers = (x, dy, *moved, self.state)
        dims = (x.shape[0], weight.shape[1], weight.shape[0])
        self.backend.launch(op_of("linear_backward_weight_adam", precision), buffers, dims)
        return True

    def config(self) -> dict[str, Any]:
        s = self.backend.to_host(self.state)
        return {"type": "Adam", "lr": self.lr, "betas": [float(s[BETA1]), float(s[BETA2])], "eps": float(s[EPS])}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: velocity = momentum velocity + g; p -= lr velocity.

    Args:
        parameters: what to move.
        lr: learning rate, >= 0.
        momentum: in [0, 1).
    """

    moment_names = ("velocity",)
    advance_op = "sgd_advance"
    step_op = "sgd_step"

    def __init__(self, parameters: Sequence[Parameter], lr: float = 1e-2, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr)
        self._set_state(MOMENTUM, number("momentum", momentum, 0.0, 1.0))

    def config(self) -> dict[str, Any]:
        return {"type": "SGD", "lr": self.lr, "momentum": float(self.backend.to_host(self.state)[MOMENTUM])}


class Passive(Optimizer):
    """Of a phase that moves nothing: it counts steps and has a learning rate, which a model may use in a ratio."""

    moment_names = ()
    advance_op = "sgd_advance"

    def __init__(self, backend: Backend, lr: float) -> None:
        self.parameters, self.moments, self.backend = (), {}, backend
        self.state = backend.zeros((STATE_SIZE,), "float64")
        self.lr = lr

    def config(self) -> dict[str, Any]:
        return {"type": "Passive", "lr": self.lr}


OPTIMIZERS: dict[str, type[Optimizer]] = {"Adam": Adam, "SGD": SGD, "Passive": Passive}
