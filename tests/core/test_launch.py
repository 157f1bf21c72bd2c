"""What a launch refuses: below the public layer nothing checks again, so nothing may come through."""

import numpy as np
import pytest

from aaecore import get_backend
from aaecore.core.ops import ACTIVATIONS, OPS
from aaecore.kernels import cpu


@pytest.fixture(params=["cpu", "reference"])
def backend(request):
    return get_backend(request.param)


@pytest.mark.parametrize("op", [op for op in OPS.values() if {"act", "beta"} & set(op.dims)], ids=lambda op: op.name)
def test_activations_and_betas_that_there_are_not(backend, op):
    most = {"act": len(ACTIVATIONS) - 1, "beta": 1}
    good = [0 if d in most else 2 for d in op.dims]
    buffers = [backend.empty((arg.size(dict(zip(op.dims, good, strict=True))),), "real") for arg in op.args]
    for name in most.keys() & set(op.dims):
        for bad in (most[name] + 1, 99, -1, 0.5, "1", None, 2**70, np.float32(1)):
            dims = [bad if d == name else value for d, value in zip(op.dims, good, strict=True)]
            with pytest.raises(
                ValueError, match=f"^{op.name}: {name}: expected an integer from 0 to {most[name]}, got "
            ):
                backend.launch(op.name, buffers, dims, [1.0] * len(op.scalars))


def test_sizes_are_integers(backend):
    x, y, loss = (backend.zeros((n,)) for n in (2, 2, 1))
    for bad in (0.5, 1.0, float("nan"), 2**70, "1", None):
        with pytest.raises(ValueError, match=r"^adversarial_bce: real: expected an integer >= 0( and < 2\^63)?, got "):
            backend.launch("adversarial_bce", (x, y, loss), (2, bad), (1.0,))
    backend.launch("adversarial_bce", (x, y, loss), (np.int64(2), np.int32(1)), (1.0,))


def test_read_only_memory_is_read_and_never_written(backend):
    array = np.ones(4, backend.real)
    array.flags.writeable = False
    fixed, free = backend.wrap(array), backend.zeros((4,))
    backend.launch("copy", (fixed, free), (4, 0))
    assert backend.to_host(free).tolist() == [1, 1, 1, 1]
    for target in (fixed, fixed.flat(), fixed.rows(0, 4)):
        for launch in (
            lambda target=target: backend.launch("copy", (free, target), (4, 0)),
            lambda target=target: backend.capture(lambda: backend.launch("copy", (free, target), (4, 1))),
        ):
            with pytest.raises(
                ValueError, match=r"^copy: dst: expected memory to write, got that of a read-only array$"
            ):
                launch()
    for write in (
        lambda: backend.upload(fixed, np.zeros(4)),
        lambda: backend.copy(fixed, free),
        lambda: backend.clear(fixed),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert array.tolist() == [1, 1, 1, 1]


def test_kernels_cannot_be_made_without_an_instruction_set():
    with pytest.raises(TypeError):
        cpu.Kernels.__new__(cpu.Kernels)
    with pytest.raises(ValueError, match="v9"):
        cpu.Kernels.__new__(cpu.Kernels, "v9")
    assert cpu.Kernels.__new__(cpu.Kernels, cpu.supported()[0]).lanes > 0
