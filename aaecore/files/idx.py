"""IDX files of unsigned bytes: the format of MNIST."""

from __future__ import annotations

import io
import math
import os
import struct

import numpy as np

from ..errors import DataError
from .reading import DEFLATE_RATIO, reading

_IDX_MAX_DIMS = 8


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file of unsigned bytes (the format of MNIST), plain or gzip, told apart by content: uint8 array.

    Strict: the magic number, the dimensions and the exact length must agree, and a gzip file must be whole.
    Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".

    Raises:
        DataError: the file is missing, damaged or something else. The message names the file.
    """
    import gzip

    with reading(path, "IDX file") as file, open(file, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        limit = os.path.getsize(file) * (DEFLATE_RATIO if packed else 1)
        return _parse_idx(gzip.GzipFile(fileobj=raw) if packed else raw, limit)


def _parse_idx(stream: io.BufferedIOBase | io.BufferedReader, limit: int) -> np.ndarray:
    head = stream.read(4)
    if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not 1 <= head[3] <= _IDX_MAX_DIMS:
        raise DataError(f"not an IDX file of unsigned bytes: it starts with {head.hex() or 'nothing'}, not 000008..")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"ends inside its header of {head[3]} dimensions")
    shape = struct.unpack(f">{head[3]}I", sizes)
    count = math.prod(shape)
    if count == 0:
        raise DataError(f"is empty: shape {shape}")
    if count > limit:
        raise DataError(f"declares shape {shape}, {count} bytes, more than a file of this size can hold")
    values = np.empty(count, np.uint8)
    got = stream.readinto(values.data)
    if got != count or stream.read(1):  # reading to the end also makes gzip compare its checksum
        raise DataError(f"declares shape {shape}, {count} bytes, but holds {got if got < count else 'more'}")
    return values.reshape(shape)
