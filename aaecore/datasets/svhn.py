"""Street View House Numbers, format 2 (Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers)."""

from __future__ import annotations

import os

import numpy as np

from ..errors import DataError
from ..files.reading import reading
from .sets import HOW, places

SHAPE = (32, 32, 3)
TRAIN, EXTRA, TEST = (f"{part}_32x32.mat" for part in ("train", "extra", "test"))
MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    EXTRA: "a93ce644f1a588dc4d68dda5feec44a7",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
}
FILES = {"svhn": (TRAIN, TEST), "svhn-extra": (TRAIN, EXTRA, TEST)}  # by set; the last one is for testing


def load_svhn(name: str, folder: str | os.PathLike[str] | None) -> tuple[np.ndarray, ...]:
    """Images (N, 32, 32, 3) uint8 and labels (N,) int64 to train on, and those to test on.

    Raises:
        DataError: files are missing, damaged or not those of this set. ImportError: there is no SciPy to read them.
    """
    files = FILES[name]
    where = places(name, folder, f"files {', '.join(files)}", ("svhn", "SVHN"))
    there = next((p for p in where if all(os.path.isfile(os.path.join(p, file)) for file in files)), None)
    if there is None:
        found = {p: [file for file in files if not os.path.isfile(os.path.join(p, file))] for p in where}
        some = [f"{place} has no {', '.join(left)}" for place, left in found.items() if len(left) < len(files)]
        looked = "; ".join(some) or f"none of {', '.join(files)} is in {', '.join(where)}"
        raise DataError(f"dataset {name!r} not found: {looked}; {HOW}")
    parts = [_read(os.path.join(there, file), MD5[file]) for file in files]
    train = parts[:-1]
    x, y = train[0] if len(train) == 1 else (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return x, y, *parts[-1]


def _read(path: str, md5: str) -> tuple[np.ndarray, np.ndarray]:
    import hashlib

    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(f"{path}: a .mat file needs SciPy, pip install scipy: {error}") from error
    with reading(path, "MATLAB file") as name, open(name, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != md5:
            raise DataError(f"damaged, or another file (md5 {digest}, expected {md5})")
        arrays = loadmat(name, variable_names=("X", "y"))
        x, y = arrays["X"], arrays["y"].astype(np.int64)
        if x.dtype != np.uint8 or x.shape != (*SHAPE, y.size):
            raise DataError(f"expected X of shape {(*SHAPE, y.size)} and uint8, got {x.shape} and {x.dtype}")
        # Rows first: the file has the pixels of one place in all images together.
        return np.ascontiguousarray(x.transpose(3, 0, 1, 2)), y.reshape(-1) % 10  # a 0 is a 10 there
