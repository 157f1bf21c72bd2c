"""What the emulator's own tests share: devices with the kernels of emulator/inline.cu, and how these are launched."""

from pathlib import Path

import numpy as np
import pytest
from emulator.emulator import EmulatedDriver, unavailable

from aaecore.backends.cuda.driver import Launch

needs_compiler = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

f4, i4 = np.float32, np.int32
SEEDS = [0, 1, 2]
SOURCE = "inline.cu"
KERNELS = (Path(__file__).parent / "emulator" / SOURCE).read_text()


def driver(mode="check", seed=0, text=KERNELS, **options):
    return EmulatedDriver(mode, seed, {SOURCE: text}, replace_all=True, **options)


def device(d, host):
    """A device array of the same content."""
    host = np.ascontiguousarray(host)
    array = d.allocate(host.nbytes).view(host.dtype)
    d.upload(array, host.reshape(-1))
    return array


def node(d, kernel, *arguments, grid=(1, 1), threads=32, shared=0):
    values = tuple(d.pointer(a) if isinstance(a, np.ndarray) else a for a in arguments)
    return Launch(SOURCE, kernel, grid, threads, shared, values)


def launch(d, kernel, *arguments, **options):
    d.launch(node(d, kernel, *arguments, **options))


def run_test(d, kernel):
    """y (128 floats) and x of one of the TEST kernels, in two blocks."""
    x = np.random.default_rng(0).random(128, f4)
    y = device(d, np.zeros(128, f4))
    launch(d, kernel, device(d, x), y, i4(128 if "block" in kernel else 50), grid=(2, 1), threads=64, shared=512)
    return d.download(y), x


def line_of(text):
    """The number of the line that ends with a text."""
    return next(i for i, line in enumerate(KERNELS.splitlines(), 1) if line.endswith(text))
