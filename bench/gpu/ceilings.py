"""What the machine can do at best, measured: memory, arithmetic, matrix products, launches and nodes of graphs.

    python -m gpu.ceilings --seconds 35

Prints a line of JSON for each: what, value, unit. What wants a part that is missing, or time, is `left out`. How the
tensor cores round their sums is among them, and what that does to the products of the library; and what lies between
the parts of a step (`gpu/gaps.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.devices import get_backend
from aaecore.core.backend import Backend
from aaecore.core.ops import IDENTITY
from gpu import gaps, probe
from gpu.gaps import Part, row
from gpu.goals import DRY
from gpu.model import once

Row = dict[str, Any]
CHAIN = 200  # nodes of a graph
LARGE = 1 << (20 if DRY else 29)  # bytes of a copy: many times the cache
SMALL = 1 << (14 if DRY else 22)  # bytes of one that stays in it
GRAPH = 50  # launches of a graph of one kernel
N = 8192  # rows and columns of the factors of a large product
WARMING = 0.1  # seconds of such products before they are timed


def memory(backend: Backend, large: int = LARGE, small: int = SMALL) -> Iterator[Row]:
    """The library's own copy, bytes read and written."""
    for what, size, launches in (("copy beyond the cache", large, 2), ("copy within the cache", small, GRAPH)):
        source, target = (backend.zeros((size // 4,)) for _ in range(2))
        plan = backend.capture(lambda s=source, t=target, n=launches: _copies(backend, s, t, n))
        yield row(what, 2 * size * launches / once(backend, plan.replay, 0.1), "B/s")


def _copies(backend: Backend, source: Any, target: Any, launches: int) -> None:
    for _ in range(launches):
        backend.launch("copy", (source, target), (source.size, 0))


def memcpy(backend: Backend, size: int = LARGE) -> Iterator[Row]:
    """The driver's copy."""
    source, target = (backend.zeros((size // 4,)) for _ in range(2))
    seconds = once(backend, lambda: backend.copy(target, source), 0.1)
    yield row("driver's copy beyond the cache", 2 * size / seconds, "B/s")


def nodes(backend: Backend, count: int = CHAIN) -> Iterator[Row]:
    """What a node of a graph costs: one thread each, waiting for the one before or not; and a block for every core."""
    wide = 256 * 4 * getattr(getattr(backend, "driver", None), "multiprocessors", 1)
    for what, size, buffers in (
        ("node of one thread, one after the other", 1, 1),
        ("node of one thread, independent", 1, count),
        ("node of four blocks for every multiprocessor, one after the other", wide, 1),
    ):
        targets = [backend.zeros((size,)) for _ in range(buffers)]
        times = []
        for n in (count // 2, count):
            plan = backend.capture(lambda n=n, targets=targets: _fills(backend, targets, n))
            times.append(once(backend, plan.replay))
        yield row(what, (times[1] - times[0]) / (count - count // 2), "s")
        if size == 1 and buffers == 1:
            yield row("graph beyond its nodes", max(0.0, 2 * times[0] - times[1]), "s")


def _fills(backend: Backend, targets: list[Any], count: int) -> None:
    for i in range(count):
        backend.launch("fill", (targets[i % len(targets)],), (targets[0].size,), (1.0,))


def launches(backend: Backend, count: int = 2000) -> Iterator[Row]:
    """What a launch costs the host, from Python: an op, a graph of one node, and what both of them end with."""
    target = backend.zeros((1,))
    plan = backend.capture(lambda: _fills(backend, [target], 1))
    for what, call in (
        ("launch of an op from Python", lambda: _fills(backend, [target], 1)),
        ("replay of a graph of one node from Python", plan.replay),
    ):
        call()
        backend.to_host(target)
        begin = time.perf_counter()
        for _ in range(count):
            call()
        host = time.perf_counter() - begin
        backend.to_host(target)
        yield row(what, host / count, "s")
        yield row(f"{what}, until it is done", (time.perf_counter() - begin) / count, "s")


def products_round(device: Callable[[str], Backend], rows: int = 64, depth: int = 1000) -> Iterator[Row]:
    """The mean error of sums of positive products, in units of float32 rounding; cut-off sums are too small."""
    rng = np.random.default_rng(0)
    x, weight = (rng.uniform(0.5, 1.0, (rows, depth)).astype(np.float32) for _ in range(2))
    for fp32, suffix in (("ffma", ""), ("tf32x3", ""), ("tf32x3", "_tf32"), ("tf32x3", "_bf16")):
        backend = device(fp32)
        factors = [_cut(a, 16) if suffix else a for a in (x, weight)]  # bits that bfloat16 has, and so TF32
        exact = factors[0].astype(np.float64) @ factors[1].astype(np.float64).T
        buffers = [backend.from_host(factors[0]), backend.from_host(factors[1], "weight"), backend.zeros((rows,))]
        y = backend.empty((rows, rows))
        backend.launch(f"linear_forward{suffix}", (*buffers, y), (rows, depth, rows, IDENTITY), (0.0,))
        error = (backend.to_host(y) - exact) / exact / 2.0**-24
        name = fp32 if not suffix else suffix[1:]
        yield row(f"mean error of sums of {depth} products, {name}", float(error.mean()), "2^-24")


def _cut(array: np.ndarray, bits: int) -> np.ndarray:
    """Without its last bits."""
    return (array.view(np.uint32) & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)).view(np.float32)


def arithmetic(backend: CudaBackend, iterations: int = 4096) -> Iterator[Row]:
    """Multiply-adds on registers, plain and on tensor cores, and how these round."""
    import cupy

    arch = "sm_{}{}".format(*backend.driver.capability)
    functions = probe.load([*probe.RATES, "one_mma_tf32"], arch)
    out, blocks = cupy.zeros(1, np.float32), 8 * backend.driver.multiprocessors
    for name, operations in probe.RATES.items():
        arguments = (out.data.ptr, np.int32(iterations))
        seconds = once(backend, lambda f=functions[name], a=arguments: f((blocks,), (probe.THREADS,), a), 0.1)
        rate = operations * iterations * blocks * probe.THREADS / seconds
        yield row(f"{name.removesuffix('_rate').replace('_', ' ')} on registers", rate, "FLOP/s")
    a, b, d = (cupy.asarray(array) for array in probe.asked())
    functions["one_mma_tf32"]((1,), (32,), (a.data.ptr, b.data.ptr, d.data.ptr))
    moved = probe.answers(cupy.asnumpy(d))
    for question, ulps in moved.items():
        yield row(f"tensor core, {question}", ulps, "ulp")
    yield {"what": "tensor core rounds", "value": probe.verdict(moved), "unit": ""}


def matrix_products(device: str = "cuda", n: int = N) -> Iterator[Row]:
    """Large products of random numbers by PyTorch."""
    import torch

    for name, dtype, setting in (
        ("bf16", torch.bfloat16, "highest"), ("tf32", torch.float32, "high"), ("fp32", torch.float32, "highest"),
    ):  # fmt: skip
        torch.set_float32_matmul_precision(setting)
        a, b = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
        c = torch.empty_like(a)
        times = []
        warm = time.perf_counter() + WARMING
        while device == "cuda" and time.perf_counter() < warm:
            torch.mm(a, b, out=c)
            torch.cuda.synchronize()
        for _ in range(8):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if device == "cuda" else (None, None)
            start = time.perf_counter()
            if begin is not None:
                begin.record()
            torch.mm(a, b, out=c)
            if end is not None:
                end.record()
                end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3 if begin is not None else time.perf_counter() - start)
        yield row(f"matrix product {name}", 2 * n**3 / sorted(times[2:])[3], "FLOP/s")


def clocks() -> Iterator[Row]:
    """The card's own word, as it is found: nothing here changes its settings."""
    asked = ("clocks.sm", "clocks.mem", "clocks.max.sm", "temperature.gpu", "power.draw", "power.limit")
    line = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    for name, value in zip(asked, done.stdout.splitlines()[0].split(","), strict=True):
        yield {"what": f"nvidia-smi {name}, after these", "value": value.strip(), "unit": ""}


def parts(backend: CudaBackend, quick: bool) -> list[Part]:
    """By name. Kernels that wait for each other, and might end the process's use of the GPU, come after all others."""
    return [
        ("nodes", lambda: nodes(backend)),
        ("memory", lambda: memory(backend)),
        ("driver's copy", lambda: memcpy(backend)),
        ("launches", lambda: launches(backend)),
        ("rounding of products", lambda: products_round(lambda fp32: CudaBackend(backend.driver, fp32))),
        ("arithmetic", lambda: arithmetic(backend)),
        *([] if quick else [("matrix products", matrix_products)]),  # the goals need them; importing PyTorch takes long
        ("clocks", clocks),
        *gaps.parts(backend),
    ]


def measured(made: Sequence[Part], seconds: float) -> Iterator[Row]:
    """The rows of all parts that are begun in time."""
    end = time.monotonic() + seconds
    for name, part in made:
        if time.monotonic() > end:
            yield {"left out": name, "why": "out of time"}
            continue
        try:
            yield from part()
        except Exception as error:  # the others go on
            yield {"left out": name, "why": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    backend = get_backend("cuda")
    assert isinstance(backend, CudaBackend)
    for each in measured(parts(backend, options.quick), options.seconds):
        print(json.dumps(each), flush=True)


if __name__ == "__main__":
    main()
