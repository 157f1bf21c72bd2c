"""Random numbers: Philox4x32-10 and what is made of its words."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from .common import Array


def philox(seed: int, counter: int, stream: int, blocks: Array) -> Array:
    """Philox4x32-10 (Salmon et al. 2011), counter (block, stream, counter low, high), key seed: (blocks, 4) words.

    They are uint64 below 2^32, so that a product of two 32-bit words fits.
    """
    low = 0xFFFFFFFF
    c0 = np.asarray(blocks, np.uint64) & low
    c1, c2, c3 = (np.full_like(c0, word & low) for word in (stream, counter, counter >> 32))
    k0, k1 = seed & low, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return np.stack((c0, c1, c2, c3), axis=-1)


def _rows(rng: Array, stream: int, rows: int, blocks_per_row: int) -> Array:
    """The words of `rows` rows that own `blocks_per_row` consecutive blocks each: (rows, blocks_per_row, 4)."""
    blocks = np.arange(rows * blocks_per_row, dtype=np.uint64)
    return philox(int(rng[0]), int(rng[1]), stream, blocks).reshape(rows, blocks_per_row, 4)


def _uniform01(words: Array, dtype: DTypeLike) -> Array:
    return (words >> 8).astype(dtype) * 2.0**-24  # [0, 1), exact in float32


def _normals(words: Array, dtype: DTypeLike) -> Array:
    """Box-Muller on pairs of words (u, w): sqrt(-2 ln u) (cos, sin)(2 pi w), u in (0, 1], w in [0, 1)."""
    r = np.sqrt(-2 * np.log(_uniform01(words[..., 0::2] + 256, dtype)))
    angle = 2 * np.pi * _uniform01(words[..., 1::2], dtype)
    return np.stack((r * np.cos(angle), r * np.sin(angle)), axis=-1).reshape(words.shape)


def _normal_rows(words: Array, Z: int, dtype: DTypeLike) -> Array:
    return _normals(words, dtype).reshape(len(words), -1)[:, :Z]


def _choose(u: Array, cumulative: Array) -> Array:
    """The first c with u < cumulative[c], or the last."""
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)


def random_uniform(rng: Array, out: Array, N: int, stream: int, low: float, high: float) -> None:
    """out = low + (high - low) u, u in [0, 1) with 24 bits; element i takes word i % 4 of block i // 4."""
    words = _rows(rng, stream, -(-N // 4), 1).reshape(-1)[:N]
    out[...] = low + (high - low) * _uniform01(words, out.dtype)


def random_normal(rng: Array, out: Array, N: int, stream: int, mean: float, std: float) -> None:
    """out = mean + std n; element i takes normal i % 4 of block i // 4."""
    out[...] = mean + std * _normals(_rows(rng, stream, -(-N // 4), 1), out.dtype).reshape(-1)[:N]


def random_mixture(
    rng: Array, cumulative: Array, means: Array, factors: Array, out: Array, B: int, Z: int, C: int, stream: int
) -> None:
    """out = means[c] + factors[c] n, c by word 0 of the row's first block, n from the blocks after it."""
    words = _rows(rng, stream, B, 1 + -(-Z // 4))
    c = _choose(_uniform01(words[:, 0, 0], out.dtype), cumulative)
    n = _normal_rows(words[:, 1:], Z, out.dtype)
    out[...] = means[c] + np.einsum("bij,bj->bi", factors[c], n)


def random_swiss_roll(
    rng: Array, out: Array, B: int, stream: int, turns_from: float, turns_to: float, radius: float, noise: float
) -> None:
    """t = from + (to - from) sqrt(u); out = radius t / to (cos, sin)(2 pi t) + noise n; u: word 0, n: words 2 and 3."""
    words = _rows(rng, stream, B, 1)[:, 0]
    t = turns_from + (turns_to - turns_from) * np.sqrt(_uniform01(words[:, :1], out.dtype))
    angle = 2 * np.pi * (t - np.floor(t))  # whole turns off first: they would cost digits in float32
    spiral = radius * t / turns_to * np.concatenate((np.cos(angle), np.sin(angle)), axis=1)
    out[...] = spiral + noise * _normals(words, out.dtype)[:, 2:]


def random_hypersphere(rng: Array, out: Array, B: int, Z: int, stream: int, radius: float) -> None:
    """out = radius n / |n|, or radius times the first axis if n is 0; a row owns ceil(Z / 4) blocks."""
    n = _normal_rows(_rows(rng, stream, B, -(-Z // 4)), Z, out.dtype)
    n[~n.any(axis=1), 0] = 1
    out[...] = radius * n / np.linalg.norm(n, axis=1, keepdims=True)


def random_categorical(rng: Array, cumulative: Array, out: Array, B: int, C: int, stream: int) -> None:
    """out = one-hot rows of the class chosen by word 0 of block r."""
    c = _choose(_uniform01(_rows(rng, stream, B, 1)[:, 0, 0], out.dtype), cumulative)
    out[...] = np.arange(C) == c[:, None]


def rng_advance(rng: Array) -> None:
    """counter += 1, modulo 2^64."""
    rng[1:] += np.uint64(1)
