"""Image sets: a sample of MNIST that comes with the package, MNIST, Fashion-MNIST and SVHN from files, and users'."""

import os
import struct
from collections.abc import Mapping

import numpy as np

from ..errors import DataError
from ..files.hdf5 import fixed_attribute, load_hdf5, opened
from ..files.idx import read_idx
from ..files.reading import reading
from . import svhn
from .images import load_images
from .sets import DATA_VARIABLE, HOW, Dataset, Split, check_dtype, places, split

__all__ = ["DATA_VARIABLE", "Dataset", "Split", "load", "load_images"]

SAMPLE = "mnist-sample"
SAMPLE_FILE = "mnist_sample.h5"
SAMPLE_ARRAYS = ("train/x", "train/y", "test/x", "test/y")

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# Of the decompressed files, in the order of IDX_FILES: the gzip bytes differ from mirror to mirror.
IDX_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}  # fmt: skip
FOLDERS = {"mnist": ("MNIST/raw",), "fashion-mnist": ("FashionMNIST/raw",)}  # where torchvision keeps them
NAMES = (SAMPLE, *IDX_MD5, *svhn.FILES)


def load(name: str, folder: str | os.PathLike[str] | None = None, *, dtype: str = "float32") -> Dataset:
    """Load a named set of images with 10 classes: of 28 x 28 grey pixels, or of 32 x 32 coloured ones.

    Args:
        name: "mnist-sample" (comes with the package: 5000 + 1000 images of MNIST, each class equally often), or
            "mnist" or "fashion-mnist" (60000 + 10000), read from their four IDX files, plain or .gz; "svhn"
            (73257 + 26032), read from train_32x32.mat and test_32x32.mat by SciPy, or "svhn-extra" (604388 + 26032),
            with extra_32x32.mat besides, 1.9 GB as bytes and four times that as floats.
        folder: where these files are, themselves or in a folder called `name`, or MNIST/raw, FashionMNIST/raw, svhn or
            SVHN; without it the environment variable AAECORE_DATA is used. The sample needs neither.
        dtype: "float32" for pixels in [0, 1], the stored byte times float32(1/255), or "uint8" for 0..255.

    Raises:
        ValueError: the name or the dtype is not one of these.
        DataError: files are missing, damaged or not those of this set (their md5 is checked).
        ImportError: SVHN without SciPy.
    """
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(map(repr, NAMES))}, got {name!r}")
    check_dtype(dtype)
    shape: tuple[int, ...] = (28, 28)
    if name in svhn.FILES:
        arrays, shape = svhn.load_svhn(name, folder), svhn.SHAPE
    else:
        arrays = _load_sample() if name == SAMPLE else _load_idx(name, folder)
    train_x, train_y, test_x, test_y = arrays
    train, test = split(train_x, train_y.astype(np.int64), dtype), split(test_x, test_y.astype(np.int64), dtype)
    return Dataset(name, train, test, image_shape=shape)


def sample_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the name, dtype, shape and bytes of the sample's arrays: {name in SAMPLE_ARRAYS: array}."""
    import hashlib

    digest = hashlib.sha256()
    for name in SAMPLE_ARRAYS:
        values = arrays[name]
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def read_sample(path: str | os.PathLike[str]) -> tuple[np.ndarray, ...]:
    """The arrays of a sample file in the order of SAMPLE_ARRAYS, uint8, checked against the digest stored with them."""
    with reading(path, "sample") as file, opened(file) as (f, _):
        stored = fixed_attribute(f["/"].id, "sha256", "S64")
        if stored is None:
            raise DataError("the sample is damaged: expected its sha256; install the package again")
        expected = stored.decode("ascii")
    arrays = {name: load_hdf5(path, name) for name in SAMPLE_ARRAYS}
    got = sample_digest(arrays)
    if got != expected:
        raise DataError(f"{file}: the sample is damaged (sha256 {got}, expected {expected}); install the package again")
    return tuple(arrays.values())


def _load_sample() -> tuple[np.ndarray, ...]:
    from importlib import resources

    with resources.as_file(resources.files(__name__).joinpath(SAMPLE_FILE)) as path:
        return read_sample(path)


def _load_idx(name: str, folder: str | os.PathLike[str] | None) -> tuple[np.ndarray, ...]:
    looked_in = places(name, folder, f"IDX files {', '.join(IDX_FILES)} (plain or .gz)", FOLDERS[name])
    incomplete, error = [], None
    for place in looked_in:
        files = [_find_idx(place, file) for file in IDX_FILES]
        if not all(files):
            names = ", ".join(wanted for wanted, found in zip(IDX_FILES, files, strict=True) if not found)
            incomplete += [f"{place} has no {names}"] if any(files) else []
            continue
        try:
            return tuple(_read_checked(file, md5) for file, md5 in zip(files, IDX_MD5[name], strict=True) if file)
        except DataError as problem:  # MNIST and Fashion-MNIST share their file names: another place may be right
            error = error or problem
    looked = "; ".join(incomplete) or f"none of {', '.join(IDX_FILES)} is in {', '.join(looked_in)}"
    raise error or DataError(f"dataset {name!r} not found: {looked} (plain or .gz); {HOW}")


def _find_idx(place: str, file: str) -> str | None:
    dotted = file.replace("-idx", ".idx")  # as some programs name them that unpack archives
    for name in (file, f"{file}.gz", dotted, f"{dotted}.gz"):
        if os.path.isfile(path := os.path.join(place, name)):
            return path
    return None


def _read_checked(path: str, md5: str) -> np.ndarray:
    """Read an IDX file whose decompressed bytes have this md5; `read_idx` is strict, so the array gives them back."""
    import hashlib

    values = read_idx(path)
    header = struct.pack(f">I{values.ndim}I", 0x800 | values.ndim, *values.shape)
    digest = hashlib.md5(header, usedforsecurity=False)
    digest.update(values.data)
    if digest.hexdigest() != md5:
        raise DataError(
            f"{path}: damaged, or a file of another set (md5 of its content {digest.hexdigest()}, expected {md5})"
        )
    return values
