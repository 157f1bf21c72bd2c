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
_LOOKED = 1000  # groups and datasets looked at for them: a file may have groups without end
_LONGEST = 1000  # characters of a group's name that is looked into
_SPARSE_BYTES = 1 << 28  # of a dataset whose missing chunks are taken for empty unasked


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
    path: str | os.PathLike[str], dataset: str = "x", *, allow_external: bool = False, allow_sparse: bool = False,
    texts: bool = False, max_bytes: int = MAX_BYTES,
) -> np.ndarray:  # fmt: skip
    """Read one dataset of numbers whole into memory: (N, ...) becomes (N, product of the rest); (N,) stays 1-D.

    The file is not trusted. Nothing outside it is opened unless `allow_external`, and nothing is allocated before the
    size it declares is known to be possible: at most `max_bytes`, and at most `DEFLATE_RATIO` (1032) times the bytes
    that the file stores for it. Chunks that were never written have the dataset's fill value; up to 256 MiB are taken
    so although less is stored.

    Args:
        path: an HDF5 file.
        dataset: the name inside the file, "/" between groups.
        allow_external: follow external links, virtual datasets and external storage into other files; for the last
            two only `max_bytes` bounds the size.
        allow_sparse: take a larger one as well, and one that was never written at all; only `max_bytes` bounds it then.
        texts: take strings of fixed length as well, as bytes.
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
            f, size = stack.enter_context(h5py.File(file, "r", locking=False)), os.path.getsize(file)
        else:
            f, size = stack.enter_context(opened(file))
        source = _find_dataset(f, dataset, allow_external)
        _check_dataset(source, dataset, allow_external, max_bytes, texts)
        if not (allow_sparse or source.is_virtual or source.external):
            _check_stored(source, dataset, size)
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
    """The datasets of a file as a message names them: some of those that are found with little work."""
    import h5py

    names: list[str] = []
    todo, looked = [("", f.id)], 0
    while todo and len(names) <= _LISTED and looked < _LOOKED:
        name, node = todo.pop()
        looked += 1
        if isinstance(node, h5py.h5d.DatasetID):
            names.append(repr(name) if len(names) < _LISTED else "...")
        elif isinstance(node, h5py.h5g.GroupID | h5py.h5f.FileID) and len(name) < _LONGEST:
            todo += [(f"{name}/{link}" if name else link, child) for link, child in reversed(_children(node))]
    return "the datasets " + ", ".join(names) if names else "no datasets"


def _children(group: Any) -> list[tuple[str, Any]]:
    """What the first hard links of a group lead to, by name."""
    import h5py

    links: list[bytes] = []

    def first(link: bytes) -> bool | None:
        links.append(link)
        return True if len(links) > _LISTED else None

    group = h5py.h5g.open(group, b"/") if isinstance(group, h5py.h5f.FileID) else group
    group.links.iterate(first)
    hard = [link for link in links if group.links.get_info(link).type == h5py.h5l.TYPE_HARD]
    return [(link.decode("utf-8", "replace"), h5py.h5o.open(group, link)) for link in hard]


def fixed_attribute(root: Any, name: str, dtype: str) -> Any:
    """The scalar attribute of a group, None if there is none of exactly this type.

    What has a variable length is not even read: HDF5 runs for ever in a damaged heap.
    """
    import h5py

    if not h5py.h5a.exists(root, name.encode()):
        return None
    attribute, value = h5py.h5a.open(root, name.encode()), np.zeros((), dtype)
    if attribute.shape != () or not attribute.get_type().equal(h5py.h5t.py_create(value.dtype)):
        return None
    attribute.read(value)
    return value[()]


def _check_dataset(source: h5py.Dataset, name: str, allow_external: bool, max_bytes: int, texts: bool) -> None:
    """Refuse what cannot be read safely; only the header has been read so far."""
    if (source.is_virtual or bool(source.external)) and not allow_external:
        raise DataError(f"dataset {name!r} keeps its values in other files; pass allow_external=True if you trust it")
    if texts and source.dtype.kind == "O":  # HDF5 runs for ever in a damaged heap
        raise DataError(
            f"dataset {name!r}: expected numbers or strings of fixed length (np.asarray(y, 'S')), got others"
        )
    if source.dtype.kind not in ("buifS" if texts else "buif"):
        raise DataError(f"dataset {name!r}: expected real numbers, got dtype {source.dtype}")
    if not source.shape or 0 in source.shape:
        raise DataError(f"dataset {name!r}: expected rows, got shape {source.shape}")
    if not source.id.get_create_plist().all_filters_avail():
        raise DataError(f"dataset {name!r} is compressed with an HDF5 filter plugin that is not installed or imported")
    needed, what = _needed(source, name)
    if needed > max_bytes:
        raise DataError(f"{what}, more than max_bytes={max_bytes}")


def _needed(source: h5py.Dataset, name: str) -> tuple[int, str]:
    """The bytes that reading takes, and a message's words for it."""
    # HDF5 also allocates whole chunks, and one may be declared larger than the dataset.
    needed = max(math.prod(source.shape), math.prod(source.chunks or ())) * source.dtype.itemsize
    return needed, f"dataset {name!r} of shape {source.shape} and dtype {source.dtype} needs {needed} bytes"


def _check_stored(source: h5py.Dataset, name: str, size: int) -> None:
    """Refuse what a file of `size` bytes stores too little of."""
    needed, what = _needed(source, name)
    stored = min(source.id.get_storage_size(), size)
    is_sparse = source.chunks is not None and stored > 0 and needed <= _SPARSE_BYTES
    if needed > stored * DEFLATE_RATIO and not is_sparse:
        raise DataError(
            f"{what}, but only {stored} are stored: it is cut or damaged, or most of it was never written; "
            "pass allow_sparse=True if you mean that"
        )
