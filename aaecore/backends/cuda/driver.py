"""What the CUDA backend needs of a device: memory, launches, graphs. CuPy gives them, and so does the tests' emulator.

A device array is flat, and behaves like a NumPy array as far as slices, `view`, `nbytes` and `size` go: CuPy's arrays
on a GPU, NumPy's over the emulator's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Argument = int | np.int32 | float  # the address of a buffer, an int, a double: nothing else is passed to a kernel


@dataclass(frozen=True)
class Launch:
    """One kernel launch, ready to go: what the driver gets."""

    source: str  # the file in kernels/ that has the kernel
    kernel: str
    grid: tuple[int, int]
    threads: int  # of a block, one-dimensional
    shared: int  # bytes of dynamic shared memory
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Node:
    """A launch of a graph, and the numbers of the nodes before it that it has to wait for."""

    launch: Launch
    after: tuple[int, ...]


class Driver(Protocol):
    """A device, real or emulated. All work goes on the caller's current stream, in order, and nothing waits for it
    but `download`."""

    name: str  # "cuda", "cuda:1"
    capability: tuple[int, int]  # compute capability: (9, 0)
    multiprocessors: int

    def allocate(self, nbytes: int) -> Any:
        """A flat uint8 device array with undefined content, its address a multiple of 256."""

    def pointer(self, array: Any) -> int:
        """The address of a device array."""

    def owns(self, source: Any) -> bool:
        """Whether an object is memory of a device, for `adopt`."""

    def adopt(self, source: Any) -> Any:
        """A device array over the memory of an object with `__cuda_array_interface__` or DLPack, without a copy.

        ValueError if it is on another device or not C-contiguous.
        """

    def stream(self) -> int:
        """The address of the current stream; 0 is the default one."""

    def upload(self, array: Any, host: np.ndarray) -> None:
        """Copies a C-contiguous host array of the same dtype and size into a flat device array."""

    def download(self, array: Any) -> np.ndarray:
        """A host copy of a flat device array, once all work on the current stream is done."""

    def copy(self, target: Any, source: Any) -> None:
        """Copies a device array into another of the same dtype and size."""

    def zero(self, array: Any) -> None:
        """Sets all bytes of a device array to 0."""

    def launch(self, launch: Launch) -> None:
        """Puts a kernel on the current stream."""

    def graph(self, nodes: Sequence[Node]) -> Callable[[], None]:
        """A function that puts all nodes on the current stream in one go, as parallel as `after` allows."""
