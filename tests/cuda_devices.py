"""The device that the CUDA tests run on: the emulator, or with AAECORE_REQUIRE_GPU=1 the GPU.

AAECORE_EMULATOR chooses the emulator's build: fast (by default), check (races, bounds, alignment, what was not written)
or asan; AAECORE_EMULATOR_SEED the order in which its blocks and threads run (0: ascending).
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest
from emulator.emulator import EmulatedDriver, unavailable

from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.driver import Driver
from aaecore.backends.cuda.kernels import Chip

ON_GPU = os.environ.get("AAECORE_REQUIRE_GPU") == "1"
MODE = os.environ.get("AAECORE_EMULATOR", "fast")
SEED = int(os.environ.get("AAECORE_EMULATOR_SEED", "0"))
SEES_EVERY_ACCESS = not ON_GPU and MODE != "fast"

MISSING = None if ON_GPU else unavailable()
needs_device = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


make_driver = cuda.make_driver  # which tests replace by `driver`


@cache
def driver() -> Driver:
    """The one device of this process."""
    if ON_GPU:
        return make_driver("cuda")
    return EmulatedDriver(MODE, seed=SEED)


@cache
def backend(chip: Chip | None = None) -> cuda.CudaBackend:
    """A backend on it, which chooses its kernels for a chip, or as it does for the device."""
    made = cuda.CudaBackend(driver())
    made.chip = chip or made.chip
    return made


class DeviceArray:
    """An array on the device as another library would hand it over: it has nothing but the protocol."""

    def __init__(self, array: np.ndarray, strides: tuple[int, ...] | None = None) -> None:
        flat = driver().allocate(array.nbytes).view(array.dtype)
        driver().upload(flat, np.ascontiguousarray(array).reshape(-1))
        self.memory = flat
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (driver().pointer(flat), False),
            "strides": strides,
            "version": 3,
        }


def to_host(array: Any) -> np.ndarray:
    """A host copy of an array that the library gave out."""
    return driver().download(array.reshape(-1)).reshape(array.shape)
