"""Arrays in files of NumPy: one (.npy), or several by name (.npz). Neither is trusted, and neither runs code."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection
from typing import Any

import numpy as np

from ..arguments import shown
from ..errors import DataError
from .reading import DEFLATE_RATIO, reading

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LISTED = 20  # names shown in an error


def load_npy(path: str | os.PathLike[str], *, texts: bool = False) -> np.ndarray:
    """The array of real numbers in a .npy file, which is not trusted: its header must fit what it holds.

    With `texts` strings are taken as well.

    Raises:
        DataError: the file is missing, damaged or something else. The message names the file.
    """
    with reading(path, "NumPy file") as name, open(name, "rb") as file:
        return _array(file, os.path.getsize(name), texts)


def npz_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the arrays in a .npz file.

    Raises:
        DataError: the file is missing, damaged or something else. The message names the file.
    """
    with reading(path, "NumPy archive") as name, _opened(name) as archive:
        return [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]


def load_npz(path: str | os.PathLike[str], names: Collection[str], *, texts: bool = False) -> dict[str, np.ndarray]:
    """Some of the arrays of real numbers in a .npz file, with `texts` of strings too; nothing else of it is read.

    Raises:
        DataError: the file is missing, damaged or something else, or has no such array. The message names the file.
    """
    found = {}
    with reading(path, "NumPy archive") as file, _opened(file) as archive:
        for name in names:
            try:
                member = archive.getinfo(f"{name}.npy")
            except KeyError:
                there = [other.removesuffix(".npy") for other in archive.namelist()[:_LISTED]]
                raise DataError(f"expected an array {name!r}, got {', '.join(there) or 'none'}") from None
            if member.file_size > DEFLATE_RATIO * os.path.getsize(file):
                raise DataError(f"{name!r} declares {member.file_size} bytes, more than a file of this size can hold")
            try:
                with archive.open(member) as stream:
                    found[name] = _array(stream, member.file_size, texts)
            except (DataError, zipfile.BadZipFile) as error:
                raise DataError(f"{name!r}: {error}") from None
    return found


def _opened(name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(name)
    except zipfile.BadZipFile as error:
        raise DataError(f"not a readable NumPy archive: {error}") from None


def _array(file: Any, size: int, texts: bool) -> np.ndarray:
    """The array in an open .npy file of so many bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise DataError(f"expected a NumPy file of version 1 or 2, got {'.'.join(map(str, version))}")
    try:
        shape, by_columns, dtype = _HEADERS[version](file)
    except Exception as error:  # Python's parser reads it, and may raise anything
        raise DataError(f"not a readable NumPy file: its header is damaged: {str(error)[:200]}") from error
    if dtype.kind not in ("buifSU" if texts else "buif") or dtype.itemsize == 0:
        raise DataError(f"expected real numbers{' or strings' if texts else ''}, got dtype {dtype}")
    needed, left = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed != left:
        raise DataError(f"declares shape {shown(shape)} of {dtype}, {shown(needed)} bytes, but holds {left}")
    values = np.empty(math.prod(shape), dtype)
    if needed and (got := file.readinto(values.view(np.uint8).data)) != needed:
        raise DataError(f"declares {needed} bytes, but holds {got}")
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)
