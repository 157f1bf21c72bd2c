"""A GPU through CuPy: memory from its current allocator, work on its current stream, graphs by stream capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ...errors import DeviceError
from . import nvrtc
from .dependencies import comes_after, on_longest_chain
from .driver import Launch, Node

OLDEST = (7, 5)  # the compute capability that NVRTC 13 still compiles for
BLOCK = 2 << 20  # bytes that the arena asks CuPy for at a time
ALIGNMENT = 256  # bytes
DLPACK_CUDA = 2  # kDLCUDA
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
SHARED_CARVEOUT = 9  # CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
URGENT = -5  # the highest priority of a stream
ORDERS = ("parallel", "urgent", "linear")
INSTALL = "pip install 'aaecore[cuda13x]' or 'aaecore[cuda12x]'"


class Arena:
    """Cuts small arrays out of blocks. A block goes back to the allocator when the last array in it has gone."""

    def __init__(self, allocate: Callable[[int], Any]) -> None:
        self._allocate = allocate
        self._block: Any = None
        self._used = 0

    def take(self, nbytes: int) -> Any:
        """A flat uint8 array, aligned to 256 bytes as every block is."""
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        if size > BLOCK // 4:
            return self._allocate(size)[:nbytes]
        if self._block is None or self._used + size > BLOCK:
            self._block, self._used = self._allocate(BLOCK), 0
        self._used += size
        return self._block[self._used - size :][:nbytes]


def assign_streams(nodes: Sequence[Node], urgent: Sequence[bool] | None = None) -> list[int]:
    """A stream for every node: one whose last node it comes after anyway, which adds no order, or a new one.

    Nodes that are `urgent` share none with others.
    """
    kind = [False] * len(nodes) if urgent is None else urgent
    before: list[int] = []  # what each node comes after, as bits
    last: list[int] = []  # the last node on each stream
    assigned: list[int] = []
    for number, node in enumerate(nodes):
        before.append(comes_after(node.after, before))
        free = [s for s, n in enumerate(last) if before[number] >> n & 1 and kind[n] == kind[number]]
        if free:
            stream = max(free, key=lambda s: last[s])  # of what it waits for, the latest: one event less
            last[stream] = number
        else:
            stream = len(last)
            last.append(number)
        assigned.append(stream)
    return assigned


def _load_cupy(device: str) -> Any:
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(f"device={device!r} needs CuPy, which cannot be imported ({error}); {INSTALL}") from None
    return cupy


def _number(device: str) -> int | None:
    if device == "cuda":
        return None
    number = device.removeprefix("cuda:")
    if not number.isascii() or not number.isdigit():
        raise ValueError(f"device: expected 'cuda' or 'cuda:<number>', got {device!r}")
    return int(number)


class CupyDriver:
    """A GPU: "cuda" is CuPy's current device, "cuda:1" the second one.

    Work goes on the current stream of CuPy; use this device's streams (`with cupy.cuda.Device(1):`) for one that is
    not the current one. A stream waits for the work that went on the one before it. Only one thread at a time may use
    what lies here. Memory that is dropped goes back to CuPy's allocator in the order of the stream it was taken on.

    `order` says how the nodes of a graph may run: "parallel", as far as they need not wait for each other; "urgent",
    the same, those of the longest chain before others; "linear", one after the other. `carveout` is the part of a
    multiprocessor's memory that kernels would have as shared memory, in per cent; None leaves it to CUDA. Both are for
    graphs made and kernels loaded afterwards, and change no result. docs/performance.md has what each brings.

    Raises:
        ValueError: another name. DeviceError: no CuPy, no driver, no such GPU, or one that is too old.
    """

    order = "parallel"
    carveout: int | None = None

    def __init__(self, device: str) -> None:
        number = _number(device)
        self._cupy = cupy = _load_cupy(device)
        runtime = cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
            self.number = runtime.getDevice() if number is None else number
        except runtime.CUDARuntimeError as error:
            raise DeviceError(f"device={device!r}: no usable GPU or driver: {error}; use device='cpu'") from None
        if self.number >= count:
            raise DeviceError(f"device={device!r}: expected a number below {count}, the GPUs that CUDA sees")
        self.name = device
        properties = runtime.getDeviceProperties(self.number)
        self.capability = properties["major"], properties["minor"]
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.gpu = properties["name"].decode()
        if self.capability < OLDEST:
            have, need = ("{}.{}".format(*c) for c in (self.capability, OLDEST))
            raise DeviceError(f"device={device!r}: expected compute capability {need} or higher, {self.gpu} has {have}")
        self._last: Any = None  # the stream that work went on
        self._arena = Arena(self._from_cupy)
        self._modules: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}

    def _here(self) -> Any:
        return self._cupy.cuda.Device(self.number)

    def _follow(self) -> None:
        """Makes the current stream wait for what went on another one before: all our memory is common to them."""
        cuda = self._cupy.cuda
        stream = cuda.get_current_stream()
        last, self._last = self._last, stream
        if last is None or last.ptr == stream.ptr:
            return
        done = cuda.Event(disable_timing=True)
        try:
            done.record(last)
        except cuda.runtime.CUDARuntimeError:  # that stream is gone, its work may not be done
            cuda.runtime.deviceSynchronize()
        else:
            stream.wait_event(done)

    # --- memory -----------------------------------------------------------------------------------

    def _from_cupy(self, nbytes: int) -> Any:
        with self._here():
            self._follow()
            return self._cupy.empty(nbytes, np.uint8)

    def allocate(self, nbytes: int) -> Any:
        return self._arena.take(nbytes)

    def pointer(self, array: Any) -> int:
        return int(array.data.ptr)

    def owns(self, source: Any) -> bool:
        if hasattr(source, "__cuda_array_interface__"):
            return True
        return hasattr(source, "__dlpack_device__") and source.__dlpack_device__()[0] == DLPACK_CUDA

    def adopt(self, source: Any) -> Any:
        if isinstance(source, self._cupy.ndarray):
            array = source
        elif hasattr(source, "__cuda_array_interface__"):
            array = self._cupy.asarray(source)
        else:
            array = self._cupy.from_dlpack(source)
        if array.device.id != self.number:
            raise ValueError(f"expected an array on GPU {self.number}, got one on GPU {array.device.id}")
        if not array.flags.c_contiguous:
            raise ValueError("expected a C-contiguous device array; cupy.ascontiguousarray makes one")
        return array

    def stream(self) -> int:
        with self._here():
            return int(self._cupy.cuda.get_current_stream().ptr)

    def upload(self, array: Any, host: np.ndarray) -> None:
        with self._here():
            self._follow()
            array.set(host)

    def download(self, array: Any) -> np.ndarray:
        with self._here():
            self._follow()
            return np.asarray(array.get())

    def copy(self, target: Any, source: Any) -> None:
        with self._here():
            self._follow()
            target.data.copy_from_device_async(source.data, source.nbytes)

    def zero(self, array: Any) -> None:
        with self._here():
            self._follow()
            array.data.memset_async(0, array.nbytes)

    # --- kernels ----------------------------------------------------------------------------------

    def _function(self, launch: Launch) -> Any:
        if launch.kernel not in self._functions:
            from cupy_backends.cuda.api import driver

            if launch.source not in self._modules:
                module = self._cupy.cuda.function.Module()
                module.load(nvrtc.cubin(launch.source, nvrtc.architecture(self.capability)))
                self._modules[launch.source] = module
            function = self._modules[launch.source].get_function(launch.kernel)
            # More than 48 KB have to be asked for. It is done for every kernel, since it also loads one that the driver
            # would else load when it is first launched, in the middle of a capture.
            driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED, launch.shared)
            if self.carveout is not None:
                driver.funcSetAttribute(function.ptr, SHARED_CARVEOUT, self.carveout)
            self._functions[launch.kernel] = function
        return self._functions[launch.kernel]

    def launch(self, launch: Launch) -> None:
        with self._here():
            self._follow()
            self._function(launch)(launch.grid, (launch.threads,), launch.arguments, launch.shared)

    def graph(self, nodes: Sequence[Node]) -> Callable[[], None]:
        cuda = self._cupy.cuda
        with self._here():
            for node in nodes:
                self._function(node.launch)  # modules cannot be loaded during a capture
            assigned, streams = self._streams(nodes)
            streams[0].begin_capture()
            try:
                self._capture(nodes, assigned, streams)
            except BaseException:
                with suppress(cuda.runtime.CUDARuntimeError):  # streams have not joined: nothing of it is wanted
                    streams[0].end_capture()
                raise
            graph = streams[0].end_capture()

        def replay() -> None:
            with self._here():
                self._follow()
                graph.launch()

        return replay

    def _streams(self, nodes: Sequence[Node]) -> tuple[list[int], list[Any]]:
        """The number of the stream that each node is captured on, and the streams. A node has its stream's priority."""
        if self.order not in ORDERS:
            raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {self.order!r}")
        urgent = on_longest_chain([node.after for node in nodes]) if self.order == "urgent" else [False] * len(nodes)
        assigned = [0] * len(nodes) if self.order == "linear" else assign_streams(nodes, urgent)
        urgent_streams = {stream for stream, hurries in zip(assigned, urgent, strict=True) if hurries}
        return assigned, [
            self._cupy.cuda.Stream(non_blocking=True, priority=URGENT if stream in urgent_streams else 0)
            for stream in range(max(assigned, default=0) + 1)
        ]

    def _capture(self, nodes: Sequence[Node], assigned: Sequence[int], streams: Sequence[Any]) -> None:
        """Puts the nodes on the capturing streams[0] and its companions, which fork from it and join it at the end."""
        cuda = self._cupy.cuda

        def mark(stream: Any) -> Any:
            event = cuda.Event(disable_timing=True)
            event.record(stream)
            return event

        begun = mark(streams[0])
        for other in streams[1:]:
            other.wait_event(begun)
        waited_for = {w for i, node in enumerate(nodes) for w in node.after if assigned[w] != assigned[i]}
        events: dict[int, Any] = {}
        for i, node in enumerate(nodes):
            stream, launch = streams[assigned[i]], node.launch
            for w in node.after:
                if assigned[w] != assigned[i]:
                    stream.wait_event(events[w])
            self._function(launch)(launch.grid, (launch.threads,), launch.arguments, launch.shared, stream)
            if i in waited_for:
                events[i] = mark(stream)
        for other in streams[1:]:
            streams[0].wait_event(mark(other))
