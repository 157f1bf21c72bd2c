"""HDF5 files that are not trusted: opening one, and reading one dataset of numbers."""

from __future__ import annotations

import math
import operator
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .reading import DEFLATE_RATIO, reading

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 16 << 30
_SOFT_LINKS = 16  # soft links followed on the way to one dataset; more is a loop
_LISTED = 20  # dataset names shown in an error


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[h5py.File, int]]:
    """A file to read and its size in bytes; closed at the end whatever happens.

    HDF5 reads through a Python file. Left to itself it locks, which network file systems may refuse, and it refuses
    what this process has open with other settings. Links to other files lead nowhere.

    Raises:
        OSError, ValueError: no file, a special one, or not HDF5.
    """
    import h5py

    # O_NONBLOCK: opening a FIFO would wait for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a regular file, got a special one")
        with h5py.File(file, "r") as hdf5:
            yield hdf5, status.st_size


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
        raise TypeError(f"dataset: expected a string, got {type(dataset).__name__}")
    max_bytes = operator.index(max_bytes)
    with reading(path, "HDF5 file") as file, ExitStack() as stack:
        if allow_external:  # other files are found from the path of this one
            f, size = stack.enter_context(h5py.File(file, "r")), os.path.getsize(file)
        else:
            f, size = stack.enter_context(opened(file))
        source = _find_dataset(f, dataset, allow_external)
        _check_dataset(source, dataset, allow_external, max_bytes, size)
        values = np.empty(source.shape, source.dtype.newbyteorder("="))
        source.read_direct(values)
        return values.reshape(len(values), -1) if values.ndim > 2 else values


def _find_dataset(f: h5py.File, name: str, allow_external: bool) -> h5py.Dataset:
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


def _dataset_names(f: h5py.File) -> str:
    import h5py

    names: list[str] = []

    def visit(name: str, node: Any) -> bool | None:
        if isinstance(node, h5py.Dataset):
            names.append(repr(name) if len(names) < _LISTED else "...")
        return True if len(names) > _LISTED else None

    f.visititems(visit)
    return "the datasets " + ", ".join(names) if names else "no datasets"


def _check_dataset(source: h5py.Dataset, name: str, allow_external: bool, max_bytes: int, size: int) -> None:
    """Refuse what cannot be read safely; only the header has been read so far."""
    elsewhere = source.is_virtual or bool(source.external)
    if elsewhere and not allow_external:
        raise DataError(f"dataset {name!r} keeps its values in other files; pass allow_external=True if you trust it")
    if source.dtype.kind not in "buif":
        raise DataError(f"dataset {name!r}: expected real numbers, got dtype {source.dtype}")
    if not source.shape or 0 in source.shape:
        raise DataError(f"dataset {name!r}: expected rows, got shape {source.shape}")
    if not source.id.get_create_plist().all_filters_avail():
        raise DataError(f"dataset {name!r} is compressed with an HDF5 filter plugin that is not installed or imported")
    # HDF5 also allocates whole chunks, and one may be declared larger than the dataset.
    declared = max(math.prod(source.shape), math.prod(source.chunks or ())) * source.dtype.itemsize
    what = f"dataset {name!r} of shape {source.shape} and dtype {source.dtype} needs {declared} bytes"
    if declared > max_bytes:
        raise DataError(f"{what}, more than max_bytes={max_bytes}")
    if not elsewhere:
        stored = min(source.id.get_storage_size(), size)
        if declared > stored * DEFLATE_RATIO:
            raise DataError(f"{what}, but only {stored} are stored: it was never written, is cut or is damaged")
