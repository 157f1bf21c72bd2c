"""Bounds on the norm of gradients (Pascanu et al. 2013, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..arguments import number
from ..core.memory import Buffer
from ..functions.tensor import Parameter
from .optimizers import Optimizer


def clip_grad_norm(optimizer: Optimizer, max_norm: float, parameters: Sequence[Parameter] | None = None) -> None:
    """Makes the next `step()` scale its gradients so that their global 2-norm is at most `max_norm`.

    The norm is that of all of the optimizer's parameters, or of those given. It is summed in double precision in a
    fixed order; the gradients themselves stay as they are.
    """
    number("max_norm", max_norm, 0.0, open_low=True)
    backend = optimizer.backend
    total = backend.empty((1,), "float64")
    for i, p in enumerate(optimizer.parameters if parameters is None else parameters):
        flat = p.gradient().flat()
        backend.launch("sum_squares", (flat, total), (flat.size, int(i > 0)))
    backend.launch("clip_scale", (total, optimizer.state), (), (max_norm,))


class Clipped:
    """An optimizer whose steps are of gradients with a global 2-norm of at most `max_norm`.

    The norm is known when all gradients are, so nothing is updated where its gradient is made.
    """

    def __init__(self, optimizer: Optimizer, max_norm: float) -> None:
        self.optimizer, self.max_norm = optimizer, number("max_norm", max_norm, 0.0, open_low=True)

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What it moves."""
        return self.optimizer.parameters

    def fused_linear(self, weight: Parameter, bias: Parameter, x: Buffer, dy: Buffer, precision: str) -> bool:
        """False: the gradient is stored."""
        return False

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Moves the given parameters by their stored gradients, clipped together."""
        given = {id(p) for p in parameters}
        moved = [p for p in self.parameters if id(p) in given]  # in the optimizer's order, in which they are summed
        clip_grad_norm(self.optimizer, self.max_norm, moved)
        self.optimizer.update(moved)
