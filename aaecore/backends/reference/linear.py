"""Linear layers with their gradients, and the rounding of their factors."""
# ruff: noqa: E741  (I and O are the shape letters of the op table)

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from .common import Array, activate, derivative, store
from .optimizers import adam


def linear_forward(
    x: Array, weight: Array, bias: Array, y: Array, B: int, I: int, O: int, act: int, slope: float
) -> None:
    """y = act(x W^T + b)."""
    y[...] = activate(x @ weight.T + bias, act, slope)


def linear_backward_input(
    dy: Array, weight: Array, x: Array, dx: Array, B: int, I: int, O: int, act: int, beta: int, slope: float
) -> None:
    """dx = beta dx + (dy W) act'(x), where x is the output of the activation `act` before this layer."""
    store(dx, (dy @ weight) * derivative(x, act, slope), beta)


def linear_backward_weight(
    x: Array, dy: Array, dweight: Array, dbias: Array, B: int, I: int, O: int, beta: int
) -> None:
    """dW = beta dW + dy^T x, db = beta db + sum_rows dy."""
    store(dweight, dy.T @ x, beta)
    store(dbias, dy.sum(axis=0), beta)


def linear_backward_weight_adam(
    x: Array, dy: Array, weight: Array, m_weight: Array, v_weight: Array, bias: Array, m_bias: Array, v_bias: Array,
    state: Array, B: int, I: int, O: int,
) -> None:  # fmt: skip
    """Adam with g = dy^T x on the weight and g = sum_rows dy on the bias."""
    adam(weight, dy.T @ x, m_weight, v_weight, state)
    adam(bias, dy.sum(axis=0), m_bias, v_bias, state)


def _bfloat16(x: Array) -> Array:
    """x rounded to 8 significant bits, to nearest, ties to even: the upper half of its float32. NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


def _tfloat32(x: Array) -> Array:
    """x rounded to 11 significant bits, to nearest, ties away from zero. NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


ROUNDINGS: Final = MappingProxyType({"tf32": _tfloat32, "bf16": _bfloat16})


def in_precision(precision: str, function: Callable[..., None]) -> Callable[..., None]:
    """The function with its first two arguments, the factors of its products, rounded to a precision."""
    if precision not in ROUNDINGS:
        return function
    rounded = ROUNDINGS[precision]

    @wraps(function)
    def with_factors(x: Array, y: Array, *rest: Any) -> None:
        function(rounded(x), rounded(y), *rest)

    return with_factors


def activation_backward(dy: Array, y: Array, dx: Array, N: int, act: int, beta: int, slope: float) -> None:
    """dx = beta dx + dy act'(x), y = act(x)."""
    store(dx, dy * derivative(y, act, slope), beta)
