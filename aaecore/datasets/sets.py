"""What a set of images is, and where its files are looked for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from ..errors import DataError

DATA_VARIABLE = "AAECORE_DATA"
HOW = f"give folder=... or set the environment variable {DATA_VARIABLE}"


@dataclass(frozen=True, eq=False)
class Split:
    """Images `x` (N, pixels), float32 in [0, 1] or uint8, and their labels `y` (N,), int64 or strings.

    Of images without a label the label is -1, or "" among strings.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set of images with its training and test part; a row of `x` is an image of `image_shape`, row by row."""

    name: str
    train: Split
    test: Split
    image_shape: tuple[int, ...]


def split(x: np.ndarray, y: np.ndarray, dtype: str) -> Split:
    """Bytes (N, ...) as images of the dtype, and their labels."""
    x = x.reshape(len(x), math.prod(x.shape[1:]))  # also of no rows
    return Split(x if dtype == "uint8" else x.astype(np.float32) * np.float32(1 / 255), y)


def check_dtype(dtype: str) -> None:
    """ValueError for a dtype that images do not have."""
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"dtype: expected 'float32' or 'uint8', got {dtype!r}")


def places(name: str, folder: str | os.PathLike[str] | None, files: str, below: tuple[str, ...]) -> list[str]:
    """The folders in which the files of a set may be: that of the user, and those below it.

    Raises:
        DataError: the user named none.
    """
    root = os.fspath(folder) if folder is not None else os.environ.get(DATA_VARIABLE)
    if not root:
        raise DataError(f"dataset {name!r} is read from the {files}: {HOW}")
    return [root, *(os.path.join(root, inner) for inner in (name, *below))]
