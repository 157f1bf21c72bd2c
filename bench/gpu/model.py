"""A model on a device, a step of it, and the clock of that device."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import steps
from sizes import Size

from aaecore import AAE
from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer

FFMA = "ffma"  # the precision "fp32" made without tensor cores
BURST = 64  # steps of one call: a multiple of what one graph holds


def make_model(size: Size, precision: str, device: str, seed: int = 0) -> AAE:
    """That of `steps.make_model` on a device, with FFMA as one more precision.

    Raises:
        ValueError, DeviceError: the device has no such precision.
    """
    before = os.environ.get("AAECORE_CUDA_FP32")
    try:
        if precision == FFMA:
            if device == "cpu":
                raise ValueError("ffma: expected a GPU")
            os.environ["AAECORE_CUDA_FP32"] = FFMA  # read when a backend is made
        return steps.make_model(size, seed, "fp32" if precision == FFMA else precision, device)
    finally:
        os.environ.pop("AAECORE_CUDA_FP32", None)
        if before is not None:
            os.environ["AAECORE_CUDA_FP32"] = before


def make_step(model: AAE, batch: int) -> tuple[Callable[[], None], Buffer]:
    """The launches of one step on random numbers, and its losses."""
    step, x, losses = steps.make_step(model, batch)
    model.backend.upload(x, np.random.default_rng(0).random(x.shape, np.float32))
    return step, losses


def is_gpu(backend: Backend) -> bool:
    """Whether it works on a GPU, not on the host or an emulator."""
    return type(getattr(backend, "driver", None)).__name__ == "CupyDriver"


def clock_of(backend: Backend, call: Callable[[], object]) -> Callable[[int], float]:
    """What makes n calls and gives their seconds: between two events on a GPU, elsewhere by the host's clock."""
    if not is_gpu(backend):

        def by_host(times: int) -> float:
            start = time.perf_counter()
            for _ in range(times):
                call()
            return time.perf_counter() - start

        return by_host
    import cupy

    begin, end = cupy.cuda.Event(), cupy.cuda.Event()

    def by_events(times: int) -> float:
        begin.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3

    return by_events


def once(backend: Backend, call: Callable[[], object], seconds: float = 0.02, rounds: int = 5) -> float:
    """Seconds of one call: the median over rounds, each of so many calls that all take `seconds` together."""
    clock = clock_of(backend, call)
    clock(1)  # what is only done once
    times = max(1, round(seconds / rounds / max(clock(1), 1e-7)))
    return sorted(clock(times) / times for _ in range(rounds))[rounds // 2]
