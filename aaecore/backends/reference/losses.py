"""Losses: value and gradient in one pass."""

from __future__ import annotations

import numpy as np

from .common import Array, derivative, sigmoid


def half_squared_error(
    y: Array, target: Array, dy: Array, loss: Array, B: int, N: int, act: int, slope: float, weight: float
) -> None:
    """loss = weight / (2 B) sum (y - target)^2; dy = weight / B (y - target) act'(x), y = act(x)."""
    error = y - target
    loss[...] = weight / (2 * B) * np.sum(error * error)
    dy[...] = weight / B * error * derivative(y, act, slope)


def _bce(logits: Array, target: Array) -> Array:
    return np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))


def bce_logits(logits: Array, target: Array, dlogits: Array, loss: Array, B: int, N: int, weight: float) -> None:
    """loss = weight / B sum [max(l, 0) - l t + log(1 + exp(-|l|))]; dl = weight / B (sigmoid(l) - t)."""
    loss[...] = weight / B * np.sum(_bce(logits, target))
    dlogits[...] = weight / B * (sigmoid(logits) - target)


def adversarial_bce(logits: Array, dlogits: Array, loss: Array, B: int, real: int, weight: float) -> None:
    """loss = weight (mean of bce(l, 1) over rows < real + mean of bce(l, 0) over the others); no rows, no term."""
    is_real = np.arange(B) < real
    target = is_real.astype(logits.dtype)
    rows = np.where(is_real, real, B - real).astype(logits.dtype)
    loss[...] = weight * np.sum(_bce(logits, target) / rows)
    dlogits[...] = weight * (sigmoid(logits) - target) / rows


def gaussian_kl(
    params: Array, dparams: Array, loss: Array, B: int, Z: int, mean: float, precision: float, offset: float,
    weight: float,
) -> None:  # fmt: skip
    """loss = weight / B sum (1/2 [precision (v + (m - mean)^2) - 1 - ln v] + offset), params = [m | ln v];
    dm = weight / B precision (m - mean), dln v = weight / (2 B) (precision v - 1).

    Kingma & Welling (2014), appendix B.
    """
    away, log_variance = params[:, 0] - mean, params[:, 1]
    variance = np.exp(log_variance)
    terms = (precision * (variance + away * away) - 1 - log_variance) / 2 + offset
    loss[...] = weight / B * np.sum(terms)
    dparams[:, 0] = weight / B * precision * away
    dparams[:, 1] = weight / (2 * B) * (precision * variance - 1)


def mixture_nll(
    z: Array, log_scales: Array, means: Array, whitening: Array, dz: Array, loss: Array, B: int, Z: int, C: int,
    weight: float,
) -> None:  # fmt: skip
    """loss = -weight / B sum ln p, ln p = ln sum_c exp(log_scales_c - |y_c|^2 / 2), y_c = whitening_c (z - means_c);
    dz = weight / B sum_c r_c whitening_c^T y_c, where r_c is the share of component c in p."""
    y = np.einsum("cjk,bck->bcj", whitening, z[:, None] - means)
    terms = log_scales - np.sum(y * y, axis=2) / 2
    largest = terms.max(axis=1, keepdims=True)  # taken out, so that no exp overflows and not all are 0
    log_density = largest + np.log(np.sum(np.exp(terms - largest), axis=1, keepdims=True))
    shares = np.exp(terms - log_density)
    loss[...] = -weight / B * np.sum(log_density)
    dz[...] = weight / B * np.einsum("cjk,bcj->bk", whitening, shares[:, :, None] * y)
