"""What the library and bench/gpu use of CuPy, over the emulator: devices, streams, events, captures with their rules.

Names and parameters are those of CuPy 14, which `tests/cuda_check/test_cupy_names.py` compares. Breaking a rule raises
`RuleError`: work on another device than the current one, allocating or reading during a capture, more shared memory
than a kernel has been allowed. A captured stream that does not join the first one is an error of CUDA's.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fake_nvrtc
import numpy as np
import pytest
from emulator.emulator import EmulatedDriver

from aaecore.backends.cuda import nvrtc
from aaecore.backends.cuda.driver import Launch, Node
from aaecore.backends.cuda.kernels import KERNELS

WITHOUT_ASKING = 48 << 10  # bytes of dynamic shared memory


class CUDARuntimeError(RuntimeError):
    """CuPy's error."""


class RuleError(AssertionError):
    """A rule of CUDA was broken."""


class Capture:
    """The nodes of a graph in the making, and the streams that take part."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.priorities: list[int] = []  # of the nodes
        self.streams: list[Stream] = []


class World:
    """The machine: devices, and what is current. There is one at a time, that of `installed`."""

    def __init__(self, emulator: EmulatedDriver, devices: int) -> None:
        self.emulator, self.devices = emulator, devices
        self.device = 0
        self.captures: list[Capture] = []
        self.synchronized = 0  # how often the host waited
        self.allowed: dict[str, int] = {}  # kernel -> bytes of shared memory
        self.carveouts: dict[str, int] = {}  # kernel -> per cent
        self.priorities: list[list[int]] = []  # of the nodes of each graph
        self.loaded: list[str] = []  # sources
        self.default = [Stream(null=True, device=i) for i in range(devices)]
        self.current = list(self.default)
        self.used: list[Stream] = []  # the stream of every piece of work outside captures
        self.waits: list[tuple[Stream, Stream]] = []  # (stream, the one whose work it waits for), outside captures

    def work(self, stream: Stream | None = None) -> Stream:
        """The stream that some work goes on."""
        stream = stream or self.current[self.device]
        if stream.device != self.device:
            raise RuleError(f"a stream of device {stream.device} while {self.device} is the current one")
        if stream.capture is None:
            self.used.append(stream)
        return stream


_world: World | None = None


def world() -> World:
    assert _world is not None
    return _world


# --- streams and graphs -----------------------------------------------------------------------------------------------


class Stream:
    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: Any = None,
        *,
        device: int = -1,
    ) -> None:
        self.device = device if device >= 0 else world().device
        self.null, self.ptr = null, 0 if null else id(self)
        self.priority = priority or 0
        self.capture: Capture | None = None
        self.last: frozenset[int] = frozenset()  # the nodes of the capture that the next one comes after
        self.destroyed = False
        self.done = 0  # pieces of work in the capture,
        self.seen: dict[Stream, int] = {}  # and how many of the other streams' it waits for

    def __enter__(self) -> Stream:
        self._before = world().current[self.device]
        world().current[self.device] = self
        return self

    def __exit__(self, *_: object) -> None:
        world().current[self.device] = self._before

    def begin_capture(self, mode: Any = None) -> None:
        if self.null or self.capture is not None:
            raise RuleError("a stream that cannot begin a capture")
        self._join(Capture())
        assert self.capture is not None
        world().captures.append(self.capture)

    def _join(self, capture: Capture) -> None:
        self.capture, self.last, self.done, self.seen = capture, frozenset(), 0, {}
        capture.streams.append(self)

    def wait_event(self, event: Event) -> None:
        if event.capture is None:
            if self.capture is not None:
                raise RuleError("a captured stream waits for an event from outside")
            assert event.stream is not None
            world().waits.append((self, event.stream))
            return
        if self.capture is None:
            self._join(event.capture)
        if self.capture is not event.capture:
            raise RuleError("a stream waits for an event of another capture")
        self.last |= event.nodes
        self.done += 1
        self.seen |= {s: n for s, n in event.seen.items() if n > self.seen.get(s, -1)}

    def end_capture(self) -> Graph:
        capture = self.capture
        if capture is None or capture.streams[0] is not self:
            raise RuleError("this stream did not begin a capture")
        world().captures.remove(capture)
        for stream in capture.streams:
            stream.capture = None
        if any(self.seen.get(stream) != stream.done for stream in capture.streams if stream is not self):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined")
        world().priorities.append(capture.priorities)
        return Graph(capture.nodes)

    def synchronize(self) -> None:
        world().synchronized += 1


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.capture: Capture | None = None
        self.nodes: frozenset[int] = frozenset()
        self.seen: dict[Stream, int] = {}
        self.stream: Stream | None = None
        self.time = 0.0  # when everything before it was done: the emulator does not work beside the host

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream = stream or world().current[world().device]
        if stream.destroyed:
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle")
        self.capture, self.nodes, self.seen = stream.capture, stream.last, {**stream.seen, stream: stream.done}
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        if self.stream is None:
            raise RuleError("an event is waited for that was never recorded")


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds."""
    return (end_event.time - start_event.time) * 1e3


class Graph:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes, self._replay = nodes, world().emulator.graph(nodes)
        self.device = world().device

    def launch(self, stream: Stream | None = None) -> None:
        if world().device != self.device:
            raise RuleError(f"a graph of device {self.device} while {world().device} is the current one")
        world().work(stream)
        self._replay()


# --- modules ----------------------------------------------------------------------------------------------------------


class Module:
    def __init__(self) -> None:
        self.device = world().device

    def load(self, cubin: bytes) -> None:
        if world().captures:
            raise RuleError("a module is loaded during a capture")
        self.source = _source_of(cubin)
        world().loaded.append(self.source)

    def get_function(self, name: str) -> Function:
        return Function(self, name)


def _source_of(cubin: bytes) -> str:
    """The file that machine code was compiled from: it has the names of that file's kernels."""
    if not cubin.startswith(b"\x7fELF"):
        return cubin.rstrip(b"\0").decode().split(" for ")[0]
    sources = {kernel.source for name, kernel in KERNELS.items() if b"\0.text." + name.encode() + b"\0" in cubin}
    if len(sources) != 1:
        raise CUDARuntimeError(f"machine code of {len(sources)} files")
    return sources.pop()


class Function:
    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name, self.ptr = module, name, name

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        if shared_mem > max(WITHOUT_ASKING, world().allowed.get(self.name, 0)):
            raise RuleError(f"{self.name}: {shared_mem} bytes of shared memory without having asked")
        if self.module.device != world().device or len(block) != 1 or not grid[2:] == ():
            raise RuleError(f"{self.name}: of device {self.module.device}, grid {grid}, block {block}")
        launch = Launch(self.module.source, self.name, (*grid, 1)[:2], block[0], shared_mem, tuple(args))
        on = world().work(stream)
        if on.capture is None:
            world().emulator.launch(launch)
            return
        on.capture.nodes.append(Node(launch, tuple(sorted(on.last))))
        on.capture.priorities.append(on.priority)
        on.last = frozenset([len(on.capture.nodes) - 1])
        on.done += 1


def func_set_attribute(f: Any, attribute: int, value: int) -> None:
    # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
    {8: world().allowed, 9: world().carveouts}[attribute][f] = value


# --- memory -----------------------------------------------------------------------------------------------------------


class MemoryPointer:
    def __init__(self, array: ndarray) -> None:
        self._array, self.ptr = array, world().emulator.pointer(array.memory)

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        self._array.touch(stream)
        world().emulator.copy(self._array.memory.view(np.uint8)[:size], src._array.memory.view(np.uint8)[:size])

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        self._array.touch(stream)
        self._array.memory.view(np.uint8)[:size] = value


class ndarray:
    """CuPy's array, as far as the library uses it."""

    def __init__(self, memory: np.ndarray, device: int | None = None) -> None:
        self.memory = memory
        self.device = types.SimpleNamespace(id=world().device if device is None else device)
        self.dtype, self.shape, self.size, self.nbytes = memory.dtype, memory.shape, memory.size, memory.nbytes
        self.flags = types.SimpleNamespace(c_contiguous=memory.flags.c_contiguous)
        self.__cuda_array_interface__ = {**memory.__array_interface__, "version": 3}
        self.data = MemoryPointer(self)

    def touch(self, stream: Any = None) -> None:
        if world().captures:
            raise RuleError("memory is touched during a capture")
        if self.device.id != world().device:
            raise RuleError(f"memory of device {self.device.id} while {world().device} is the current one")
        world().work(stream)

    def _like(self, memory: np.ndarray) -> ndarray:
        return ndarray(memory, self.device.id)

    def __getitem__(self, index: Any) -> ndarray:
        return self._like(self.memory[index])

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return self._like(self.memory.view(dtype))

    def reshape(self, *shape: Any, order: Any = "C") -> ndarray:
        return self._like(self.memory.reshape(*shape))

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        self.touch(stream)
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"{arr.dtype} {arr.shape} cannot be set to {self.dtype} {self.shape}")
        self.memory[...] = arr

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        self.touch(stream)
        world().synchronized += 1
        return self.memory.copy()


def empty(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    if world().captures:
        raise RuleError("memory is allocated during a capture")
    count = int(np.prod(shape))
    return ndarray(world().emulator.allocate(count * np.dtype(dtype).itemsize).view(dtype).reshape(shape))


def zeros(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    made = empty(shape, dtype)
    made.data.memset_async(0, made.nbytes)
    return made


def asnumpy(a: ndarray, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get()


def _filled(host: np.ndarray) -> ndarray:
    made = empty(host.shape, host.dtype)
    made.set(host)
    return made


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    return ndarray(world().emulator.adopt(a))


def from_dlpack(array: Any, *, device: Any = None, copy: Any = None) -> ndarray:
    return ndarray(np.from_dlpack(array))


# --- installing -------------------------------------------------------------------------------------------------------


class Device:
    def __init__(self, device: int | None = None) -> None:
        self.id = world().device if device is None else device

    def __enter__(self) -> Device:
        self._before, world().device = world().device, self.id
        return self

    def __exit__(self, *_: object) -> None:
        world().device = self._before


def get_current_stream(device_id: int = -1) -> Stream:
    return world().current[world().device if device_id < 0 else device_id]


def _properties(device: int) -> dict[str, Any]:
    emulator = world().emulator
    major, minor = emulator.capability
    return {
        "major": major, "minor": minor, "multiProcessorCount": emulator.multiprocessors, "name": b"Emulated",
        "totalGlobalMem": 80 << 30, "l2CacheSize": 50 << 20,
    }  # fmt: skip


def _modules() -> dict[str, types.ModuleType]:
    """As `import` finds them."""

    def module(name: str, **content: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(content)
        return made

    runtime = module(
        "cupy.cuda.runtime", CUDARuntimeError=CUDARuntimeError, getDeviceProperties=_properties,
        getDeviceCount=lambda: world().devices, getDevice=lambda: world().device,
        driverGetVersion=lambda: 0, runtimeGetVersion=lambda: 0,
        deviceSynchronize=lambda: world().default[0].synchronize(),
    )  # fmt: skip
    function = module("cupy.cuda.function", Module=Module, Function=Function)
    cuda = module(
        "cupy.cuda", runtime=runtime, function=function, nvrtc=fake_nvrtc, Stream=Stream, Event=Event, Device=Device,
        get_current_stream=get_current_stream, get_elapsed_time=get_elapsed_time, set_allocator=lambda allocator: None,
    )  # fmt: skip
    random = module("cupy.random", random=lambda shape, dtype: _filled(np.random.default_rng(0).random(shape, dtype)))
    driver = module("cupy_backends.cuda.api.driver", funcSetAttribute=func_set_attribute)
    return {
        "cupy": module(
            "cupy", cuda=cuda, ndarray=ndarray, empty=empty, zeros=zeros, asarray=asarray, asnumpy=asnumpy,
            from_dlpack=from_dlpack, random=random, float32=np.float32, __version__="a stand-in",
        ),
        "cupy.cuda": cuda,
        "cupy.cuda.nvrtc": fake_nvrtc,
        "cupy_backends": module("cupy_backends"),
        "cupy_backends.cuda": module("cupy_backends.cuda"),
        "cupy_backends.cuda.api": module("cupy_backends.cuda.api", driver=driver),
    }  # fmt: skip


def install(emulator: EmulatedDriver) -> None:
    """`import cupy` gives this, in all of this process."""
    global _world
    sys.modules.update(_modules())
    _world = World(emulator, devices=1)


@contextmanager
def installed(emulator: EmulatedDriver, devices: int = 1) -> Iterator[World]:
    """`import cupy` gives this, and NVRTC's cubins are the names of their sources."""
    global _world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "cubin", lambda name, arch: f"{name} for {arch}".encode())
        for name, module in _modules().items():
            patch.setitem(sys.modules, name, module)
        _world = World(emulator, devices)
        try:
            yield _world
        finally:
            _world = None
