"""Terms of the energies of Boltzmann machines, and what is added to the pre-activations of their units."""

from __future__ import annotations

import numpy as np

from .common import Array, activate


def add_bias(x: Array, bias: Array, y: Array, B: int, N: int, act: int, slope: float) -> None:
    """y = act(x + bias)."""
    y[...] = activate(x + bias, act, slope)


def bias_product(bias: Array, v: Array, dbias: Array, loss: Array, B: int, N: int, weight: float) -> None:
    """loss = weight / B sum over the rows of bias . v; dbias = weight / B sum over the rows of v."""
    loss[...] = weight / B * np.sum(v * bias)
    dbias[...] = weight / B * v.sum(axis=0)


def inner_product(x: Array, v: Array, dx: Array, loss: Array, B: int, N: int, weight: float) -> None:
    """loss = weight / B sum x v; dx = weight / B v."""
    loss[...] = weight / B * np.sum(x * v)
    dx[...] = weight / B * v
