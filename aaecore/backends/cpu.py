"""The CPU backend: C++ kernels, weights in panels, a step replayed in one call without the interpreter lock."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from ..arguments import count
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.plan import Call
from ..errors import DeviceError
from ..kernels import cpu as compiled
from .cores import MAX_THREADS, default_num_threads

HUGE_PAGE = 2 << 20  # bytes


def set_num_threads(n: int) -> None:
    """Threads used by the CPU kernels of this process, the caller included. Results do not depend on it.

    Raises:
        ValueError: n is not an integer from 1 to 256.
    """
    compiled.set_num_threads(count("n", n, 1, MAX_THREADS))


def get_num_threads() -> int:
    """Threads used by the CPU kernels of this process, the caller included."""
    return compiled.num_threads()


def _checked_isa(name: str | None, argument: str) -> str:
    """`name`, or for None the best instruction set that this CPU runs; `argument` is where the name came from."""
    isas = compiled.supported()
    if not isas:
        raise DeviceError(f"cpu: expected a CPU of level x86-64-v2, this one has no {compiled.missing()}")
    if name is not None and name not in isas:
        raise DeviceError(f"{argument}: expected one of {', '.join(isas)} on this CPU, got {name!r}")
    return name or isas[0]


def default_isa() -> str:
    """The instruction set of new backends, chosen when aaecore is imported: AAECORE_CPU_ISA, else the best.

    "v4bf16", "v4", "v3" or "v2" on x86-64, "neon" on arm64, "generic" elsewhere. The import raises a DeviceError if
    AAECORE_CPU_ISA names one that this CPU or this build does not have, or if this CPU runs none.
    """
    return _DEFAULT_ISA


class CpuBackend(Backend):
    """float32 kernels for one instruction set.

    A weight (out, in) is stored as panels of 2 * lanes outputs, each [in][width] contiguous; the last panel is `lanes`
    wide when that is enough, and padded with zeros (see kernels/cpu/linear.hpp). One of at most lanes / 2 outputs is
    stored as it is (kernels/cpu/skinny.hpp).
    """

    name = "cpu"
    real = np.dtype(np.float32)
    precisions = ("fp32", "bf16")

    def __init__(self, isa: str | None = None) -> None:
        super().__init__()
        self.kernels = compiled.Kernels(default_isa() if isa is None else _checked_isa(isa, "isa"))

    @property
    def isa(self) -> str:
        """The kernels' instruction set: v4bf16 or v4 (AVX-512), v3 (AVX2 and FMA), v2 (SSE4.2), neon or generic."""
        return self.kernels.isa

    def _storage_size(self, shape: tuple[int, ...], kind: str) -> int:
        if not self._in_panels(shape, kind):
            return super()._storage_size(shape, kind)
        outputs, inputs = shape
        return -(-outputs // self.kernels.lanes) * self.kernels.lanes * inputs

    def _allocate(self, nbytes: int) -> np.ndarray:
        # Huge pages, because a weight is read in many places at once. One is resident as a whole, so none that would be
        # less than three quarters full; the rest of a buffer lies on small pages.
        full = (nbytes + HUGE_PAGE // 4) // HUGE_PAGE * HUGE_PAGE
        if not full or not hasattr(mmap, "MADV_HUGEPAGE"):
            return super()._allocate(nbytes)
        # A map of its own, so that it is given back when the buffer goes. Pages that are never touched cost nothing.
        try:
            memory = mmap.mmap(-1, max(nbytes, full) + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for a buffer of {nbytes} bytes: {error}") from error
        raw = np.frombuffer(memory, np.uint8)
        start = -raw.ctypes.data % HUGE_PAGE
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE, start, full)
        return raw[start : start + nbytes]

    def _in_panels(self, shape: tuple[int, ...], kind: str) -> bool:
        return kind == "weight" and shape[0] > self.kernels.lanes // 2

    def _panels(self, buffer: Buffer) -> list[tuple[int, np.ndarray]]:
        """(first output, view [in][width]) of every panel of a weight."""
        outputs, inputs = buffer.shape
        lanes, full, panels = self.kernels.lanes, 2 * self.kernels.lanes, []
        for n0 in range(0, outputs, full):
            width = full if outputs - n0 > lanes else lanes
            panels.append((n0, buffer.storage[n0 * inputs : (n0 + width) * inputs].reshape(inputs, width)))
        return panels

    def _pack(self, array: np.ndarray, buffer: Buffer) -> None:
        if not self._in_panels(buffer.shape, buffer.kind):
            return super()._pack(array, buffer)
        for n0, panel in self._panels(buffer):
            rows = array[n0 : n0 + panel.shape[1]]
            panel[:, : len(rows)] = rows.T
            panel[:, len(rows) :] = 0

    def _unpack(self, buffer: Buffer) -> np.ndarray:
        if not self._in_panels(buffer.shape, buffer.kind):
            return super()._unpack(buffer)
        array = np.empty(buffer.shape, self.real)
        for n0, panel in self._panels(buffer):
            rows = array[n0 : n0 + panel.shape[1]]
            rows[...] = panel[:, : len(rows)].T
        return array

    def finite_test(self, buffers: Sequence[Buffer]) -> Callable[[], bool]:
        floats = [b for b in buffers if b.storage.dtype == np.float32]
        others = [b for b in buffers if b.storage.dtype != np.float32]
        test = compiled.Finite([b.pointer for b in floats], [b.storage.size for b in floats], floats)
        return (lambda: test() and self.all_finite(others)) if others else test

    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        self.kernels.launch(name, [b.pointer for b in buffers], dims, scalars)

    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]:
        program = compiled.Program(self.kernels)
        for call in calls:
            program.append(call.name, [b.pointer for b in call.buffers], call.dims, call.scalars)
        return program.run


_DEFAULT_ISA = _checked_isa(os.environ.get("AAECORE_CPU_ISA") or None, "AAECORE_CPU_ISA")
compiled.set_num_threads(default_num_threads())
