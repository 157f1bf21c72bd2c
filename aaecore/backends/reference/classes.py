"""Classes and clusters: softmax, its cross-entropy, and heads of clusters."""

from __future__ import annotations

import numpy as np

from .common import Array, store


def _shifted(logits: Array) -> tuple[Array, Array]:
    """Logits without the largest of their row, and the sum of their exponentials: no exp overflows, not all are 0."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted, np.exp(shifted).sum(axis=1, keepdims=True)


def softmax(logits: Array, p: Array, B: int, C: int) -> None:
    """p = exp(logits) / sum over the row."""
    shifted, total = _shifted(logits)
    p[...] = np.exp(shifted) / total


def softmax_backward(dp: Array, p: Array, dlogits: Array, B: int, C: int, beta: int) -> None:
    """dlogits = beta dlogits + p (dp - sum over the row of p dp)."""
    store(dlogits, p * (dp - np.sum(p * dp, axis=1, keepdims=True)), beta)


def softmax_cross_entropy(
    logits: Array, target: Array, dlogits: Array, loss: Array, B: int, C: int, weight: float
) -> None:
    """loss = weight / B sum target (lse - logits); dlogits = weight / B (softmax(logits) sum of the row's target -
    target)."""
    shifted, total = _shifted(logits)
    loss[...] = weight / B * np.sum(target * (np.log(total) - shifted))
    dlogits[...] = weight / B * (np.exp(shifted) / total * target.sum(axis=1, keepdims=True) - target)


def add_product(y: Array, heads: Array, z: Array, out: Array, B: int, C: int, Z: int) -> None:
    """out = z + y heads."""
    out[...] = z + np.einsum("bc,cz->bz", y, heads)


def add_product_backward(dout: Array, heads: Array, dy: Array, B: int, C: int, Z: int, beta: int) -> None:
    """dy = beta dy + dout heads^T."""
    store(dy, np.einsum("bz,cz->bc", dout, heads), beta)


def add_product_backward_heads(y: Array, dout: Array, dheads: Array, B: int, C: int, Z: int, beta: int) -> None:
    """dheads = beta dheads + y^T dout."""
    store(dheads, np.einsum("bc,bz->cz", y, dout), beta)


def head_hinge(heads: Array, dheads: Array, loss: Array, C: int, Z: int, least: float, weight: float) -> None:
    """loss = weight sum over i < j of max(0, least - |heads_i - heads_j|), section 7 of Makhzani et al. (2015)."""
    apart = heads[:, None] - heads
    distance = np.sqrt(np.sum(apart * apart, axis=2))
    other = ~np.eye(C, dtype=bool)
    loss[...] = weight / 2 * np.sum(np.maximum(least - distance, 0), where=other)
    near = (distance < least) & (distance > 0)
    pull = np.where(near, 1 / np.where(near, distance, 1), 0).astype(heads.dtype)
    pull[np.isnan(distance)] = np.nan
    dheads[...] = -weight * np.sum(pull[:, :, None] * apart, axis=1)
