"""Draws of a Gaussian posterior."""

from __future__ import annotations

import numpy as np

from .common import Array, store


def gaussian_sample(params: Array, eps: Array, z: Array, B: int, Z: int) -> None:
    """z = mean + exp(logvar / 2) eps, params = [mean | logvar]."""
    z[...] = params[:, 0] + np.exp(params[:, 1] / 2) * eps


def gaussian_sample_backward(dz: Array, params: Array, eps: Array, dparams: Array, B: int, Z: int, beta: int) -> None:
    """dmean = beta dmean + dz, dlogvar = beta dlogvar + dz eps exp(logvar / 2) / 2."""
    store(dparams[:, 0], dz, beta)
    store(dparams[:, 1], dz * eps * np.exp(params[:, 1] / 2) / 2, beta)
