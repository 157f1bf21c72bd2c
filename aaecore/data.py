"""Checked input: arrays from the user, the order of an epoch, and numbers from HDF5 and IDX files."""

import math
import operator
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError

if TYPE_CHECKING:
    import io

    import h5py

# No deflate stream expands further (zlib, "Maximum Compression Factor"), so a file that claims more lies or is cut.
DEFLATE_RATIO = 1032
MAX_BYTES = 16 << 30
_BLOCK = 1 << 18  # values looked at together while searching for a bad one: a 256 KiB mask
_SOFT_LINKS = 16  # soft links followed on the way to one dataset; more is a loop
_LISTED = 20  # dataset names shown in an error
_IDX_MAX_DIMS = 8


def as_matrix(
    x: Any, name: str = "x", *, features: int | None = None, unit_range: bool = False, non_empty: bool = True
) -> np.ndarray:
    """User data as a C-contiguous 2-D array of uint8 (kept: images 0..255) or float32 (everything else).

    Args:
        x: array-like (rows, features) of real numbers: any integer, bool or float dtype, byte order and strides.
            Integers other than uint8 are plain numbers: they are converted, not scaled.
        name: the argument's name in error messages.
        features: the number of columns wanted, or None for any.
        unit_range: demand values in [0, 1]; uint8 always passes, since it stands for 0..1 in steps of 1/255.
        non_empty: demand at least one row and one column.

    Returns:
        The very memory of `x` where nothing has to change (read-only stays read-only), otherwise a copy.

    Raises:
        TypeError: `x` does not hold real numbers (object, string, complex, masked, ...).
        ValueError: wrong shape, no rows, values outside [0, 1], or not finite in float32 (NaN, infinity, overflow).
    """
    given = _as_numbers(x, name)
    if given.ndim != 2:
        raise ValueError(f"{name} must be 2-D, (rows, features), got shape {given.shape}")
    if features is not None and given.shape[1] != features:
        raise ValueError(f"{name} must have {features} features (columns), got {given.shape[1]}: shape {given.shape}")
    if non_empty and given.size == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {given.shape}")
    if given.dtype == np.uint8:
        return np.require(given, requirements=("C", "A"))
    with np.errstate(all="ignore"):  # an overflow becomes infinity, which is reported below
        matrix = np.require(given, np.float32, ("C", "A"))
    if matrix.size:
        _check_values(matrix, given, name, unit_range)
    return matrix


def as_labels(y: Any, name: str, n: int) -> np.ndarray:
    """Labels as an int64 array (n,); floats are taken where every one is a whole number.

    Raises:
        TypeError: `y` does not hold real numbers.
        ValueError: the shape is not (n,), or a value is not a whole number within int64.
    """
    given = _as_numbers(y, name)
    if given.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one label for each row, got shape {given.shape}")
    with np.errstate(all="ignore"):  # what does not survive the conversion is found by comparing
        labels = np.require(given, np.int64, ("C", "A"))
    wrong = np.flatnonzero(labels != given)
    if wrong.size:
        raise ValueError(
            f"{name} must hold whole numbers within int64; {wrong.size} of {n} are not, "
            f"the first is {given[wrong[0]]} at position {wrong[0]}"
        )
    return labels


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in one epoch: a permutation of range(n), int64 (n,).

    A pure function of its arguments: no state is kept, so a resumed run sees the same batches. Each row gets a 64-bit
    word of the counter-based Philox4x64 with key (seed, epoch), and the rows are sorted by their words. The words are
    those of the published algorithm, so the order is the same on every machine and with every release of NumPy.

    Raises:
        ValueError: `n` is negative, or `seed` or `epoch` is outside 0 .. 2**64 - 1.
        TypeError: one of them is not an integer.
    """
    n, seed, epoch = operator.index(n), operator.index(seed), operator.index(epoch)
    if n < 0:
        raise ValueError(f"n must be 0 or more, got {n}")
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{name} must be within 0 .. 2**64 - 1, got {value}")
    key = np.array([seed, epoch], np.uint64)
    words = np.random.Philox(key=key).random_raw(n)
    # The stable order of the words, but by their first 16 bits first: NumPy sorts those by radix, and what is nearly in
    # order fast too. It takes a quarter of the time of one sort, which an epoch of a small network would show.
    roughly = np.argsort((words >> np.uint64(48)).astype(np.uint16), kind="stable")
    return roughly[np.argsort(words[roughly], kind="stable")].astype(np.int64, copy=False)


def load_hdf5(
    path: str | os.PathLike[str], dataset: str = "x", *, allow_external: bool = False, max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """Read one dataset of numbers whole into memory: (N, ...) becomes (N, product of the rest); (N,) stays 1-D.

    The file is not trusted. Nothing outside it is opened unless `allow_external`, and nothing is allocated before the
    size it declares is known to be possible: at most `max_bytes`, and at most `DEFLATE_RATIO` (1032) times the bytes
    that the file stores for it.

    Args:
        path: an HDF5 file.
        dataset: the name inside the file, "/" between groups.
        allow_external: follow external links, virtual datasets and external storage into other files; for the last
            two only `max_bytes` bounds the size.
        max_bytes: refuse a dataset that is larger in memory.

    Returns:
        A C-contiguous array of the stored dtype in native byte order.

    Raises:
        DataError: the file is missing, damaged or not HDF5; there is no such dataset; it is not made of numbers, is
            empty, too large, larger than the file can hold, or in another file. The message names the file.
        TypeError: `dataset` is not a string or `max_bytes` not an integer.
    """
    import h5py

    if not isinstance(dataset, str):
        raise TypeError(f"dataset must be a string, got {type(dataset).__name__}")
    max_bytes = operator.index(max_bytes)
    with reading(path, "HDF5 file") as file, h5py.File(file, "r") as f:
        source = _find_dataset(f, dataset, allow_external)
        _check_dataset(source, dataset, allow_external, max_bytes)
        values = np.empty(source.shape, source.dtype.newbyteorder("="))
        source.read_direct(values)
        return values.reshape(len(values), -1) if values.ndim > 2 else values


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


@contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[str]:
    """Give the path as a string; every failure to read inside the block leaves as one DataError naming the file."""
    file = os.fsdecode(path)
    if not os.path.isfile(file):
        raise DataError(f"{file}: no such file")
    try:
        yield file
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except (OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{file}: not a readable {what}: {error}") from error


def _as_numbers(x: Any, name: str) -> np.ndarray:
    if isinstance(x, np.ndarray) and hasattr(x, "filled"):  # np.asarray would silently uncover the masked values
        raise TypeError(f"{name} must be a plain array, got a masked one; fill it first: {name}.filled(value)")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:  # ragged lists, arrays of a device
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array of numbers, got {type(x).__name__}: {error}") from error
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of real numbers, got {type(x).__name__} of dtype {array.dtype}")
    return array


def _check_values(matrix: np.ndarray, given: np.ndarray, name: str, unit_range: bool) -> None:
    low, high = float(matrix.min()), float(matrix.max())  # both pass NaN on, and neither needs a temporary
    if not (math.isfinite(low) and math.isfinite(high)):
        count, row, column = _find_non_finite(matrix)
        raise ValueError(
            f"{name} must hold finite float32 values (up to 3.4e38); {count} of {matrix.size} are not, "
            f"the first is {given[row, column]} at row {row}, column {column}"
        )
    if unit_range and (low < 0 or high > 1):
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {low} to {high}; scale it, or pass images as uint8 0..255"
        )


def _find_non_finite(matrix: np.ndarray) -> tuple[int, int, int]:
    """How many values are not finite, and the row and column of the first, a block of rows at a time."""
    rows = max(1, _BLOCK // matrix.shape[1])
    count, first = 0, (-1, -1)
    for start in range(0, len(matrix), rows):
        bad = ~np.isfinite(matrix[start : start + rows])
        if count == 0 and bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            first = (start + int(row), int(column))
        count += int(np.count_nonzero(bad))
    return count, *first


def _find_dataset(f: "h5py.File", name: str, allow_external: bool) -> "h5py.Dataset":
    """Walk to `name` link by link, since opening a path would follow a link out of the file at any of its steps."""
    import h5py

    node, parts, soft_links = f, name.split("/")[::-1], 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if not isinstance(node, h5py.Group) or not node.id.links.exists(part.encode()):
            raise DataError(f"no dataset {name!r}; it holds {_dataset_names(f)}")
        kind = node.id.links.get_info(part.encode()).type
        if kind == h5py.h5l.TYPE_SOFT:
            soft_links += 1
            if soft_links > _SOFT_LINKS:
                raise DataError(f"{name!r} runs through more than {_SOFT_LINKS} soft links")
            target = node.id.links.get_val(part.encode()).decode()
            node = node["/"] if target.startswith("/") else node
            parts.extend(target.split("/")[::-1])
        elif kind == h5py.h5l.TYPE_HARD or allow_external:
            node = node[part]
        else:
            raise DataError(f"{name!r} is a link to another file; pass allow_external=True if you trust it")
    if not isinstance(node, h5py.Dataset):
        raise DataError(f"{name!r} is a {type(node).__name__.lower()}, not a dataset; it holds {_dataset_names(f)}")
    return node


def _dataset_names(f: "h5py.File") -> str:
    import h5py

    names: list[str] = []

    def visit(name: str, node: Any) -> bool | None:
        if isinstance(node, h5py.Dataset):
            names.append(repr(name) if len(names) < _LISTED else "...")
        return True if len(names) > _LISTED else None

    f.visititems(visit)
    return "the datasets " + ", ".join(names) if names else "no datasets"


def _check_dataset(source: "h5py.Dataset", name: str, allow_external: bool, max_bytes: int) -> None:
    """Refuse what cannot be read safely; only the header has been read so far."""
    elsewhere = source.is_virtual or bool(source.external)
    if elsewhere and not allow_external:
        raise DataError(f"dataset {name!r} keeps its values in other files; pass allow_external=True if you trust it")
    if source.dtype.kind not in "buif":
        raise DataError(f"dataset {name!r} must hold real numbers, got dtype {source.dtype}")
    if not source.shape or 0 in source.shape:
        raise DataError(f"dataset {name!r} must have rows, got shape {source.shape}")
    if not source.id.get_create_plist().all_filters_avail():
        raise DataError(f"dataset {name!r} is compressed with an HDF5 filter plugin that is not installed or imported")
    # HDF5 also allocates whole chunks, and one may be declared larger than the dataset.
    declared = max(math.prod(source.shape), math.prod(source.chunks or ())) * source.dtype.itemsize
    what = f"dataset {name!r} of shape {source.shape} and dtype {source.dtype} needs {declared} bytes"
    if declared > max_bytes:
        raise DataError(f"{what}, more than max_bytes={max_bytes}")
    if not elsewhere:
        stored = min(source.id.get_storage_size(), os.path.getsize(source.file.filename))
        if declared > stored * DEFLATE_RATIO:
            raise DataError(f"{what}, but only {stored} are stored: it was never written, is cut or is damaged")


def _parse_idx(stream: "io.BufferedIOBase | io.BufferedReader", limit: int) -> np.ndarray:
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
