"""Arrays from files, by the ending of their names."""

from __future__ import annotations

import math
import os

import numpy as np

from .hdf5 import load_hdf5
from .idx import read_idx
from .reading import reading

KINDS = "a file .h5, .npy or ...-ubyte[.gz]"


def load_array(path: str, dataset: str = "x", *, name: str = "input", expected: str = KINDS) -> np.ndarray:
    """The array in a .npy, .h5 or IDX file; `name` and `expected` are for the message about another kind of file.

    Raises:
        ValueError: another kind of file. DataError: it cannot be read.
    """
    file = os.path.basename(path).lower()
    if file.endswith((".h5", ".hdf5")):
        return load_hdf5(path, dataset)
    if file.endswith(".npy"):
        with reading(path, "NumPy file") as opened:
            with open(opened, "rb") as stream:  # np.load would also take a .npz
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    if file.endswith(("ubyte", "ubyte.gz")):
        return read_idx(path)
    raise ValueError(f"{name}: expected {expected}, got {path!r}")


def flattened(rows: np.ndarray) -> np.ndarray:
    """(N, ...) images as rows (N, features)."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])) if rows.ndim > 2 else rows
