"""Checkpoint files: named arrays and JSON metadata in one HDF5 file that is replaced as a whole and checked when read.

Layout: every tensor is a contiguous little-endian dataset under its own name ("/" makes groups); the dataset ``meta``
(uint8) holds the metadata as sorted ASCII JSON, in which NaN and the infinities are the tokens NaN, Infinity and
-Infinity that Python's json writes and reads. The root has three attributes: ``format``, ``format_version`` and
``sha256``. The digest runs over all datasets, ``meta`` among them, in sorted order of their names: for each the JSON
line ``["name","dtype",[shape]]``, a newline, and the C-order little-endian bytes. Equal content gives equal files.

The module knows nothing of models: who reads says which names, shapes and dtypes the metadata imply. POSIX only.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from . import atomic
from .hdf5 import fixed_attribute, opened

FORMAT = "aaecore-checkpoint"
FORMAT_VERSION = 2  # what version 1 holds differs in the description of histories only
Spec = Mapping[str, tuple[tuple[int, ...], str]]  # tensor name -> (shape, dtype name such as "float32")
Path = str | os.PathLike[str]

_CANNOT_LOAD = "cannot load as an aaecore checkpoint"
_META = "meta"
_DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float16", "float32", "float64"}
_META_CAP = 1 << 26  # bytes
_VALUES_CAP = 1 << 23  # values in the JSON: each takes far more memory than text
_REASON_CAP = 1000  # characters of a message: a hostile description would be quoted in full
_LINK_CAP = 1 << 16  # links of one group beyond the expected ones: listing more is refused
_EXPECTED_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)  # code that reads hostile data
_HDF5_ERRORS = (*_EXPECTED_ERRORS, OSError, RuntimeError, MemoryError, SystemError)  # h5py, given a damaged file


def write(path: Path, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``meta`` to ``path``, replacing a file there in one step.

    Tensors: any shape (0-d and zero-size too), float16-64, int or uint; names are parts joined by "/", "meta" is taken.
    ``meta``: JSON values under str keys; tuples come back as lists. The file is built in memory, which takes the size
    of the tensors once more, and written by `atomic.write`. Every tensor in it is read back and compared before it
    replaces the old file: HDF5 may report success over a file that it did not finish.

    Raises TypeError or ValueError for arguments, and CheckpointError if the file cannot be written: what was at
    ``path`` is as before, except where the error says that the new file is complete.
    """
    _check_names(tensors)
    datasets = {name: _plain(name, array) for name, array in tensors.items()}
    datasets[_META] = np.frombuffer(_encode_meta(meta), np.uint8)
    failure = f"{os.fsdecode(path)}: cannot write the checkpoint"
    with _refusing(failure):
        content = digest(datasets)
        image = _image(datasets, content)
    verify = partial(_verify, datasets=datasets, digest=content, failure=f"{failure}: it does not read back as written")
    try:
        atomic.write(path, image, verify)
    except OSError as error:
        raise CheckpointError(f"{failure}: {error.strerror or error}") from error


def read(
    path: Path, expected: Callable[[dict[str, Any]], Spec], *, max_bytes: int = 1 << 33
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of ``path``, of which nothing is trusted and every byte is verified.

    ``expected`` gets the metadata and says which tensors must be there, no more and no fewer; KeyError, TypeError,
    ValueError and their like from it count as damaged metadata; a CheckpointError from it says itself what is wrong.
    Only a file whose names, shapes and dtypes agree, and whose tensors fit into ``max_bytes`` and into the file itself,
    is read. Whatever is not plain data under a hard link (soft and external links, virtual, external, chunked or
    filtered data) is refused: no other file is touched.

    Raises CheckpointError with the path, what was expected and what came.
    """
    failure = f"{os.fsdecode(path)}: {_CANNOT_LOAD}"
    with _opened(path, failure) as (root, size):
        with _refusing(failure):
            raw, stored = _read_meta(root, size)
            meta = _decode_meta(raw.tobytes())
        try:
            spec = dict(expected(meta))
        except CheckpointError as error:
            raise CheckpointError(f"{os.fsdecode(path)}: {error}") from None
        except _EXPECTED_ERRORS as error:
            reason = f"damaged or hostile metadata: {type(error).__name__}: {str(error)[:_REASON_CAP]}"
            raise CheckpointError(f"{os.fsdecode(path)}: {reason}") from error
        with _refusing(failure):
            tensors = _read_tensors(root, spec, min(size, max_bytes))
            found = digest({**tensors, _META: raw})
            if found != stored:
                raise ValueError(f"damaged: expected content with SHA-256 {stored}, got {found}")
    return tensors, meta


def peek(path: Path) -> dict[str, Any]:
    """Return the metadata of ``path`` only, guarded as in ``read``; the SHA-256 covers the tensors and is NOT checked.

    Raises CheckpointError.
    """
    failure = f"{os.fsdecode(path)}: {_CANNOT_LOAD}"
    with _opened(path, failure) as (root, size), _refusing(failure):
        return _decode_meta(_read_meta(root, size)[0].tobytes())


def _check_names(tensors: Mapping[str, Any]) -> None:
    taken = {_META, *tensors}
    for name in tensors:
        if not isinstance(name, str):
            raise TypeError(f"tensors: expected names of type str, got {name!r}")
        bad = {"", ".", ".."}.intersection(name.split("/")) or taken.intersection(_parents(name))
        if bad or name == _META or not name.isprintable():
            rule = "printable names with non-empty parts between '/', not 'meta' and not below another one"
            raise ValueError(f"tensors: expected {rule}, got {name!r}")


def _parents(name: str) -> list[str]:
    """Return the groups above a name: "a/b/c" gives "a" and "a/b"."""
    return [name[: match.start()] for match in re.finditer("/", name)]


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as C-order little-endian, without a copy where it is so already."""
    if not isinstance(array, np.ndarray) or array.dtype.name not in _DTYPES:
        came = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"tensors[{name!r}]: expected an array of a float or integer dtype, got {came}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def digest(datasets: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, dtypes, shapes and values of arrays that `write` takes."""
    sha = hashlib.sha256()
    for name in sorted(datasets):
        array = _plain(name, datasets[name])
        sha.update(json.dumps([name, array.dtype.name, list(array.shape)], separators=(",", ":")).encode() + b"\n")
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _encode_meta(meta: Mapping[str, Any]) -> bytes:
    try:
        raw = json.dumps(dict(meta), sort_keys=True, separators=(",", ":")).encode("ascii")
        _check_keys(dict(meta))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"meta: expected a mapping of JSON values under str keys, got {error}") from error
    if len(raw) > _META_CAP:
        raise ValueError(f"meta: expected at most {_META_CAP} bytes of JSON, got {len(raw)}")
    return raw


def _check_keys(value: Any) -> None:
    """Refuse keys that json would silently turn into strings."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise TypeError(f"the keys {list(value)}")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _check_keys(inner)


def _decode_meta(raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("expected unique keys")
        return dict(pairs)

    values = sum(map(raw.count, (b",", b"[", b"{")))  # or a few more
    if values > _VALUES_CAP:
        raise ValueError(f"damaged metadata: expected at most {_VALUES_CAP} values, got up to {values}")
    try:
        meta = json.loads(raw.decode("ascii"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged metadata: {error}") from error
    if not isinstance(meta, dict):
        raise ValueError(f"damaged metadata: expected a JSON object, got {type(meta).__name__}")
    return meta


def _image(datasets: Mapping[str, NDArray[Any]], digest: str) -> memoryview:
    """Return the bytes of the file. Built in memory: where a disk fills up, HDF5 crashes when it closes its file."""
    from h5py import File, h5f, h5fd, h5g, h5p

    access, creation, group = h5p.create(h5p.FILE_ACCESS), h5p.create(h5p.FILE_CREATE), h5p.create(h5p.GROUP_CREATE)
    access.set_fileobj_driver(h5fd.fileobj_driver, buffer := io.BytesIO())
    # Objects of HDF5 1.8 carry checksums, which stop most damage before a wrong offset is followed, and time stamps.
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    creation.set_obj_track_times(False)
    group.set_obj_track_times(False)
    with File(h5f.create(b"checkpoint", h5f.ACC_TRUNC, creation, access)) as file:
        for parent in sorted({parent for name in datasets for parent in _parents(name)}):
            h5g.create(file.id, parent.encode(), gcpl=group)
        for name in sorted(datasets):
            file.create_dataset(name, data=datasets[name], track_times=False)
        file.attrs.update(format=np.bytes_(FORMAT), format_version=np.array(FORMAT_VERSION, "<i8"))
        file.attrs["sha256"] = np.bytes_(digest)
    return buffer.getbuffer()


def _verify(path: str, datasets: Mapping[str, NDArray[Any]], digest: str, failure: str) -> None:
    """Reads a file as a resume does, and compares: CheckpointError unless it holds exactly the datasets."""
    from h5py import h5s

    with _opened(path, failure) as (root, size), _refusing(failure):
        if _read_meta(root, size)[1] != digest:
            raise ValueError("another digest")
        found = _find(root, set(datasets))
        for name, written in datasets.items():
            _check_dataset(name, found[name], written.shape, written.dtype.name)
            read = np.empty_like(written)
            found[name].read(h5s.ALL, h5s.ALL, read)
            if not np.array_equal(read.reshape(-1).view(np.uint8), written.reshape(-1).view(np.uint8)):
                raise ValueError(f"other values in {name!r}")


@contextmanager
def _refusing(failure: str) -> Iterator[None]:
    """Turn what h5py raises for a damaged file, and the ValueErrors of the functions below, into CheckpointError."""
    try:
        yield
    except _HDF5_ERRORS as error:
        text = str(error.args[0] if isinstance(error, KeyError) else error)  # a KeyError puts quotes around it
        reason = getattr(error, "strerror", None) or text or type(error).__name__
        raise CheckpointError(f"{failure}: {reason}") from error


@contextmanager
def _opened(path: Path, failure: str) -> Iterator[tuple[Any, int]]:
    """Give the root group and the size of the file, and close it at the end whatever happens."""
    import h5py

    with ExitStack() as stack:
        with _refusing(failure):
            file, size = stack.enter_context(opened(path))
            root = h5py.h5g.open(file.id, b"/")
        try:
            yield root, size
        finally:
            with _refusing(failure):
                stack.close()


def _read_meta(root: Any, file_size: int) -> tuple[NDArray[np.uint8], str]:
    """Return the bytes of the metadata and the stored digest after checking format and version."""
    import h5py

    if fixed_attribute(root, "format", f"S{len(FORMAT)}") != FORMAT.encode():
        raise ValueError(f"expected the attribute format = {FORMAT!r}")
    version, digest = fixed_attribute(root, "format_version", "<i8"), fixed_attribute(root, "sha256", "S64")
    if version is not None and version > FORMAT_VERSION:
        raise ValueError(f"written by a newer version: format {version}, this one reads up to {FORMAT_VERSION}")
    if version is None or version < 1 or digest is None or h5py.h5a.get_num_attrs(root) != 3:
        raise ValueError("damaged: expected the attributes format, format_version and sha256 and no others")
    dataset = _child(root, _META.encode(), _META)
    shape = dataset.shape if isinstance(dataset, h5py.h5d.DatasetID) else ()
    if not 2 <= math.prod(shape) <= min(_META_CAP, file_size):
        raise ValueError(f"damaged metadata: expected 2 to {_META_CAP} bytes within the file, got {math.prod(shape)}")
    _check_dataset(_META, dataset, shape, "uint8")
    raw = np.empty(shape, np.uint8)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, raw)
    return raw, digest.decode("ascii")


def _read_tensors(root: Any, spec: Spec, max_bytes: int) -> dict[str, NDArray[Any]]:
    import h5py

    datasets = _find(root, {_META, *spec})
    for name, (shape, dtype) in spec.items():
        _check_dataset(name, datasets[name], tuple(shape), dtype)
    total = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in spec.values())
    if total > max_bytes:
        raise ValueError(f"expected at most {max_bytes} bytes of tensors (max_bytes or the file's size), got {total}")
    tensors = {name: np.empty(shape, dtype) for name, (shape, dtype) in spec.items()}
    for name, tensor in tensors.items():
        datasets[name].read(h5py.h5s.ALL, h5py.h5s.ALL, tensor)
    return tensors


def _find(root: Any, names: set[str]) -> dict[str, Any]:
    """Return the open dataset of every name; the walk enters expected groups only, so a cycle cannot hold it."""
    import h5py

    groups = {parent for name in names for parent in _parents(name)}
    found: dict[str, Any] = {}
    todo = [("", root)]
    while todo:
        prefix, group = todo.pop()
        if group.get_num_objs() > len(names) + _LINK_CAP:
            raise ValueError(f"expected {len(names)} datasets, got a group of {group.get_num_objs()} links")
        for link in group:
            name = prefix + link.decode("utf-8")
            child = _child(group, link, name)
            if isinstance(child, h5py.h5g.GroupID) and name in groups:
                todo.append((name + "/", child))
            elif isinstance(child, h5py.h5d.DatasetID) and name in names:
                found[name] = child
            else:
                raise ValueError(f"expected the model's {len(names) - 1} tensors only, got the unexpected {name!r}")
    if missing := sorted(names - found.keys()):
        raise ValueError(f"expected the tensor {missing[0]!r}, got none of that name ({len(missing)} missing in all)")
    return found


def _child(group: Any, link: bytes, name: str) -> Any:
    """Open what a hard link leads to: a group or plain data, without attributes."""
    import h5py

    # A "/" within a link, as only a hostile file has one, would walk through other links.
    if b"/" in link or group.links.get_info(link).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name!r}: expected a hard link, got a soft, external or user-defined one")
    child = h5py.h5o.open(group, link)
    if h5py.h5a.get_num_attrs(child) != 0:
        raise ValueError(f"{name!r}: expected no attributes, got {h5py.h5a.get_num_attrs(child)}")
    if isinstance(child, h5py.h5d.DatasetID):  # before anything else: the shape of virtual data may open their sources
        plan = child.get_create_plist()
        if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_nfilters() or plan.get_external_count():
            raise ValueError(
                f"{name!r}: expected contiguous data, got virtual, external, compact, chunked or filtered data"
            )
    return child


def _check_dataset(name: str, dataset: Any, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse a dataset that is not exactly of this shape and dtype and wholly stored."""
    import h5py

    if dataset.shape != shape:
        raise ValueError(f"{name!r}: expected shape {shape}, got {dataset.shape}")
    kind, expected = dataset.get_type(), np.dtype(dtype).newbyteorder("<")
    if kind.committed() or not kind.equal(h5py.h5t.py_create(expected)):
        came = "a committed type" if kind.committed() else kind.dtype.str
        raise ValueError(f"{name!r}: expected dtype {expected.str}, got {came}")
    size = math.prod(shape) * expected.itemsize
    if dataset.get_storage_size() != size:
        raise ValueError(f"{name!r}: expected {size} bytes in the file, got {dataset.get_storage_size()}")
