"""A device whose kernels run on the CPU: the `Driver` of the CUDA backend over the library that `build` makes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
import re
import subprocess
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aaecore.backends.cuda.driver import Launch, Node

from .build import BuildError, Mode, asan_environment, build, unavailable

__all__ = [
    "BuildError",
    "EmulatedDriver",
    "EmulatorError",
    "Line",
    "asan_environment",
    "build",
    "unavailable",
]

KINDS = {"p": "an address (int)", "i": "np.int32", "d": "a double (float)"}


class EmulatorError(AssertionError):
    """What is wrong with a kernel or a launch."""


@dataclass(frozen=True)
class Line:
    """The memory traffic of one source line. A transaction is a sector of 32 bytes of global memory, or a pass over
    the banks of shared memory; `ratio` is how many there are for each that the same words need at best."""

    file: str
    line: int
    space: str  # "global", "shared"
    access: str  # "read", "write"
    nbytes: int  # of a thread's access
    requests: int  # of a warp
    transactions: int
    ratio: float


class _Configuration(ctypes.Structure):
    """emu::Launch"""

    _fields_ = (
        ("grid", ctypes.c_uint * 2),
        ("threads", ctypes.c_uint),
        ("shared", ctypes.c_uint),
        ("seed", ctypes.c_uint64),
    )


class _Memory:
    """A buffer of the emulator's, freed when no array is left over it."""

    def __init__(self, library: ctypes.PyDLL, nbytes: int) -> None:
        pointer = library.emu_malloc(nbytes)
        if not pointer:
            raise MemoryError(f"{nbytes} bytes of emulated memory")
        weakref.finalize(self, library.emu_free, pointer).atexit = False
        self.__array_interface__ = {"data": (pointer, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}


class _Adopted:
    """Somebody else's device array, kept alive by the arrays over it."""

    def __init__(self, source: Any, interface: Mapping[str, Any]) -> None:
        self.source = source
        keys = ("data", "shape", "typestr", "strides")
        self.__array_interface__ = {k: interface[k] for k in keys if k in interface} | {"version": 3}


@functools.cache
def _load(path: Path) -> ctypes.PyDLL:
    # PyDLL: the GIL stays, as the runtime knows one launch at a time.
    library = ctypes.PyDLL(str(path))
    library.emu_malloc.restype, library.emu_malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.emu_free.restype, library.emu_free.argtypes = None, [ctypes.c_void_p]
    library.emu_contains.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.emu_allocated.restype = ctypes.c_size_t
    library.emu_errors.restype = ctypes.c_char_p
    return library


class EmulatedDriver:
    """`mode` is "fast"; "check", which reports races, accesses out of bounds and the like; or "asan", whose reports end
    the process, and which needs the variables of `asan_environment`. With a `seed` other than 0 blocks, threads and the
    nodes of graphs run in random orders. `sources` and `replace_all` are those of `build`."""

    name = "cuda"

    def __init__(
        self,
        mode: Mode = "fast",
        seed: int = 0,
        sources: Mapping[str, str] | None = None,
        replace_all: bool = False,
        capability: tuple[int, int] = (9, 0),
        multiprocessors: int = 132,
    ) -> None:
        self.mode, self.seed = mode, seed
        self.capability, self.multiprocessors = capability, multiprocessors
        self.launches = 0  # so far
        self._random = random.Random(seed)
        self._path = build(mode, sources, replace_all, sm80=capability >= (8, 0))
        self._library = _load(self._path)

    # --- memory

    @property
    def allocated(self) -> int:
        """Bytes of all buffers that are alive, of every driver with the same library."""
        return self._library.emu_allocated()

    def allocate(self, nbytes: int) -> np.ndarray:
        """A flat uint8 array of emulated memory, filled with 0xff: NaN, or -1."""
        return np.asarray(_Memory(self._library, nbytes))

    def pointer(self, array: np.ndarray) -> int:
        """The address of a device array; ValueError if it is none."""
        pointer = array.__array_interface__["data"][0]
        if array.nbytes and not self._library.emu_contains(pointer, array.nbytes):
            raise ValueError(f"not a device array: {array.dtype} of shape {array.shape} in host memory, or freed")
        return pointer

    def owns(self, source: Any) -> bool:
        """Also of NumPy's arrays over emulated memory, which stand for CuPy's."""
        if isinstance(source, np.ndarray):
            return bool(self._library.emu_contains(source.__array_interface__["data"][0], source.nbytes))
        return hasattr(source, "__cuda_array_interface__")

    def adopt(self, source: Any) -> np.ndarray:
        """An array over device memory that somebody else's object describes."""
        interface = getattr(source, "__cuda_array_interface__", None)
        array = np.from_dlpack(source) if interface is None else np.asarray(_Adopted(source, interface))
        if not array.flags.c_contiguous:
            raise ValueError(f"not C-contiguous: strides {array.strides} for shape {array.shape} of {array.dtype}")
        self.pointer(array)
        return array

    def stream(self) -> int:
        """Always the default one: everything is done when its call returns."""
        return 0

    def upload(self, array: np.ndarray, host: np.ndarray) -> None:
        if not host.flags.c_contiguous:
            raise ValueError("upload of an array that is not C-contiguous")
        self._copy(array, host.reshape(-1), "upload")

    def download(self, array: np.ndarray) -> np.ndarray:
        self.pointer(array)
        return array.copy()

    def copy(self, target: np.ndarray, source: np.ndarray) -> None:
        self.pointer(source)
        self._copy(target, source, "copy")

    def _copy(self, target: np.ndarray, source: np.ndarray, what: str) -> None:
        self.pointer(target)
        if target.ndim != 1 or target.dtype != source.dtype or target.size != source.size:
            raise ValueError(f"{what} of {source.dtype} {source.shape} into {target.dtype} {target.shape}")
        target[:] = source

    def zero(self, array: np.ndarray) -> None:
        self.pointer(array)
        array.view(np.uint8)[:] = 0

    # --- launches

    def launch(self, launch: Launch) -> None:
        self._run(self._prepare(launch))

    def graph(self, nodes: Sequence[Node]) -> Callable[[], None]:
        """With a seed every replay has an order of its own; the checked build finds races between nodes in any."""
        prepared = [self._prepare(node.launch) for node in nodes]
        before = self._predecessors(nodes)

        def replay() -> None:
            for k in self._order(nodes):
                if self.mode == "check":
                    self._library.emu_node(k, before[k])
                self._run(prepared[k])

        def checked_replay() -> None:
            self._library.emu_replay(1)
            try:
                replay()
            finally:
                self._library.emu_replay(0)

        return checked_replay if self.mode == "check" else replay

    @staticmethod
    def _predecessors(nodes: Sequence[Node]) -> list[bytes]:
        """For each node a bit for each: 1 if it comes before, directly or not."""
        rows: list[int] = []
        for k, node in enumerate(nodes):
            row = 0
            for a in node.after:
                if not 0 <= a < k:
                    raise ValueError(f"node {k} of a graph comes after node {a}, which is not before it")
                row |= rows[a] | 1 << a
            rows.append(row)
        return [row.to_bytes(len(nodes) // 8 + 1, "little") for row in rows]

    def _order(self, nodes: Sequence[Node]) -> Iterator[int]:
        """In the given order, or with a seed in any that `after` allows."""
        if not self.seed:
            yield from range(len(nodes))
            return
        missing = [len(set(node.after)) for node in nodes]
        followers: list[list[int]] = [[] for _ in nodes]
        for k, node in enumerate(nodes):
            for a in set(node.after):
                followers[a].append(k)
        ready = [k for k, n in enumerate(missing) if not n]
        while ready:
            k = ready.pop(self._random.randrange(len(ready)))
            yield k
            for f in followers[k]:
                missing[f] -= 1
                if not missing[f]:
                    ready.append(f)

    def _prepare(self, launch: Launch) -> tuple[Launch, Any, _Configuration, Any]:
        """(launch, function, configuration, arguments) for `_run`."""
        function = self._kernel_function("launch", launch)
        bound = self._kernel_function("threads", launch)()
        if launch.threads != bound:
            raise EmulatorError(f"{launch.kernel}: {launch.threads} threads in a block, and the kernel is for {bound}")
        x, y = launch.grid
        if x < 1 or y < 1 or launch.shared < 0:
            raise EmulatorError(f"{launch.kernel}: {x} x {y} blocks with {launch.shared} bytes of shared memory")
        cells = self._cells(launch)
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(c) for c in cells))
        pointers.cells = cells  # what the pointers point to stays alive with them
        return launch, function, _Configuration((x, y), launch.threads, launch.shared, 0), pointers

    def _kernel_function(self, prefix: str, launch: Launch) -> Any:
        try:
            source = getattr(self._library, f"emu_source_{launch.kernel}")
        except AttributeError:
            raise EmulatorError(f"there is no kernel {launch.kernel}") from None
        source.restype = ctypes.c_char_p
        if source().decode() != launch.source:
            raise EmulatorError(f"the kernel {launch.kernel} is in {source().decode()}, not in {launch.source}")
        return getattr(self._library, f"emu_{prefix}_{launch.kernel}")

    def _cells(self, launch: Launch) -> list[Any]:
        """The arguments as C has them. A real driver would pass 8 bytes for an int where the kernel takes 4."""
        signature = self._kernel_function("sig", launch)
        signature.restype = ctypes.c_char_p
        kinds = signature().decode()
        if len(kinds) != len(launch.arguments):
            raise TypeError(f"{launch.kernel} takes {len(kinds)} arguments ({kinds}), not {len(launch.arguments)}")
        cells: list[Any] = []
        for i, (kind, a) in enumerate(zip(kinds, launch.arguments, strict=True)):
            if kind == "p" and type(a) is int:
                cells.append(ctypes.c_void_p(a))
            elif kind == "i" and isinstance(a, np.int32):
                cells.append(ctypes.c_int(int(a)))
            elif kind == "d" and isinstance(a, float):
                cells.append(ctypes.c_double(a))
            else:
                raise TypeError(f"{launch.kernel}: argument {i} has to be {KINDS[kind]}, not {type(a).__name__}")
        return cells

    def _run(self, prepared: tuple[Launch, Any, _Configuration, Any]) -> None:
        launch, function, configuration, pointers = prepared
        self.launches += 1
        if self.seed:
            configuration.seed = self._random.getrandbits(64) or 1
        if function(ctypes.byref(configuration), pointers):
            raise EmulatorError(f"{launch.kernel}: {self._with_lines(self._library.emu_errors().decode()).rstrip()}")

    # --- where in the sources

    def _with_lines(self, text: str) -> str:
        places = sorted(set(re.findall(r"pc (0x[0-9a-f]+)", text)))
        for place, frames in zip(places, self._frames([int(p, 16) for p in places]), strict=True):
            text = re.sub(rf"\bpc {place}\b", ", from ".join(f"{file}:{line}" for file, line in frames), text)
        return text

    def _frames(self, places: list[int]) -> list[list[tuple[str, int]]]:
        """For each program counter (file, line), innermost inlined function first."""
        if not places:
            return []
        command = ["addr2line", "-a", "-i", "-e", str(self._path), *(hex(p - 1) for p in places)]  # return addresses
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        frames: list[list[tuple[str, int]]] = []
        for text in out.splitlines():
            if text.startswith("0x"):
                frames.append([])
                continue
            file, line = text.split(" ")[0].rsplit(":", 1)
            if Path(file).name != "cuda_emu.h":
                frames[-1].append((Path(file).name, int(line) if line.isdigit() else 0))
        return frames

    @contextlib.contextmanager
    def profile(self) -> Iterator[list[Line]]:
        """Counts the memory transactions of all launches inside; the list is filled at the end. Checked build only."""
        if self.mode != "check":
            raise ValueError("only the checked build counts memory transactions")
        lines: list[Line] = []
        self._library.emu_profile(1)
        try:
            yield lines
        finally:
            self._library.emu_profile(0)
        lines += self._profile_lines()

    def _profile_lines(self) -> list[Line]:
        rows = np.zeros((self._library.emu_profile_rows(None, ctypes.c_size_t(0)), 7), np.uint64)
        self._library.emu_profile_rows(rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(rows)))
        sums: dict[tuple[str, int, str, str, int], np.ndarray] = {}
        for row, frames in zip(rows.astype(int), self._frames([int(p) for p in rows[:, 0]]), strict=True):
            file, line = frames[0]
            where = (file, line, ("global", "shared")[row[1]], ("read", "write")[row[2]], int(row[3]))
            sums[where] = sums.get(where, np.zeros(3, int)) + row[4:]
        return [Line(*w, int(n), int(actual), float(actual / ideal)) for w, (n, actual, ideal) in sorted(sums.items())]
