"""The likelihood of models: samples that are drawn block by block, a sigma that is chosen, a stop in the middle."""

import importlib
import os
import signal

import numpy as np
import pytest
from class_models import D, make

from aaecore import AAE, Trainer
from aaecore.errors import CheckpointError
from aaecore.evaluation import Likelihood, Parzen, choose_sigma, likelihood, parzen
from aaecore.evaluation.likelihood import default_grid, draws

DEVICE = "cpu"
WHOLE = {"sigma": 0.3, "samples": 3000}


@pytest.fixture
def data(rng):
    return rng.random((90, D), np.float32)


def trained(data, **options):
    model = AAE(D, 3, (9,), **{"seed": 1, "device": DEVICE, **options})
    Trainer(model, 30).fit(data, 2, progress=False)
    return model


def drawn(model, n):
    """The first samples that the model ever drew, on the host."""
    model.sampler.counter = 0
    return np.concatenate([model.sample(1024) for _ in range(-(-n // 1024))])[:n]


def same(one, other):
    return one._replace(seconds=0) == other._replace(seconds=0)


def test_it_is_the_parzen_window_of_the_samples(data):
    model = trained(data)
    found = likelihood(model, data[:40], **WHOLE)
    assert isinstance(found, Likelihood)
    assert (found.samples, found.rows, found.sigma) == (3000, 40, 0.3)
    wanted = parzen(drawn(model, 3000), data[:40], 0.3, device=DEVICE)
    assert (found.mean, found.error) == pytest.approx(wanted, rel=1e-6)
    assert found.seconds > 0


def test_the_draws_are_the_same_ones_and_the_models_own_go_on(data):
    model, other = trained(data), trained(data)
    first = likelihood(model, data, **WHOLE)
    assert np.array_equal(model.sample(5), other.sample(5))  # as if it had not been there
    assert same(likelihood(model, data, **WHOLE), first)
    with pytest.raises(RuntimeError, match="enough"):
        likelihood(model, data, **WHOLE, progress=lambda done, samples: _raise(RuntimeError("enough")))
    assert np.array_equal(model.sample(5), other.sample(5))


def _raise(error):
    raise error


def test_blocks_and_where_the_numbers_are(data):
    model = trained(data)
    whole = drawn(model, 3072)
    blocks = list(draws(model, 2500))
    assert [len(block) for block, _ in blocks] == [1024, 1024, 452]
    assert np.array_equal(np.concatenate([block for block, _ in blocks]), whole[:2500])
    made, counter = 2500, blocks[-1][1]
    more = np.concatenate([block for block, _ in draws(model, 3072, made, counter)])
    assert np.array_equal(more, whole[2500:])


def test_sigma_by_a_grid(data):
    model, grid = trained(data), [0.1, 0.2, 0.3, 0.5, 1.0]
    found = likelihood(model, data[:40], data[40:], samples=500, grid=grid, sigma_samples=300)
    assert found.sigma == choose_sigma(drawn(model, 300), data[40:], grid, device=DEVICE)
    assert found.mean == pytest.approx(parzen(drawn(model, 500), data[:40], found.sigma, device=DEVICE)[0], rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_sigma_without_a_grid_is_the_best_one_on_any_scale(data, scale):
    options = {"reconstruction": "mse", "output": "linear"}
    x = scale * (data - 0.2)
    model = trained(x, **options)
    found = likelihood(model, x[:40], x[40:], samples=1000, sigma_samples=1000)
    samples = drawn(model, 1000)
    grid = default_grid(model, x[40:])
    np.testing.assert_allclose(grid[[0, -1]], np.array([0.02, 10]) * x[40:].std(axis=0).mean(), rtol=0.05)
    finer = found.sigma * np.geomspace(0.8, 1.25, 41)
    best = max(parzen(samples, x[40:], sigma, device=DEVICE)[0] for sigma in finer)
    assert best - parzen(samples, x[40:], found.sigma, device=DEVICE)[0] < 0.01
    assert found.sigma / scale == pytest.approx(0.25, abs=0.15)


def test_units_of_each_feature_are_undone_before_the_likelihood(rng):
    """As section 3 wants it for faces: networks and losses see normalised features, the samples are as the data are."""
    scales = np.geomspace(0.01, 0.3, D)
    x = (0.5 + scales * np.repeat(rng.normal(size=(600, 2)), D // 2, axis=1)).astype(np.float32)
    model = AAE(
        D, 2, (32,), reconstruction="mse", output="linear", standardise_each=True, seed=1, device=DEVICE
    )  # fmt: skip
    Trainer(model, 50).fit(x[:400], 20, progress=False)
    samples = model.sample(2048)
    np.testing.assert_allclose(samples.std(axis=0), scales, rtol=0.5)  # though they are 30 times apart
    assert (np.abs(samples.mean(axis=0) - 0.5) < scales).all()
    found = likelihood(model, x[400:500], x[500:], samples=2048, sigma_samples=2048)
    normal = (-(((x - 0.5) / scales) ** 2) / 2 - np.log(scales * np.sqrt(2 * np.pi))).sum(axis=1)
    assert found.mean > normal[400:500].mean()  # of units that were left it would be far below


@pytest.mark.parametrize("kind", ["semi-supervised", "clustering", "reduction, no labels"])
def test_models_with_classes(data, kind):
    model = make(kind, device=DEVICE)
    assert np.isfinite(likelihood(model, data, sigma=0.5, samples=1500).mean)


def test_a_stop_in_the_middle_changes_no_bit(data, tmp_path):
    model, path = trained(data), tmp_path / "state.h5"
    options = {"samples": 5000, "sigma_samples": 1000}
    told = []
    whole = likelihood(model, data[:40], data[40:], **options, progress=lambda *made: told.append(made))
    assert told == [(made, 7000) for made in (1000, 2000, 3024, 4048, 5072, 6096, 7000)]  # two grids before

    def stop(done, samples):
        if done == 2000 + 2048:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        likelihood(model, data[:40], data[40:], **options, checkpoint=path, progress=stop)
    assert Parzen.load(path, data[:40], device=DEVICE).count == 2048
    seen = []
    window = Parzen.load(path, data[:40], device=DEVICE)
    window.save(path, {**window.about, "seconds": 1000.0})
    again = trained(data)  # of another process
    again.sample(3)
    found = likelihood(
        again, data[:40], data[40:], **options, checkpoint=path, progress=lambda done, samples: seen.append(done)
    )  # fmt: skip
    assert same(found, whole)
    assert found.seconds > 1000
    assert seen == [2000 + 3072, 2000 + 4096, 2000 + 5000]
    assert same(likelihood(model, data[:40], data[40:], **options, checkpoint=path, progress=_raise), whole)
    more = likelihood(model, data[:40], data[40:], samples=6000, sigma_samples=1000, checkpoint=path)
    assert same(more, likelihood(model, data[:40], data[40:], samples=6000, sigma_samples=1000))


def test_the_sigma_that_was_chosen_is_kept_before_the_long_pass(data, tmp_path, monkeypatch):
    model, path = trained(data), tmp_path / "state.h5"
    options = {"samples": 2000, "sigma_samples": 500, "checkpoint": path}
    whole = likelihood(model, data[:40], data[40:], samples=2000, sigma_samples=500)
    for at, there in ((1000, False), (1001, True)):  # at the end of the choice, and in the first block after it
        with pytest.raises(RuntimeError, match="enough"):
            likelihood(
                model, data[:40], data[40:], **options,
                progress=lambda done, _, at=at: done >= at and _raise(RuntimeError("enough")),
            )  # fmt: skip
        assert os.path.exists(path) == there
    window = Parzen.load(path, data[:40], device=DEVICE)
    assert (window.count, float(window.sigmas[0])) == (0, whole.sigma)
    module = importlib.import_module("aaecore.evaluation.likelihood")  # whose name in the package is a function's
    monkeypatch.setattr(module, "_chosen", lambda *_: _raise(AssertionError("chosen again")))
    assert same(likelihood(model, data[:40], data[40:], **options), whole)


def test_a_state_is_written_now_and_then(data, tmp_path):
    model, path, there = trained(data), tmp_path / "state.h5", []

    def look(done, samples):
        there.append(os.path.exists(path) and Parzen.load(path, data, device=DEVICE).count)

    likelihood(model, data, **WHOLE, checkpoint=path, checkpoint_interval=0, progress=look)
    assert there == [False, 1024, 2048]
    likelihood(model, data, sigma=0.2, samples=3000, progress=look)  # without a file none is written
    assert os.listdir(tmp_path) == ["state.h5"]


def test_an_error_keeps_the_last_state(data, tmp_path):
    model, path = trained(data), tmp_path / "state.h5"
    stop = {"checkpoint": path, "checkpoint_interval": 0}
    with pytest.raises(RuntimeError, match="enough"):
        likelihood(model, data, **WHOLE, **stop, progress=lambda n, _: n > 2000 and _raise(RuntimeError("enough")))
    assert Parzen.load(path, data, device=DEVICE).count == 1024
    assert same(likelihood(model, data, **WHOLE, checkpoint=path), likelihood(model, data, **WHOLE))


def test_the_state_of_another_likelihood(data, tmp_path):
    model, path = trained(data), tmp_path / "state.h5"
    x, validation = data[:40], data[40:]
    likelihood(model, x, validation, samples=1500, sigma_samples=500, checkpoint=path)
    others = trained(data, seed=2), data[:40] + 0.001
    for arguments, options, message in (
        (
            (others[0], x, validation),
            {},
            "expected the state of this likelihood, got one of another model; finish that one, or remove the file",
        ),
        (
            (model, others[1], validation),
            {},
            "expected the Parzen window of these rows x, got that of others; finish that one",
        ),
        ((model, x, validation[1:]), {}, "got one of another validation; finish that one, or remove the file"),
        ((model, x, validation), {"grid": [0.1, 0.2]}, "got one of another grid; finish that one, or remove the file"),
        (
            (model, x, validation),
            {"sigma_samples": 501},
            "got one of another samples to choose sigma; finish that one, or remove the file",
        ),
        (
            (model, x),
            {"sigma": 0.3},
            "got one of another samples to choose sigma, sigma, validation; finish that one, or remove the file",
        ),
        (
            (model, x, validation),
            {"samples": 1400},
            "expected a state of at most 1400 samples, got 1500; finish that one, or remove the file",
        ),
    ):
        given = {"samples": 2000, "sigma_samples": 500, **options}
        with pytest.raises(CheckpointError, match=message):
            likelihood(*arguments, **given, checkpoint=path)
    Parzen(x, [0.3]).save(path)
    with pytest.raises(CheckpointError, match="expected the state of a likelihood, got that of another Parzen window"):
        likelihood(model, x, validation, checkpoint=path)


def test_bad_arguments(data):
    model = trained(data)
    for arguments, options, wrong, message in (
        ((model, data), {}, ValueError, "validation: expected rows to choose sigma by, or a sigma, got neither"),
        ((model, data, data), {"sigma": 1.0}, ValueError, "sigma: expected None beside validation rows or a grid"),
        ((model, data), {"sigma": 0}, ValueError, "sigma: expected a number > 0, got 0"),
        ((model, data[:, 1:]), {"sigma": 1}, ValueError, "x: expected 12 features"),
        ((model, data + 2), {"sigma": 1}, ValueError, r"x: expected values in \[0, 1\]"),
        ((model, data, data[:, 1:]), {}, ValueError, "validation: expected 12 features"),
        ((model, data, data[:1]), {}, ValueError, "validation: expected rows that differ, or a grid of sigmas besides"),
        ((model, data, data), {"grid": []}, ValueError, "grid: expected a sequence of numbers > 0, got"),
        ((model, data), {"sigma": 1, "samples": 0}, ValueError, "samples: expected an integer >= 1, got 0"),
        ((model, data), {"sigma": 1, "sigma_samples": 0}, ValueError, "sigma_samples: expected an integer >= 1, got 0"),
        ((object(), data), {"sigma": 1}, TypeError, "model: expected one that has samples, got one of object"),
    ):
        with pytest.raises(wrong, match=message):
            likelihood(*arguments, **options)


def test_on_a_gpu_samples_stay_there(data, cuda_device, monkeypatch):
    """Here it is the emulator. A block of samples and a part of one are those of the CPU, but for roundings."""
    found = {}
    for device in ("cpu", "cuda"):
        model = AAE(D, 2, (4,), seed=1, device=device)
        if device == "cuda":
            monkeypatch.setattr(model.backend, "to_host", _without_rows(model.backend.to_host))
        found[device] = likelihood(model, data[:5], sigma=0.3, samples=1100)
    assert found["cuda"].mean == pytest.approx(found["cpu"].mean, abs=1e-3)
    assert found["cuda"].samples == 1100


def _without_rows(to_host):
    """What refuses to copy samples to the host."""

    def refusing(buffer):
        assert len(buffer.shape) < 2 or buffer.shape[1] != D or len(buffer) <= 5, "samples came to the host"
        return to_host(buffer)

    return refusing
