"""What several formulas need: accumulation, and activations with their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.ops import LEAKY_RELU, RELU, SIGMOID, TANH

Array = NDArray[Any]


def store(out: Array, value: Array, beta: int) -> None:
    out[...] = out + value if beta else value  # with beta 0 `out` is not read: it may hold NaN


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, e, 1) / (1 + e)


def activate(x: Array, act: int, slope: float) -> Array:
    if act == RELU:
        return np.where(x < 0, 0, x)
    if act == LEAKY_RELU:
        return np.where(x < 0, slope * x, x)
    if act == SIGMOID:
        return sigmoid(x)
    if act == TANH:
        return np.tanh(x)
    return x


def derivative(y: Array, act: int, slope: float) -> Array:
    """act'(x) from the activation's OUTPUT y; at the kink of ReLU it is 0 (ReLU) or slope (leaky), as in PyTorch."""
    if act == RELU:
        return (y > 0).astype(y.dtype)
    if act == LEAKY_RELU:
        return np.where(y > 0, 1, slope).astype(y.dtype)
    if act == SIGMOID:
        return y * (1 - y)
    if act == TANH:
        return 1 - y * y
    return np.ones_like(y)
