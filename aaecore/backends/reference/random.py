"""Random numbers: Philox4x32-10 and what is made of its words."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from .common import Array, store


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
    random_mixture_of(rng, cumulative, means, factors, np.empty((B, 0)), out, B, Z, C, 0, 0, stream)


def _classes(like: Array, classes: int) -> Array:
    """The first column of each row with a number above 1/2, if it is one of the classes, else -1."""
    above = np.concatenate((like > 0.5, np.ones((len(like), 1), bool)), axis=1)  # the last for rows without
    found = np.argmax(above, axis=1)
    return np.where(found < min(classes, like.shape[1]), found, -1)


def random_mixture_of(
    rng: Array, cumulative: Array, means: Array, factors: Array, like: Array, out: Array, B: int, Z: int, C: int,
    K: int, classes: int, stream: int,
) -> None:  # fmt: skip
    """As random_mixture, but a row whose class is c < classes has component c."""
    words = _rows(rng, stream, B, 1 + -(-Z // 4))
    drawn = _choose(_uniform01(words[:, 0, 0], out.dtype), cumulative)
    given = _classes(like, classes)
    c = np.where(given < 0, drawn, given)
    n = _normal_rows(words[:, 1:], Z, out.dtype)
    out[...] = means[c] + np.einsum("bij,bj->bi", factors[c], n)


def random_swiss_roll(
    rng: Array, out: Array, B: int, stream: int, turns_from: float, turns_to: float, radius: float, noise: float
) -> None:
    """t = from + (to - from) sqrt(u); out = radius t / to (cos, sin)(2 pi t) + noise n; u: word 0, n: words 2 and 3."""
    random_swiss_roll_of(rng, np.empty((B, 0)), out, B, 0, 1, stream, turns_from, turns_to, radius, noise)


def random_swiss_roll_of(
    rng: Array, like: Array, out: Array, B: int, K: int, parts: int, stream: int, turns_from: float, turns_to: float,
    radius: float, noise: float,
) -> None:  # fmt: skip
    """As random_swiss_roll, but u becomes (c + u) / parts in a row whose class is c < parts."""
    words = _rows(rng, stream, B, 1)[:, 0]
    c, u = _classes(like, parts)[:, None], _uniform01(words[:, :1], out.dtype)
    u = np.where(c < 0, u, (c.astype(out.dtype) + u) / parts)
    t = turns_from + (turns_to - turns_from) * np.sqrt(u)
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


def random_bernoulli(rng: Array, probability: Array, out: Array, N: int, stream: int) -> None:
    """out = 1 where u < probability, else 0; element i takes word i % 4 of block i // 4."""
    out[...] = _uniform01(_rows(rng, stream, -(-N // 4), 1).reshape(-1)[:N], out.dtype) < probability


def add_noise(rng: Array, x: Array, y: Array, N: int, stream: int, std: float) -> None:
    """y = x + std n; element i takes normal i % 4 of block i // 4."""
    y[...] = x + std * _normals(_rows(rng, stream, -(-N // 4), 1), y.dtype).reshape(-1)[:N]


def dropout(rng: Array, x: Array, y: Array, N: int, stream: int, beta: int, rate: float) -> None:
    """y = beta y + x / (1 - rate) where u >= rate, else 0; element i takes word i % 4 of block i // 4."""
    u = _uniform01(_rows(rng, stream, -(-N // 4), 1).reshape(-1)[:N], y.dtype)
    store(y, np.where(u >= y.dtype.type(rate), x * y.dtype.type(1 / (1 - rate)), 0), beta)


def translate(rng: Array, x: Array, y: Array, B: int, N: int, height: int, width: int, most: int, stream: int) -> None:
    """Images (height, width, N / (height width)) moved by floor((2 most + 1) u) - most pixels down and right, u of
    words 0 and 1 of block r; 0 comes in."""
    u = _uniform01(_rows(rng, stream, B, 1)[:, 0, :2], np.float32)  # exact: the moves are the same on every device
    moves = np.floor(np.float32(2 * most + 1) * u).astype(np.int64) - most
    images, moved = x.reshape(B, height, width, -1), y.reshape(B, height, width, -1)
    moved[...] = 0
    for row, (down, right) in enumerate(moves):
        kept = [slice(max(n, 0), max(size + min(n, 0), 0)) for n, size in ((down, height), (right, width))]
        come = [slice(max(-n, 0), max(size - max(n, 0), 0)) for n, size in ((down, height), (right, width))]
        moved[row, kept[0], kept[1]] = images[row, come[0], come[1]]


def rng_advance(rng: Array) -> None:
    """counter += 1, modulo 2^64."""
    rng[1:] += np.uint64(1)
