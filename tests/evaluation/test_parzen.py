"""The density of a Gaussian Parzen window, against float64 NumPy and scikit-learn."""

import copy
import pickle

import numpy as np
import pytest

import aaecore
from aaecore.errors import CheckpointError
from aaecore.evaluation import Parzen, choose_sigma, parzen

N = 12  # features
MANY = 2 * 1024 + 300  # samples: two whole blocks and a part of one
DEVICES = ("cpu", "reference")


def plain(samples, x, sigma):
    """(B,) ln p(x), float64, of all differences one by one."""
    away = ((x[:, None].astype(np.float64) - samples.astype(np.float64)) ** 2).sum(axis=2)
    logs = -away / (2 * sigma**2)
    most = logs.max(axis=1)
    sums = np.log(np.exp(logs - most[:, None]).sum(axis=1))
    return most + sums - np.log(len(samples)) - samples.shape[1] / 2 * np.log(2 * np.pi * sigma**2)


def case(rng, *, rows=50, samples=MANY, at=0.0, features=N):
    return [(at + rng.normal(size=(n, features))).astype(np.float32) for n in (samples, rows)]


def density(samples, x, *sigmas, device="cpu"):
    window = Parzen(x, sigmas, device=device)
    window.add(samples)
    return window.log_density()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_against_float64(rng, device, sigma):
    """An exponent is as wrong as the squared distance in it: a few roundings of float32 of some dozens."""
    samples, x = case(rng)
    wanted = plain(samples, x, sigma)
    found = density(samples, x, sigma, device=device)
    assert found.shape == (50, 1)
    assert found.dtype == np.float64
    allowed = (5e-6 if device == "cpu" else 5e-7) / sigma**2 + 1e-6
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6, atol=allowed)
    mean, error = parzen(samples, x, sigma, device=device)
    assert mean == pytest.approx(wanted.mean(), rel=1e-6, abs=allowed)
    assert error == pytest.approx(wanted.std() / 50**0.5, rel=1e-4)


def test_a_sigma_that_float32_is_too_coarse_for_is_a_warning(rng):
    """Rows of which each has a sample very near, far from all others."""
    x = rng.normal(size=(40, 100)).astype(np.float32)
    samples = x + np.float32(1e-3) * rng.normal(size=x.shape).astype(np.float32)
    wanted = plain(samples, x, 1e-3)
    with pytest.warns(
        RuntimeWarning, match="sigma: 0.001 is so small beside the spread of x, 0.987 in a feature"
    ) as said:
        off = np.abs(density(samples, x, 1e-3)[:, 0] - wanted).max()
    assert len(said) == 1
    assert off > 1
    exact = density(samples, x, 1e-3, device="reference")[:, 0]  # without a warning
    np.testing.assert_allclose(exact, wanted, atol=1e-3)
    wanted = plain(samples, x, 0.02)
    np.testing.assert_allclose(density(samples, x, 0.02)[:, 0], wanted, atol=0.1)
    density(samples, x, 1e-3, 0.02)  # a grid, of which some sigma will do


def test_it_is_no_copy_and_no_pickle(rng):
    window = Parzen(rng.normal(size=(5, 2)), [0.3])
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"Parzen: expected save and Parzen.load"):
            way(window)


def test_against_scikit_learn(rng):
    neighbors = pytest.importorskip("sklearn.neighbors", reason="compares with it: pip install '.[sklearn]'")
    samples, x = case(rng)
    other = neighbors.KernelDensity(bandwidth=0.7).fit(samples.astype(np.float64))
    np.testing.assert_allclose(density(samples, x, 0.7)[:, 0], other.score_samples(x.astype(np.float64)), rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_bits_however_samples_come(rng, device):
    samples, x = case(rng)
    sigmas = (0.3, 1.0)
    whole = density(samples, x, *sigmas, device=device)
    for size in (1, 7, 1000, 1024, MANY):
        window = Parzen(x, sigmas, device=device)
        for start in range(0, MANY, size):
            window.add(samples[start : start + size])
            if start in (size, 7 * size):
                window.result()  # a look in between changes nothing
        assert window.count == MANY
        assert np.array_equal(window.log_density(), whole), size
    expected = parzen(samples, x, 0.3, device=device)
    assert parzen(iter([samples[:100], samples[100:]]), x, 0.3, device=device) == expected
    assert parzen([samples[:1], samples[1:]], x, 0.3, device=device) == expected


def test_the_same_bits_with_any_number_of_threads(rng):
    samples, x = case(rng, rows=300)
    before, found = aaecore.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            aaecore.set_num_threads(threads)
            found.append(density(samples, x, 0.3, 1.0))
    finally:
        aaecore.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_several_sigmas_at_once_are_as_each_alone(rng):
    samples, x = case(rng)
    both = density(samples, x, 0.3, 1.0)
    for i, sigma in enumerate((0.3, 1.0)):
        np.testing.assert_allclose(both[:, i], density(samples, x, sigma)[:, 0], rtol=1e-12)


@pytest.mark.parametrize("at", [100.0, -3000.0])
def test_far_from_the_origin(rng, at):
    """Where float32 holds the rows, it holds their distances: products are made without the mean of the rows."""
    samples, x = case(rng, at=at)
    np.testing.assert_allclose(density(samples, x, 0.4)[:, 0], plain(samples, x, 0.4), rtol=1e-5, atol=1e-4)


def test_one_sample_and_equal_ones(rng):
    _, x = case(rng)
    alone = density(x[:1], x, 0.5)
    np.testing.assert_allclose(alone[:, 0], plain(x[:1], x, 0.5), rtol=1e-5)
    np.testing.assert_allclose(density(np.repeat(x[:1], 1500, axis=0), x, 0.5), alone, rtol=1e-6)
    peak = -N / 2 * np.log(2 * np.pi * 0.25)
    assert alone[0, 0] == pytest.approx(peak, abs=1e-4)  # at the sample itself


@pytest.mark.filterwarnings("ignore:sigma. 1e-18 is so small")
@pytest.mark.parametrize("device", DEVICES)
def test_the_smallest_and_the_largest_sigma(rng, device):
    samples, x = case(rng)
    tiny, huge = density(samples, x, 1e-6, 1e6, device=device).T
    np.testing.assert_allclose(tiny, plain(samples, x, 1e-6), rtol=1e-5)  # of the nearest sample alone
    np.testing.assert_allclose(huge, np.full(50, -N / 2 * np.log(2 * np.pi * 1e12)), rtol=1e-9)
    for sigma in (1e-18, 1e18):
        assert np.isfinite(density(samples, x, sigma, device=device)).all()


def test_bytes_stand_for_unit_numbers(rng):
    pixels = rng.integers(0, 256, (40, N), np.uint8)
    units = (pixels / 255).astype(np.float32)
    np.testing.assert_allclose(density(pixels, pixels[:9], 0.2), density(units, units[:9], 0.2), rtol=1e-5)


def test_a_sigma_of_a_grid(rng):
    samples, x = case(rng, samples=400, features=2)
    grid = np.geomspace(0.05, 3, 12)
    means = [plain(samples, x, sigma).mean() for sigma in grid]
    assert choose_sigma(samples, x, grid) == grid[int(np.argmax(means))]
    assert choose_sigma(iter((samples[:7], samples[7:])), x, list(grid)) == grid[int(np.argmax(means))]
    with pytest.warns(UserWarning, match=r"grid: the best sigma, 1, is its smallest; a better one may lie beyond it"):
        assert choose_sigma(samples, x, [1.0, 2.0, 3.0]) == 1.0
    with pytest.warns(UserWarning, match=r"is its largest"):
        assert choose_sigma(samples, x, [0.01, 0.02]) == 0.02
    assert choose_sigma(samples, x, [2.0]) == 2.0  # without a warning: it is no choice


@pytest.mark.parametrize("device", DEVICES)
def test_a_stop_in_the_middle(rng, tmp_path, device):
    samples, x = case(rng)
    path = tmp_path / "window.h5"
    whole = density(samples, x, 0.3, 1.0, device=device)
    for stop in (0, 5, 1024, 1500):
        window = Parzen(x, [0.3, 1.0], device=device)
        window.add(samples[:stop]) if stop else None
        window.save(path, {"step": stop})
        again = Parzen.load(path, x, device=device)
        assert (again.count, again.about) == (stop, {"step": stop})
        again.add(samples[stop:])
        assert np.array_equal(again.log_density(), whole), stop
    assert set(again.state()) == {"least", "sums", "pending"}


def test_a_file_of_something_else(rng, tmp_path):
    samples, x = case(rng)
    path, of_model = tmp_path / "window.h5", tmp_path / "model.h5"
    window = Parzen(x, [0.3])
    window.add(samples)
    window.save(path)
    aaecore.AAE(N, 2, (4,)).save(of_model)
    for file, rows, message in (
        (of_model, x, "expected the state of a Parzen window, got one of model"),
        (path, x + 1, "expected the Parzen window of these rows x, got that of others"),
        (tmp_path / "none.h5", x, "No such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Parzen.load(file, rows)
    with pytest.raises(ValueError, match="x: expected 2-D"):
        Parzen.load(path, x[0])
    raw = bytearray(path.read_bytes())
    at = raw.index(window.state()["sums"].tobytes()[:64])
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged: expected content with SHA-256"):
        Parzen.load(path, x)


def test_bad_arguments(rng):
    samples, x = case(rng, samples=30)
    hole = samples.copy()
    hole[3, 4] = np.nan
    for arguments, wrong, message in (
        ((hole, x, 1.0), ValueError, "samples: expected finite float32 values .* at row 3, column 4"),
        ((samples, hole, 1.0), ValueError, "x: expected finite float32 values .* at row 3, column 4"),
        ((samples[:, 1:], x, 1.0), ValueError, "samples: expected 12 features .*, got 11"),
        ((samples[0], x, 1.0), ValueError, "samples: expected 2-D"),
        ((iter(()), x, 1.0), ValueError, "samples: expected at least one, got none"),
        ((samples[:0], x, 1.0), ValueError, "samples: expected at least one row"),
        ((samples, x[:0], 1.0), ValueError, "x: expected at least one row"),
        ((samples, x, 0.0), ValueError, "sigma: expected a number > 0, got 0.0"),
        ((samples, x, -1.0), ValueError, "sigma: expected a number > 0, got -1.0"),
        ((samples, x, float("nan")), ValueError, "sigma: expected a number > 0, got nan"),
        ((samples, x, 1e-30), ValueError, "sigma: expected a number from 1e-18 to 1e.18, got 1e-30"),
        ((samples, x, "1"), TypeError, "sigma: expected a number > 0, got '1'"),
        ((samples * 1e30, x, 1.0), ValueError, "samples: expected finite rows whose squared distances"),
    ):
        with pytest.raises(wrong, match=message):
            parzen(*arguments)
    for grid, wrong in (
        ([], ValueError),
        (1.0, ValueError),
        ("12", ValueError),
        ([0.1, 0], ValueError),
        ([None], TypeError),
    ):
        with pytest.raises(wrong, match="grid: expected a "):
            choose_sigma(samples, x, grid)
    with pytest.raises(ValueError, match="sigmas: expected a sequence"):
        Parzen(x, ())


def test_bad_samples_leave_the_window_as_it_was(rng):
    samples, x = case(rng)
    window = Parzen(x, [0.3])
    window.add(samples)
    before = window.log_density()
    with pytest.raises(ValueError, match="samples: expected finite"):
        window.add(np.full((2000, N), np.inf))
    assert window.count == MANY
    assert np.array_equal(window.log_density(), before)


def test_arrays_of_a_device(rng, cuda_device):
    """What a model draws on a GPU stays there; here it is the emulator."""
    backend = aaecore.get_backend("cuda")
    samples, x = case(rng, rows=9, samples=40)
    window = Parzen(x, [0.4], device=backend)
    window.add(backend.array(backend.from_host(samples)))
    np.testing.assert_allclose(window.log_density()[:, 0], plain(samples, x, 0.4), rtol=1e-5, atol=1e-4)
