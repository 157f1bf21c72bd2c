"""What users of Parzen windows and discrepancies rely on beyond their values, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aaecore.backends import cpu
from aaecore.core.backend import Backend

Array = NDArray[Any]
DEVICES: dict[str, Backend] = {isa: cpu.CpuBackend(isa) for isa in cpu.compiled.supported()}
GAMMAS = np.array([0.01, 0.3])


@pytest.fixture(params=DEVICES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return DEVICES[request.param]


def parzen(backend: Backend, x: Array, blocks: list[Array]) -> tuple[Array, Array]:
    """(least, sums) of the rows of x after all blocks of samples."""
    rows, features, kernels = *x.shape, len(GAMMAS)
    least = backend.from_host(np.full(rows, np.inf))
    sums = backend.from_host(np.zeros((rows, kernels)), "float64")
    for block in blocks:
        buffers = (backend.from_host(x), backend.from_host(block), backend.from_host(GAMMAS), least, sums)
        backend.launch("parzen", buffers, (rows, len(block), features, kernels))
    return backend.to_host(least), backend.to_host(sums)


def test_no_distance_is_below_0(backend: Backend, rng: np.random.Generator) -> None:
    """Of rows from their own copies, where what remains of |x|^2 + |y|^2 - 2 x y is rounding, of either sign."""
    x = 30 * rng.standard_normal((200, 61))
    least, sums = parzen(backend, x, [x])
    assert (least >= 0).all()
    assert (least == 0).any()
    assert (least < 0.1).all()
    assert (sums >= 1).all()


def test_a_row_does_not_depend_on_the_rows_beside_it(backend: Backend, rng: np.random.Generator) -> None:
    """So test rows may come in any blocks."""
    x, samples = rng.standard_normal((131, 23)), rng.standard_normal((75, 23))
    least, sums = parzen(backend, x, [samples])
    for cuts in ([1, 57], [113], [14, 28, 29]):
        parts = [parzen(backend, part, [samples]) for part in np.split(x, cuts)]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), least)
        np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), sums)


def test_samples_in_blocks_are_those_of_one_launch(backend: Backend, rng: np.random.Generator) -> None:
    """Up to rounding: a nearer sample in a later block makes what was added up before smaller."""
    x, samples = rng.standard_normal((9, 5)), rng.standard_normal((1200, 5))
    nearest_last = samples[np.argsort(-((samples - x[0]) ** 2).sum(axis=1))]
    least, sums = parzen(backend, x, [samples])
    for blocks in (np.split(nearest_last, 24), [samples[::-1]]):
        again, others = parzen(backend, x, blocks)
        np.testing.assert_array_equal(again, least)
        np.testing.assert_allclose(others, sums, rtol=3e-6)
