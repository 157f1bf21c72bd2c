"""Noise."""

from __future__ import annotations

from ..arguments import number
from ..core.random import Generator
from .tensor import Tensor, check_tensors


def noisy(x: Tensor, generator: Generator, std: float) -> Tensor:
    """x + std n with n standard normal, new at every step; x gets no gradient.

    Raises:
        ValueError, TypeError: std is no number >= 0, or x no tensor.
    """
    check_tensors(x=x)
    number("std", std, 0.0)
    out = generator.normal(x.shape, 0.0, std)
    x.backend.launch("copy", (x.buffer, out), (out.size, 1))
    return Tensor(out)
