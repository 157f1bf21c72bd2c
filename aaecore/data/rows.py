"""The rows of data that a user gives: a NumPy array, or memory of the device, seen as a buffer.

What comes from the host goes back to it as NumPy arrays; what comes from the device stays there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.backend import Backend
from ..core.memory import Buffer
from ..functions.tensor import Tensor
from .arrays import as_matrix, is_bits

Rows = np.ndarray | Buffer
SAMPLE = 10_000  # rows that are looked at to know what the others are like
CHUNK = 1024  # rows at a time, so that memory does not grow with the data


def as_rows(
    backend: Backend, x: Any, name: str, features: int, *, unit_range: bool = False, otherwise: str = "",
    pixels: bool = True, whole: bool = False,
) -> Rows:  # fmt: skip
    """`x` (N, features) as float32 or uint8 rows: `data.as_matrix`, or without a copy if it is an array of the device.

    uint8 rows stand for 0..1 in steps of 1/255. Rows of only 0 and 1 may be meant as such numbers, or be dark pictures:
    of a `whole` data set they are an error, else a warning. Without `pixels` there are no pictures: whole numbers are
    plain numbers on the host, and no array of the device. The values of a device array are not checked, since looking
    at them would wait for the device.

    Raises:
        TypeError: not real numbers, or a device array of another dtype. ValueError: wrong shape or values.
    """
    if isinstance(x, Buffer) and x.backend is backend:
        return x  # checked before
    if not backend.has(x):
        matrix = as_matrix(x, name, features=features, unit_range=unit_range, otherwise=otherwise)
        if not pixels:
            return matrix.astype(np.float32, copy=False)
        if matrix.dtype == np.uint8 and is_bits(matrix):
            _say_of_bits(name, whole)
        return matrix
    try:
        rows = backend.adopt(x)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if rows.kind != "real" and not (pixels and rows.kind == "uint8"):
        expected = f"{backend.real} or uint8" if pixels else f"{backend.real}"
        raise TypeError(f"{name}: expected a device array of {expected}, got {rows.kind}")
    if len(rows.shape) != 2 or rows.shape[1] != features or len(rows) == 0:
        raise ValueError(f"{name}: expected shape (rows, {features}), at least one row, got {rows.shape}")
    return rows


def _say_of_bits(name: str, whole: bool) -> None:
    text = "uint8 is for images, 0..255, and the 0 and 1 that came would be read as 0 and 1/255; for columns of 0 and 1"
    text = f"{name}: {text} pass {name}.astype('float32'), for images that are so dark {name}.astype('float32') / 255"
    if whole:
        raise ValueError(text)
    warnings.warn(text, stacklevel=2)


def to_floats(backend: Backend, rows: Rows, start: int = 0, stop: int | None = None) -> Buffer:
    """Rows `start` to `stop` as a float buffer on the device; uint8 is scaled by 1/255. A copy, unless it is there."""
    part = rows.rows(start, len(rows) if stop is None else stop) if isinstance(rows, Buffer) else rows[start:stop]
    if isinstance(part, np.ndarray):
        if part.dtype != np.uint8:
            return backend.from_host(part)
        part = backend.wrap(part, "uint8")
    if part.kind != "uint8":
        return part
    out = backend.empty(part.shape)
    n, features = part.shape
    index, cursor = backend.wrap(np.arange(n), "int64"), backend.wrap(np.zeros(1, np.int64), "int64")
    backend.launch("gather_rows_u8", (part, index, cursor, out), (n, features, n, n), (1 / 255,))
    return out


def chunks(backend: Backend, *tables: Rows) -> Iterator[tuple[Tensor, ...]]:
    """The rows of tables of one length, a chunk at a time."""
    for start in range(0, len(tables[0]), CHUNK):
        stop = min(start + CHUNK, len(tables[0]))
        yield tuple(Tensor(to_floats(backend, rows, start, stop)) for rows in tables)


def map_chunks(
    backend: Backend, function: Callable[..., Tensor], rows: Rows, features: int, *beside: Rows
) -> Any:  # fmt: skip
    """`function` of all rows, and those beside them, a chunk at a time: (N, features) float32, where the rows are."""
    out = (
        backend.empty((len(rows), features))
        if isinstance(rows, Buffer)
        else np.empty((len(rows), features), np.float32)
    )
    for start, chunk in zip(range(0, len(rows), CHUNK), chunks(backend, rows, *beside), strict=True):
        result = function(*chunk)
        stop = start + len(result.buffer)
        if isinstance(out, Buffer):
            backend.copy(out.rows(start, stop), result.buffer)
        else:
            out[start:stop] = result.numpy()
    return backend.array(out) if isinstance(out, Buffer) else out


def spread(rows: Rows, most: int) -> np.ndarray:
    """The numbers of at most so many rows, spread over all, int64."""
    return np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)


def picked(backend: Backend, rows: Rows, index: np.ndarray) -> Buffer:
    """The rows of some numbers as a float buffer on the device; uint8 is scaled by 1/255."""
    if isinstance(rows, np.ndarray):
        return to_floats(backend, rows[index])
    out = backend.empty((len(index), rows.shape[1]))
    is_bytes = rows.kind == "uint8"
    buffers = (rows, backend.from_host(index, "int64"), backend.zeros((1,), "int64"), out)
    dims = (*rows.shape, len(index), len(index))
    backend.launch("gather_rows_u8" if is_bytes else "gather_rows", buffers, dims, (1 / 255 if is_bytes else 1.0,))
    return out


def moments(backend: Backend, rows: Rows, *, each: bool = False) -> tuple[np.ndarray, np.ndarray | float, int]:
    """Mean (features,) and standard deviation of rows spread over all, and how many these are.

    One standard deviation, of a feature on average, or one of `each` feature.
    """
    index = spread(rows, SAMPLE)
    chunks = [index[i : i + CHUNK] for i in range(0, len(index), CHUNK)]  # so that no copy grows with the data

    def part(chunk: np.ndarray) -> np.ndarray:
        return backend.to_host(picked(backend, rows, chunk)).astype(np.float64)

    mean = sum(part(chunk).sum(axis=0) for chunk in chunks) / len(index)
    if each:
        squares = sum(np.square(part(chunk) - mean).sum(axis=0) for chunk in chunks)
        return np.asarray(mean), np.sqrt(squares / len(index)), len(index)
    square = sum(float(np.square(part(chunk) - mean).sum()) for chunk in chunks)
    return np.asarray(mean), float(np.sqrt(square / (len(index) * len(mean)))), len(index)
