"""The device that the CUDA tests run on: the emulator, or with AAECORE_REQUIRE_GPU=1 the GPU.

AAECORE_EMULATOR chooses the emulator's build: fast (by default), check (races, bounds, alignment, what was not written)
or asan; AAECORE_EMULATOR_SEED the order in which its blocks and threads run (0: ascending).
"""

from __future__ import annotations

import os
import shutil
from functools import cache

import pytest

from aaecore import cuda
from aaecore.driver import Driver

ON_GPU = os.environ.get("AAECORE_REQUIRE_GPU") == "1"
MODE = os.environ.get("AAECORE_EMULATOR", "fast")
SEED = int(os.environ.get("AAECORE_EMULATOR_SEED", "0"))
SEES_EVERY_ACCESS = not ON_GPU and MODE != "fast"

needs_device = pytest.mark.skipif(
    not ON_GPU and shutil.which("g++") is None, reason="the emulator of the CUDA kernels needs g++: install it"
)


@cache
def driver() -> Driver:
    """The one device of this process."""
    if ON_GPU:
        return cuda.make_driver("cuda")
    from emulator.emulator import EmulatedDriver

    return EmulatedDriver(MODE, seed=SEED)


@cache
def backend(fp32: str | None = None, tile: str | None = None) -> cuda.CudaBackend:
    """A backend on it, with one tile of matrix products if `tile` is given."""
    return cuda.CudaBackend(driver(), fp32, [tile] if tile else tuple(cuda.TILES))
