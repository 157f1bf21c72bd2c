"""Arrays from and to files, by the ending of their names."""

from __future__ import annotations

import errno
import io
import math
import os

import numpy as np

from . import atomic
from .csv import load_csv
from .hdf5 import load_hdf5, opened
from .idx import read_idx
from .npy import load_npy
from .reading import DAMAGED

KINDS = "a file .h5, .npy, .csv or ...-ubyte[.gz]"


def load_array(path: str, dataset: str = "x", *, name: str = "input", expected: str = KINDS) -> np.ndarray:
    """The array in a .npy, .h5, .csv or IDX file; `name` and `expected` are for the message about another kind of file.

    Raises:
        ValueError: another kind of file. DataError: it cannot be read.
    """
    file = os.path.basename(path).lower()
    if file.endswith((".h5", ".hdf5")):
        return load_hdf5(path, dataset)
    if file.endswith(".npy"):
        return load_npy(path)
    if file.endswith(".csv"):
        return load_csv(path)
    if file.endswith(("ubyte", "ubyte.gz")):
        return read_idx(path)
    raise ValueError(f"{name}: expected {expected}, got {path!r}")


def save_array(path: str | os.PathLike[str], array: np.ndarray, dataset: str) -> None:
    """Writes numbers (N, ...) to a .npy file, or to a .h5 file under the name `dataset`, replacing an old one whole.

    Raises:
        OSError: it could not be written, or what was written does not read back; an old file is as before.
    """
    buffer = io.BytesIO()
    if os.fsdecode(path).lower().endswith(".npy"):
        np.save(buffer, array)
        atomic.write(path, buffer.getbuffer())
        return
    import h5py

    with h5py.File(buffer, "w") as file:
        file.create_dataset(dataset, data=array, track_times=False)

    def verify(written: str) -> None:
        """HDF5 may end without an error and leave a file that it did not finish."""
        try:
            with opened(written) as (file, _):
                is_same = np.array_equal(file[dataset][...], array)
        except DAMAGED as error:
            raise OSError(errno.EIO, f"what was written cannot be read: {error}") from error
        if not is_same:
            raise OSError(errno.EIO, "what was written reads back as something else")

    atomic.write(path, buffer.getbuffer(), verify)


def flattened(rows: np.ndarray) -> np.ndarray:
    """(N, ...) images as rows (N, features)."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])) if rows.ndim > 2 else rows
