"""Noise."""

from __future__ import annotations

from ..core.random import Generator
from .tensor import Tensor


def noisy(x: Tensor, generator: Generator, std: float) -> Tensor:
    """x + std n with n standard normal, new at every step; x gets no gradient."""
    out = generator.normal(x.shape, 0.0, std)
    x.backend.launch("copy", (x.buffer, out), (out.size, 1))
    return Tensor(out)
