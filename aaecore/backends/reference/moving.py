"""Copies, and what moves on from step to step."""

from __future__ import annotations

import numpy as np

from ...core.ops import LR
from .common import Array, store


def copy_columns(
    src: Array, dst: Array, B: int, cols: int, src_cols: int, src_at: int, dst_cols: int, dst_at: int, beta: int
) -> None:
    """dst[:, dst_at : dst_at + cols] = beta dst[...] + src[:, src_at : src_at + cols]."""
    store(dst[:, dst_at : dst_at + cols], src[:, src_at : src_at + cols], beta)


def copy(src: Array, dst: Array, N: int, beta: int) -> None:
    """dst = beta dst + src."""
    store(dst, src, beta)


def fill(x: Array, N: int, value: float) -> None:
    """x = value."""
    x[...] = value


def scale(x: Array, N: int, factor: float) -> None:
    """x = factor x."""
    x *= factor


def scale_by(x: Array, factor: Array, y: Array, N: int) -> None:
    """y = x factor, where factor is an array of one number."""
    y[...] = x * factor


def to_real(x: Array, y: Array, factor: float) -> None:
    """y = x factor, from float64."""
    y[...] = x * factor


def standardise(x: Array, mean: Array, scale: Array, y: Array, B: int, N: int) -> None:
    """y = (x - mean) scale, where scale is an array of one number."""
    y[...] = (x - mean) * scale


def average(x: Array, rate: Array, average: Array, N: int) -> None:
    """average += rate (x - average), where rate is an array of one number."""
    average += rate * (x - average)


def add_direction(x: Array, d: Array, y: Array, B: int, N: int, length: float) -> None:
    """y = x + length d / |d|, row by row, the norm in double; a row d of zeros adds nothing."""
    norm = np.sqrt(np.sum(d.astype(np.float64) ** 2, axis=1, keepdims=True))
    y[...] = x + d * (length / np.where(norm == 0, 1, norm)).astype(d.dtype)


def gather_rows(
    source: Array, index: Array, cursor: Array, out: Array, M: int, N: int, P: int, B: int, scale: float
) -> None:
    """out[r] = source[index[cursor + r]] scale, r < B.

    Raises:
        IndexError: the index ends before cursor + B, or one of them is no row.
    """
    first = int(cursor[0])
    if not 0 <= first <= P - B or ((index[first : first + B] < 0) | (index[first : first + B] >= M)).any():
        raise IndexError("gather_rows: expected indices of rows that are there, got others")
    out[...] = source[index[first : first + B]].astype(out.dtype) * scale


gather_rows_u8 = gather_rows  # the same formula on bytes


def cursor_advance(cursor: Array, by: int) -> None:
    """cursor += by."""
    cursor += by


def log_value(value: Array, at: Array, log: Array, M: int, N: int, column: int) -> None:
    """log[at modulo M, column] = value."""
    log[at[0] % M, column] = value[0]


def take_rate(rates: Array, at: Array, state: Array, M: int, N: int, column: int) -> None:
    """The learning rate of the optimizer with this state = rates[at modulo M, column]."""
    state[LR] = rates[at[0] % M, column]
