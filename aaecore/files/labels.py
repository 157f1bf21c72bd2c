"""Labels in files, numbers or strings: beside the rows that they belong to, or alone."""

from __future__ import annotations

import os

import numpy as np

from .csv import load_csv_labels, load_labelled_csv
from .hdf5 import load_hdf5
from .idx import read_idx
from .npy import load_npy
from .reading import reading

KINDS = "a file of labels .npy, .csv or ...-ubyte[.gz]"
_HDF5, _CSV = (".h5", ".hdf5"), ".csv"


def is_alone(labels: str) -> bool:
    """Whether it is the name of a file of labels, and not of a part of the file of rows."""
    return labels.lower().endswith((".npy", _CSV, "ubyte", "ubyte.gz"))


def has_parts(path: str) -> bool:
    """Whether a file has parts with names, by its own name."""
    return path.lower().endswith((*_HDF5, _CSV))


def is_table(path: str) -> bool:
    """Whether a file is a table with names of columns, by its own name."""
    return path.lower().endswith(_CSV)


def load_alone(path: str) -> np.ndarray:
    """The labels in a .npy, .csv or IDX file, numbers or strings; those of one column are (N,).

    Raises:
        DataError: it cannot be read.
    """
    if is_table(path):
        return load_csv_labels(path)
    return _plain(path, load_npy(path, texts=True) if path.lower().endswith(".npy") else read_idx(path))


def load_with_labels(path: str, dataset: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of a file that `has_parts`: of two datasets of an HDF5 file, or of the columns of a table.

    Raises:
        DataError: it cannot be read, or has no such part.
    """
    if is_table(path):
        return load_labelled_csv(path, labels)
    return load_hdf5(path, dataset), _plain(path, load_hdf5(path, labels, texts=True))


def _plain(path: str | os.PathLike[str], values: np.ndarray) -> np.ndarray:
    """Bytes as text, and one column as a vector."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind != "S":
        return values
    with reading(path, "file of UTF-8 text"):
        return np.char.decode(values, "utf-8")
