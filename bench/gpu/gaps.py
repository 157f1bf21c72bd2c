"""What lies between the parts of a step, measured: nodes of graphs, barriers, clusters, the way from L2.

Each figure decides whether something is worth being built; see the functions. Every kernel counts, and no time is given
where a count is wrong.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from aaecore.backends.cuda import nvrtc
from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.cupy_driver import MAX_DYNAMIC_SHARED
from gpu import probe
from gpu.gap_probe import SOURCE
from gpu.model import once

Row = dict[str, Any]
Launch = Callable[[Any, int, Any, Any, Any], None]  # on a stream, a node of so many blocks: from two arrays to a third
CHAIN = 200  # nodes or rounds of the longer of two graphs or launches; the shorter has half
BLOCKS, THREADS, SHARED = 128, 128, 52 << 10  # of a product at batch 100
ROUNDS = 2000  # of barriers in a launch; the shorter has half
CLUSTER, TILE = 8, 64 * 64 * 4  # blocks, and bytes of the tile of each
L2 = 16 << 20  # bytes: what stays in the L2 of any such GPU
Part = tuple[str, Callable[[], Iterator[Row]]]


def row(what: str, value: float, unit: str) -> Row:
    return {"what": what, "value": float(f"{value:.4g}"), "unit": unit}


def parts(backend: CudaBackend) -> list[Part]:
    """What can be measured, by name; those that wait for each other within a kernel come last."""
    measures: list[Callable[[CudaBackend], Iterator[Row]]] = [
        chains, fork_and_join, early_chain, from_l2, cluster, grid_barrier,
    ]  # fmt: skip
    return [(measure.__name__.replace("_", " "), partial(measure, backend)) for measure in measures]


def kernel(backend: CudaBackend, name: str, shared: int = 0) -> Any:
    """A function of the GPU that may have so many bytes of dynamic shared memory."""
    from cupy_backends.cuda.api import driver

    function = probe.load([name], nvrtc.architecture(backend.driver.capability), SOURCE)[name]
    driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED, shared)
    return function


def graph(fill: Callable[[Sequence[Any]], None], kept: object, streams: int = 1) -> Callable[[], None]:
    """What launches a graph that is captured while `fill` puts work on streams, of which the first begins and ends it.

    `kept` is what it works on, and lives as long.
    """
    import cupy

    made = [cupy.cuda.Stream(non_blocking=True) for _ in range(streams)]
    made[0].begin_capture()
    try:
        fill(made)
    except BaseException:
        with suppress(cupy.cuda.runtime.CUDARuntimeError):
            made[0].end_capture()
        raise
    return partial(_launch, made[0].end_capture(), kept)


def _launch(recorded: Any, kept: object) -> None:
    recorded.launch()


def each(backend: CudaBackend, make: Callable[[int], Callable[[], None]], longer: int = CHAIN) -> float:
    """Seconds of one of many equal parts: the difference of what makes many and half as many, which all begin alike."""
    shorter = longer // 2
    times = [once(backend, make(count)) for count in (shorter, longer)]
    return (times[1] - times[0]) / (longer - shorter)


def expect(array: Any, value: float, what: str) -> None:
    """RuntimeError: the kernels did not do what they were timed for."""
    import cupy

    made = cupy.asnumpy(array)
    if not (made == value).all():
        raise RuntimeError(f"{what}: expected {value} everywhere, got {made.min()} to {made.max()}")


# --- nodes of graphs --------------------------------------------------------------------------------------------------


def plain(function: Any, threads: int, shared: int) -> Launch:
    def launch(stream: Any, blocks: int, a: Any, b: Any, out: Any) -> None:
        function((blocks, 1), (threads,), (a.data.ptr, b.data.ptr, out.data.ptr), shared, stream)

    return launch


def early(function: Any, threads: int, shared: int) -> Launch:
    """Launches that may begin before the one before has ended: CuPy has none, the CUDA bindings for Python have."""
    from cuda.bindings import driver as cu

    value, attribute = cu.CUlaunchAttributeValue(), cu.CUlaunchAttribute()
    value.programmaticStreamSerializationAllowed = 1
    attribute.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value = value

    def launch(stream: Any, blocks: int, a: Any, b: Any, out: Any) -> None:
        config = cu.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes, config.hStream = shared, cu.CUstream(int(stream.ptr))
        config.attrs, config.numAttrs = [attribute], 1
        values = [ctypes.c_void_p(int(each.data.ptr)) for each in (a, b, out)]
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        (status,) = cu.cuLaunchKernelEx(config, cu.CUfunction(int(function.ptr)), ctypes.addressof(addresses), 0)
        if status != cu.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"cuLaunchKernelEx: {status}")

    return launch


def chain(launch: Launch, blocks: int, count: int) -> Callable[[], None]:
    """A graph of nodes, each of which waits for the one before, after it was seen to count right."""
    import cupy

    buffers = [cupy.zeros(blocks, np.float32) for _ in range(2)]

    def fill(streams: Sequence[Any]) -> None:
        for i in range(count):
            launch(streams[0], blocks, buffers[i % 2], buffers[i % 2], buffers[1 - i % 2])

    run = graph(fill, buffers)
    run()
    expect(buffers[count % 2], count, f"a chain of {count} nodes")
    return run


def chains(backend: CudaBackend) -> Iterator[Row]:
    """How much a node less in the longest chain saves: whether products with more in one kernel, or one kernel for all
    of a step, are worth their trouble. With one warp it is the least that a node can cost."""
    for what, blocks, threads, shared in (
        (f"node of {BLOCKS} blocks with {SHARED >> 10} KB, one after the other", BLOCKS, THREADS, SHARED),
        ("node of one warp, one after the other", 1, 32, 128),
    ):
        launch = plain(kernel(backend, "node", shared), threads, shared)
        yield row(what, each(backend, partial(chain, launch, blocks)), "s")


def early_chain(backend: CudaBackend) -> Iterator[Row]:
    """What programmatic dependent launch saves of each node, by the first row of `chains`: whether the driver should
    launch through the CUDA bindings, and kernels fetch weights before they wait."""
    launch = early(kernel(backend, "early_node", SHARED), THREADS, SHARED)
    what = f"node of {BLOCKS} blocks with {SHARED >> 10} KB, dependent launch"
    yield row(what, each(backend, partial(chain, launch, BLOCKS)), "s")


def forks(launch: Launch, count: int) -> Callable[[], None]:
    """A graph of rounds: a node, then two that wait for it, then the next round waits for both."""
    import cupy

    x, y, z = (cupy.zeros(BLOCKS, np.float32) for _ in range(3))

    def mark(stream: Any) -> Any:
        event = cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def fill(streams: Sequence[Any]) -> None:
        for _ in range(count):
            launch(streams[0], BLOCKS, y, z, x)
            streams[1].wait_event(mark(streams[0]))
            launch(streams[0], BLOCKS, x, x, y)
            launch(streams[1], BLOCKS, x, x, z)
            streams[0].wait_event(mark(streams[1]))

    run = graph(fill, (x, y, z), streams=2)
    run()
    expect(y, 2 * count, f"{count} forks")
    expect(z, 2 * count, f"{count} forks")
    return run


def fork_and_join(backend: CudaBackend) -> Iterator[Row]:
    """Whether what need not wait is better put beside the longest chain (two nodes of `chains` a round would be free of
    the third) or into it (three nodes), and so whether `order` "linear" can win."""
    launch = plain(kernel(backend, "node", SHARED), THREADS, SHARED)
    what = f"a node of {BLOCKS} blocks, and two after it side by side"
    yield row(what, each(backend, partial(forks, launch)), "s")


# --- within a kernel --------------------------------------------------------------------------------------------------


def grid_barrier(backend: CudaBackend) -> Iterator[Row]:
    """What a barrier of all blocks costs, by a node of `chains`: whether one kernel for a whole step is worth thinking
    of. The kernels of the library have none: a block that waits for one that does not run would wait forever."""
    import cupy

    function, blocks = kernel(backend, "grid_barrier"), backend.driver.multiprocessors
    arrived, late = (cupy.zeros(1, np.uint32) for _ in range(2))

    def make(rounds: int) -> Callable[[], None]:
        def run() -> None:
            arrived.data.memset_async(0, arrived.nbytes)
            function((blocks, 1), (THREADS,), (arrived.data.ptr, late.data.ptr, np.int32(rounds)))

        run()
        expect(late, 0, "blocks that gave up")
        expect(arrived, rounds * blocks, "arrivals")
        return run

    took = each(backend, make, ROUNDS)
    expect(late, 0, "blocks that gave up")
    yield row("barrier of a block on every multiprocessor", took, "s")


def cluster(backend: CudaBackend) -> Iterator[Row]:
    """Whether a product's reduction is to be split over a cluster of 8 blocks, with sums through distributed shared
    memory: that must cost less than the traffic saved by larger tiles (22 MB of a product's 33 at batch 100)."""
    import cupy

    function, out = kernel(backend, "cluster_sum"), cupy.zeros(BLOCKS * THREADS, np.float32)

    def make(loads: int, rounds: int) -> Callable[[], None]:
        def run() -> None:
            function((BLOCKS, 1), (THREADS,), (out.data.ptr, np.int32(rounds), np.int32(loads)))

        run()
        expect(out, loads * rounds * 4 * sum(range(1, CLUSTER + 1)), "sums over a cluster")
        return run

    barrier, both = (each(backend, partial(make, loads), ROUNDS) for loads in (0, 1))
    yield row(f"barrier of a cluster of {CLUSTER} blocks", barrier, "s")
    yield row(f"sum of a tile of 64 x 64 over a cluster of {CLUSTER} blocks, barrier included", both, "s")
    yield row("shared memory of other blocks, all clusters", BLOCKS * TILE / both, "B/s")


def from_l2(backend: CudaBackend) -> Iterator[Row]:
    """What products of small tiles cannot be faster than (479 MB of a step at batch 100), so what larger tiles give;
    and whether cp.async is as fast as plain loads."""
    import cupy

    data, words = cupy.asarray(np.ones(L2 // 4, np.float32)), L2 // 16
    for what, name, per_multiprocessor, shared, counted in (
        ("16-byte loads", "l2_loads", 4, 0, words // 64),
        ("cp.async of 16 bytes", "l2_copies", 3, 64 << 10, 64),
    ):
        function, blocks = kernel(backend, name, shared), per_multiprocessor * backend.driver.multiprocessors
        out = cupy.zeros(256 * blocks, np.float32)
        arguments = (data.data.ptr, np.int32(words), out.data.ptr)
        seconds = once(backend, lambda f=function, b=blocks, a=arguments, s=shared: f((b, 1), (256,), a, s), 0.05)
        expect(out, counted, what)
        yield row(f"L2 to multiprocessors, {what}", blocks * L2 / seconds, "B/s")
