"""Bounds on the norm of gradients."""

from __future__ import annotations

from ..arguments import number
from .optimizers import Optimizer


def clip_grad_norm(optimizer: Optimizer, max_norm: float) -> None:
    """Makes the next `step()` scale its gradients so that their global 2-norm is at most `max_norm`.

    Pascanu et al. (2013), algorithm 1. The norm is summed in double precision in a fixed order; the gradients
    themselves stay as they are.
    """
    number("max_norm", max_norm, 0.0, open_low=True)
    backend = optimizer.backend
    total = backend.empty((1,), "float64")
    for i, p in enumerate(optimizer.parameters):
        flat = p.gradient().flat()
        backend.launch("sum_squares", (flat, total), (flat.size, int(i > 0)))
    backend.launch("clip_scale", (total, optimizer.state), (), (max_norm,))
