"""Steps of optimizers."""

from __future__ import annotations

import numpy as np

from ...core.ops import BETA1, BETA2, EPS, GRAD_SCALE, INV_SQRT_BC2, LR, MOMENTUM, STEP, STEP_SIZE
from .common import Array, store


def adam_advance(state: Array) -> None:
    """step += 1, grad_scale = 1, step_size = lr / (1 - beta1^step), inv_sqrt_bc2 = 1 / sqrt(1 - beta2^step)."""
    state[STEP] += 1
    state[GRAD_SCALE] = 1
    state[STEP_SIZE] = state[LR] / (1 - state[BETA1] ** state[STEP])
    state[INV_SQRT_BC2] = 1 / np.sqrt(1 - state[BETA2] ** state[STEP])


def adam(p: Array, g: Array, m: Array, v: Array, state: Array) -> None:
    s: list[float] = state.tolist()  # Python floats do not promote float32 arrays; float64 scalars would
    g = g * s[GRAD_SCALE]
    m[...] = s[BETA1] * m + (1 - s[BETA1]) * g
    v[...] = s[BETA2] * v + (1 - s[BETA2]) * (g * g)
    p -= s[STEP_SIZE] * m / (np.sqrt(v) * s[INV_SQRT_BC2] + s[EPS])


def adam_step(p: Array, g: Array, m: Array, v: Array, state: Array, N: int) -> None:
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= step_size m / (sqrt(v) inv_sqrt_bc2 + eps); g is scaled."""
    adam(p, g, m, v, state)


def sgd_advance(state: Array) -> None:
    """step += 1, grad_scale = 1."""
    state[STEP] += 1
    state[GRAD_SCALE] = 1


def sgd_step(p: Array, g: Array, velocity: Array, state: Array, N: int) -> None:
    """velocity = momentum velocity + grad_scale g; p -= lr velocity."""
    s: list[float] = state.tolist()
    velocity[...] = s[MOMENTUM] * velocity + s[GRAD_SCALE] * g
    p -= s[LR] * velocity


def sum_squares(x: Array, total: Array, N: int, beta: int) -> None:
    """total = beta total + sum x^2, summed in float64 whatever the dtype of x."""
    store(total, np.sum(np.square(x, dtype=np.float64)), beta)


def clip_scale(total: Array, state: Array, max_norm: float) -> None:
    """grad_scale = min(1, max_norm / (sqrt(total) + 1e-6)); NaN stays NaN."""
    state[GRAD_SCALE] = np.minimum(1.0, max_norm / (np.sqrt(total[0]) + 1e-6))
