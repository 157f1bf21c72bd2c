"""Memory of a device: buffers, and what a device does with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..errors import CaptureError

_MOST_BYTES = 2**62  # of a buffer: what is larger, no system counts, and NumPy has three other errors for
ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


def aligned(raw: np.ndarray, alignment: int) -> np.ndarray:
    """The bytes of `raw` from the first address that is a multiple of `alignment`."""
    return raw[-raw.ctypes.data % alignment :]


class Writes:
    """Counts the changes of some memory: by the number, who keeps a copy of it sees whether it is still the same."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _ReadOnly(Writes):
    """Of memory that nobody may write: a kernel that did would end the process."""

    def __init__(self) -> None:
        pass

    @property
    def count(self) -> int:
        return 0

    @count.setter
    def count(self, value: int) -> None:
        raise ValueError("expected memory that may be written, got a buffer over a read-only array")


_READ_ONLY = _ReadOnly()


class Buffer:
    """Memory of one backend: `storage` is flat and may be laid out or padded as the backend likes, `shape` is logical.

    `kind` is one of the kinds of the op table. `storage` is an array of NumPy, or of CuPy on a GPU. Users see plain
    arrays, through `Backend.to_host` and `Backend.upload`. `writes`, if there, counts what launches, replays and the
    host write into it; not what goes past them, through `storage` or `Backend.array`.
    """

    __slots__ = ("backend", "kind", "pointer", "shape", "size", "storage", "writes")

    def __init__(
        self, backend: Memory, shape: tuple[int, ...], kind: str, storage: Any, writes: Writes | None = None
    ) -> None:  # fmt: skip
        self.backend = backend
        self.shape = shape
        self.kind = kind
        self.storage = storage
        self.size = int(math.prod(shape))
        self.pointer = backend._pointer(storage)
        self.writes = writes

    def rows(self, start: int, stop: int) -> Buffer:
        """A view of rows `start` to `stop` of the first axis; not for weights, whose layout is the backend's."""
        if self.kind == "weight":
            raise TypeError("rows: a weight has no rows in memory; expected a buffer of another kind")
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"rows: expected 0 <= start <= stop <= {self.shape[0]}, got {start} and {stop}")
        width = math.prod(self.shape[1:])
        part = self.storage[start * width : stop * width]
        return Buffer(self.backend, (stop - start, *self.shape[1:]), self.kind, part, self.writes)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the storage."""
        return int(self.storage.nbytes)

    def is_same(self, other: Buffer) -> bool:
        """Whether both are the same memory, seen alike."""
        return (self.pointer, self.shape, self.kind) == (other.pointer, other.shape, other.kind)

    def flat(self) -> Buffer:
        """The whole storage, padding included, as a vector of kind real: what element-wise optimizers run over."""
        return Buffer(self.backend, (self.storage.size,), "real", self.storage, self.writes)

    def written(self) -> None:
        """Counts a change."""
        if self.writes is not None:
            self.writes.count += 1


class Memory:
    """The memory of a device. Here it is NumPy's on the host; a backend replaces what differs on its device."""

    name: str
    real: np.dtype

    @property
    def recording(self) -> bool:
        """Whether the calling thread records a step, in which the host has no access to the memory."""
        return False

    def empty(self, shape: tuple[int, ...], kind: str = "real") -> Buffer:
        """A buffer with undefined content."""
        dtype = self._dtype(kind)
        nbytes = self._storage_size(shape, kind) * dtype.itemsize
        if nbytes > _MOST_BYTES:
            raise MemoryError(f"no memory for a buffer of {nbytes} bytes")
        return Buffer(self, tuple(shape), kind, self._allocate(nbytes).view(dtype))

    def zeros(self, shape: tuple[int, ...], kind: str = "real") -> Buffer:
        """A buffer of zeros; not while recording, where it would be zeroed once and never again."""
        self.host_access("zeros")
        buffer = self.empty(shape, kind)
        self._clear(buffer)
        return buffer

    def clone(self, buffer: Buffer) -> Buffer:
        """A copy of a buffer."""
        copy = self.empty(buffer.shape, buffer.kind)
        self._copy(copy, buffer)
        return copy

    def copy(self, target: Buffer, source: Buffer) -> None:
        """Copies a buffer into another of the same shape and kind."""
        self.host_access("copy")
        target.written()
        self._copy(target, source)

    def all_finite(self, buffers: Sequence[Buffer]) -> bool:
        """Whether no number in the buffers is NaN or infinite."""
        return all(np.isfinite(b.storage).all() for b in buffers)

    def finite_test(self, buffers: Sequence[Buffer]) -> Callable[[], bool]:
        """`all_finite` of always the same buffers, for who asks after every step."""
        return partial(self.all_finite, tuple(buffers))

    def from_host(self, array: np.ndarray, kind: str = "real") -> Buffer:
        """A new buffer with a copy of `array`."""
        self.host_access("from_host")
        buffer = self.empty(np.shape(array), kind)
        self.upload(buffer, array)
        return buffer

    def generated(self, shape: tuple[int, ...], make: Callable[[], np.ndarray], kind: str = "real") -> Buffer:
        """A new buffer of what `make` gives; it is not called for memory that holds no numbers."""
        self.host_access("generated")
        buffer = self.empty(shape, kind)  # before the numbers are made: if there is no memory, it is said here
        self.upload(buffer, make())
        return buffer

    def wrap(self, array: np.ndarray, kind: str = "real") -> Buffer:
        """A buffer over the array's own memory where dtype and layout allow it, else over a copy."""
        if kind != "weight" and array.dtype == self._dtype(kind) and array.flags.c_contiguous:
            return Buffer(self, array.shape, kind, array.reshape(-1), None if array.flags.writeable else _READ_ONLY)
        return self.from_host(array, kind)

    def has(self, array: Any) -> bool:
        """Whether `array` is one of the device's own, which `adopt` takes; never so for devices that are the host."""
        return False

    def adopt(self, array: Any) -> Buffer:
        """A buffer over an array of the device, without a copy; its kind is what the array holds.

        Raises:
            TypeError: a dtype that no kind has. ValueError: not C-contiguous, or on another device.
        """
        raise TypeError(f"device {self.name!r} has no arrays of its own")

    def array(self, buffer: Buffer) -> Any:
        """The buffer's memory as an array of the device, of its logical shape."""
        return buffer.storage.reshape(buffer.shape)

    def clear(self, buffer: Buffer) -> None:
        """Sets a buffer to zeros, padding included."""
        buffer.written()
        self._clear(buffer)

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        """Copies a host array of the same shape into `buffer`."""
        if self.recording:
            self.host_access("upload")
        if type(array) is not np.ndarray:
            array = np.asarray(array)
        if array.shape != buffer.shape:
            raise ValueError(f"upload: expected shape {buffer.shape}, got {array.shape}")
        buffer.written()
        self._pack(array, buffer)  # which casts

    def to_host(self, buffer: Buffer) -> np.ndarray:
        """A copy of the buffer as a plain array of its logical shape; weights as (out, in)."""
        self.host_access("to_host")
        return self._unpack(buffer)

    def host_access(self, what: str) -> None:
        """CaptureError while a step is being recorded: called by whatever reads or writes device memory on the host."""
        if self.recording:
            raise CaptureError(
                f"{what}: the host cannot read or write device memory while a step is being recorded; "
                "move it out of the captured function"
            )

    # --- what a device provides -------------------------------------------------------------------

    def _allocate(self, nbytes: int) -> Any:
        """`nbytes` aligned bytes of undefined content."""
        return aligned(np.empty(nbytes + ALIGNMENT, np.uint8), ALIGNMENT)[:nbytes]

    def _pointer(self, storage: Any) -> int:
        return int(storage.ctypes.data)

    def _clear(self, buffer: Buffer) -> None:
        buffer.storage[...] = 0

    def _copy(self, target: Buffer, source: Buffer) -> None:
        np.copyto(target.storage, source.storage)

    def _dtype(self, kind: str) -> np.dtype:
        return self.real if kind in ("real", "weight") else np.dtype(kind)

    def _storage_size(self, shape: tuple[int, ...], kind: str) -> int:
        return int(math.prod(shape))

    def _pack(self, array: np.ndarray, buffer: Buffer) -> None:
        buffer.storage[...] = array.reshape(-1)

    def _unpack(self, buffer: Buffer) -> np.ndarray:
        return buffer.storage.reshape(buffer.shape).copy()
