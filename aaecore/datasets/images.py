"""Images of one's own in an archive of NumPy: faces, say, in place of the Toronto Face Dataset."""

from __future__ import annotations

import os

import numpy as np

from ..arguments import INT64_MAX
from ..errors import DataError
from ..files.arrays import flattened
from ..files.npy import load_npz, npz_names
from ..files.reading import reading
from .sets import Dataset, check_dtype, split

IMAGES, LABELS = ("x", "X", "images"), ("y", "labels")  # names of arrays, of which one is there
TRAIN, TEST = "_train", "_test"  # ends of such names


def load_images(path: str | os.PathLike[str], *, dtype: str = "float32") -> Dataset:
    """Load images, and labels if there are some, from a .npz file.

    Its arrays are `x_train` and `x_test`, (N, height, width) or (N, height, width, 3) uint8, and perhaps `y_train` and
    `y_test`, (N,) integers or strings. Or `x` and perhaps `y`, all of them to train on but where a third array, `test`
    (N,), is not 0. Instead of x there may be `X` or `images`, instead of y `labels`; two of these are an error. Other
    arrays are not read.

    Args:
        path: the file.
        dtype: "float32" for pixels in [0, 1], the stored byte times float32(1/255), or "uint8" for 0..255.

    Returns:
        The set, named after the file. Without labels those are -1. Without test images the test part has no rows.

    Raises:
        ValueError: another dtype.
        DataError: the file is missing, damaged, or its arrays are no such ones. The message names the file.
    """
    check_dtype(dtype)
    names = npz_names(path)
    with reading(path, "NumPy archive") as file:
        images, labels = _images_in(names), _chosen(names, LABELS)
        if images in names:
            train, test = _divided(file, images, labels, "test" if "test" in names else None)
        else:
            train, test = (_part(file, images + end, labels and labels + end) for end in (TRAIN, TEST))
        _check_shapes(train[0], test[0])
        if train[1].dtype.kind != test[1].dtype.kind:
            raise DataError("expected labels of one kind, got integers and strings")
    title = os.path.splitext(os.path.basename(file))[0]
    return Dataset(title, split(*train, dtype), split(*test, dtype), train[0].shape[1:])


def load_rows(path: str | os.PathLike[str]) -> np.ndarray:
    """The images of a .npz file as rows (N, pixels) uint8: all of `x` in their order, or `x_train` and then `x_test`.

    Raises:
        DataError: as of `load_images`.
    """
    names = npz_names(path)
    with reading(path, "NumPy archive") as file:
        images = _images_in(names)
        parts = [images] if images in names else [images + TRAIN, images + TEST]
        arrays = [_part(file, name, None)[0] for name in parts]
        _check_shapes(*arrays)
        return flattened(np.concatenate(arrays))


def _check_shapes(*images: np.ndarray) -> None:
    shapes = [x.shape[1:] for x in images]
    if len({*shapes}) > 1:
        raise DataError(f"expected images of one shape, got {' and '.join(map(str, shapes))}")


def _images_in(names: list[str]) -> str:
    """What the images are called in an archive of such names."""
    images = _chosen(names, IMAGES)
    if images is None:
        expected = ", ".join(f"{name} or {name}{TRAIN}" for name in IMAGES)
        raise DataError(f"expected images in an array {expected}, got {', '.join(names) or 'none'}")
    return images


def _chosen(names: list[str], wanted: tuple[str, ...]) -> str | None:
    """Which of the wanted names is there, by itself or with the ends of both parts; None if none is."""
    there = [
        (name, parts) for name in wanted for parts in ((name,), (name + TRAIN, name + TEST)) if {*parts} & {*names}
    ]
    if len(there) > 1:
        (_, one), (_, other) = there[:2]
        raise DataError(f"expected either {' and '.join(one)} or {' and '.join(other)}, got {', '.join(names)}")
    return there[0][0] if there else None


def _divided(
    file: str, images: str, labels: str | None, test: str | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Images and labels of one array each, to train on and to test on."""
    x, y = _part(file, images, labels)
    held_out = np.zeros(len(x), bool) if test is None else load_npz(file, [test])[test] != 0
    if held_out.shape != (len(x),):
        raise DataError(f"{test!r}: expected shape ({len(x)},), one value for each image, got {held_out.shape}")
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def _part(file: str, images: str, labels: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and their labels, checked."""
    x = load_npz(file, [images])[images]
    if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))) or x.size == 0:
        expected = f"{images!r}: expected images of uint8, (N, height, width) or (N, height, width, 3)"
        raise DataError(f"{expected}, got {x.dtype} of shape {x.shape}")
    if labels is None:
        return x, np.full(len(x), -1, np.int64)
    y = load_npz(file, [labels], texts=True)[labels]
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (len(x),) or y.dtype.kind not in "iuU":
        expected = f"{labels!r}: expected integers or strings of shape ({len(x)},), one for each image"
        raise DataError(f"{expected}, got {y.dtype} of shape {y.shape}")
    if y.dtype.kind == "u" and (y > INT64_MAX).any():
        raise DataError(f"{labels!r}: expected integers within int64, got {y.max()}")
    return x, y if y.dtype.kind == "U" else y.astype(np.int64)
