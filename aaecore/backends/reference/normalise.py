"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1), fused with the activation behind it."""

from __future__ import annotations

import numpy as np

from .common import Array, activate


def _normalised(x: Array, moments: Array, eps: float) -> tuple[Array, Array]:
    """(x - mean) / sqrt(variance + eps), and that root's inverse."""
    factor = 1 / np.sqrt(moments[1] + eps)
    return (x - moments[0]) * factor, factor


def batch_norm_forward(
    x: Array, gamma: Array, shift: Array, y: Array, moments: Array, B: int, F: int, act: int, slope: float, eps: float
) -> None:
    """moments = mean and variance of every column, that of B rows divided by B; y as `batch_norm_apply`."""
    moments[0] = x.sum(axis=0) / B  # x.mean() would divide in float64
    away = x - moments[0]
    moments[1] = np.sum(away * away, axis=0) / B
    batch_norm_apply(x, gamma, shift, moments, y, B, F, act, slope, eps)


def batch_norm_apply(
    x: Array, gamma: Array, shift: Array, moments: Array, y: Array, B: int, F: int, act: int, slope: float, eps: float
) -> None:
    """y = act(gamma (x - mean) / sqrt(variance + eps) + shift)."""
    y[...] = activate(gamma * _normalised(x, moments, eps)[0] + shift, act, slope)


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, moments: Array, dx: Array, dgamma: Array, dshift: Array, B: int, F: int,
    eps: float,
) -> None:  # fmt: skip
    """dgamma = sum dy n, dshift = sum dy, dx = gamma / sqrt(variance + eps) (dy - (dshift + n dgamma) / B), where n are
    the normalised numbers and dy is the gradient before the activation."""
    normalised, factor = _normalised(x, moments, eps)
    dgamma[...] = np.sum(dy * normalised, axis=0)
    dshift[...] = np.sum(dy, axis=0)
    dx[...] = gamma * factor * (dy - (dshift + normalised * dgamma) / B)
