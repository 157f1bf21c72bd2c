"""The order of the rows in an epoch."""

from __future__ import annotations

import operator

import numpy as np


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in one epoch: a permutation of range(n), int64 (n,).

    A pure function of its arguments: no state is kept, so a resumed run sees the same batches. Each row gets a 64-bit
    word of the counter-based Philox4x64 with key (seed, epoch), and the rows are sorted by their words. The words are
    those of the published algorithm, so the order is the same on every machine and with every release of NumPy.

    Raises:
        ValueError: `n` is negative, or `seed` or `epoch` is outside 0 .. 2**64 - 1.
        TypeError: one of them is not an integer.
    """
    n, seed, epoch = operator.index(n), operator.index(seed), operator.index(epoch)
    if n < 0:
        raise ValueError(f"n: expected an integer >= 0, got {n}")
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{name}: expected an integer within 0 .. 2**64 - 1, got {value}")
    key = np.array([seed, epoch], np.uint64)
    words = np.random.Philox(key=key).random_raw(n)
    # The stable order of the words, but by their first 16 bits first: NumPy sorts those by radix, and what is nearly in
    # order fast too. It takes a quarter of the time of one sort, which an epoch of a small network would show.
    roughly = np.argsort((words >> np.uint64(48)).astype(np.uint16), kind="stable")
    return roughly[np.argsort(words[roughly], kind="stable")].astype(np.int64, copy=False)
