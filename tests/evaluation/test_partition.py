"""Partition functions: sums over all states against plain ones, and annealed importance sampling against the sums."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from boltzmann_machines import D, energies, make, roughen, rows, states

from aaecore import DBN, RBM, Trainer, datasets
from aaecore.evaluation import ais, log_likelihood, log_partition


@pytest.mark.parametrize("hidden", [1, 5, 7, 9])
def test_the_sum_over_all_states(hidden):
    model = roughen(make("rbm", hidden=hidden))
    expected = np.log(np.exp(-energies(model.rbm, states(D), states(hidden))).sum())
    assert log_partition(model) == pytest.approx(expected, rel=1e-12)
    assert np.exp(log_likelihood(model, states(D), log_partition(model))).sum() == pytest.approx(1, rel=1e-9)


def test_the_integral_over_gaussian_units():
    """One of two units, on a grid."""
    model = RBM(2, hidden=9, visible="gaussian", device="reference")
    roughen(model, 0.4)
    line = np.linspace(-12, 12, 241)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    expected = np.log(np.exp(-model.free_energy(grid)).sum() * 0.1**2)
    assert log_partition(model) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["rbm", "gaussian"])
def test_sampling_agrees_with_the_sum(kind):
    """On several machines, so that the errors are seen to say what they should."""
    off = []
    for seed in range(12):
        model = roughen(make(kind, hidden=7), 0.5 + 0.1 * seed)
        found = ais(model, 100, 60, seed=seed)
        off.append((found.log_z - log_partition(model)) / found.error)
    assert np.abs(off).max() < 4
    assert 0.4 < np.std(off) < 1.8


@pytest.fixture(scope="module")
def digits():
    return datasets.load("mnist-sample")


@pytest.fixture(scope="module")
def trained(digits):
    model = RBM(784, hidden=20, seed=0)
    Trainer(model).fit(digits.train.x, 8, progress=False)
    return model


def test_sampling_agrees_on_digits(trained):
    exact, found = log_partition(trained), ais(trained, temperatures=1500)
    assert 0.002 < found.error < 0.1
    assert abs(found.log_z - exact) < 4 * found.error
    uneven = ais(trained, temperatures=np.linspace(0, 1, 800) ** 1.5, seed=1)
    assert abs(uneven.log_z - exact) < 4 * uneven.error


def test_likelihood_rises_with_training(digits):
    """Of binary test digits, in nats: -210 after an epoch, when biases know the mean; -189 to -190 at the end."""
    x = (np.random.default_rng(0).random(digits.test.x.shape) < digits.test.x).astype(np.float32)
    model = RBM(784, hidden=12, seed=0)
    trainer, nats = Trainer(model), []
    for epochs in (1, 4, 12):
        trainer.fit(digits.train.x, epochs, progress=False)
        nats.append(float(log_likelihood(model, x, log_partition(model)).mean()))
    assert -215 < nats[0] < nats[1] < nats[2]
    assert nats[2] > -195


def test_bits_do_not_depend_on_threads(threads):
    """Products of 2 x 60 x 120 x 80 flop, which threads share: from 140,000 on they do."""
    model, small = roughen(RBM(120, hidden=80), 0.2), roughen(RBM(120, hidden=9))
    x = (np.random.default_rng(2).random((600, 120)) < 0.4).astype(np.float32)
    found = []
    for n in (1, 2, 3):
        threads(n)
        found.append((ais(model, 60, 20), log_partition(small), log_likelihood(model, x, 3.0).tolist()))
    assert found[0] == found[1] == found[2]
    assert ais(model, 60, 20, seed=1) != found[0][0]


@cuda_devices.needs_device
def test_the_gpu_agrees_with_the_reference(cuda_device):
    found = [ais(roughen(make("rbm", device=device)), 5, 10).log_z for device in ("cuda", "reference")]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 1}, "runs: expected an integer >= 2, got 1"),
        ({"temperatures": 0}, "temperatures: expected an integer >= 1, got 0"),
        ({"temperatures": [0.0, 0.5]}, "temperatures: expected a number of steps, or numbers that rise from 0 to 1"),
        ({"temperatures": [0.0, 0.7, 0.5, 1.0]}, "temperatures: expected a number of steps, or numbers that rise"),
        ({"seed": -1}, "seed: expected an integer from 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ais(make("rbm"), **arguments)


def test_a_likelihood_takes_an_estimate():
    model = roughen(make("rbm"))
    found = ais(model, 5, 10)
    assert np.array_equal(log_likelihood(model, states(D), found), log_likelihood(model, states(D), found.log_z))
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"^log_z: expected a number > -inf, got {bad}"):
            log_likelihood(model, states(D), bad)
    for bad in ("1", tuple(found), None, np.zeros(3)):
        with pytest.raises(TypeError, match=r"^log_z: expected a number > -inf, got "):
            log_likelihood(model, states(D), bad)


def test_rows_that_the_units_cannot_be():
    model, gaussian = roughen(make("rbm")), roughen(make("gaussian"))
    grey = states(D).copy()
    grey[3, 1] = 0.5
    model.free_energy(grey)
    with pytest.raises(
        ValueError, match=r"^x: expected 0 and 1, as Bernoulli units are .* got 1 of 384 values that are"
    ):
        log_likelihood(model, grey, 0.0)
    pictures = (255 * states(D)).astype(np.uint8)
    assert np.array_equal(log_likelihood(model, pictures, 0.0), log_likelihood(model, states(D), 0.0))
    pictures[0, 0] = 1
    with pytest.raises(ValueError, match=r"got 1 of 384 values that are neither"):
        log_likelihood(model, pictures, 0.0)
    assert np.isfinite(log_likelihood(gaussian, 3 * grey, 0.0)).all()
    for function in (model.free_energy, model.evaluate, lambda x: log_likelihood(model, x, 0.0)):
        with pytest.raises(ValueError, match=r"^x: expected values in \[0, 1\]"):
            function(2 * states(D))


@pytest.mark.parametrize("kind", ["rbm", "gaussian"])
def test_likelihoods_are_of_float32_products_whatever_the_precision(kind):
    """The weights are those of float32: all that the precision changes is how training rounds them."""
    exact, rounded = (roughen(make(kind, device="cpu", precision=p)) for p in ("fp32", "bf16"))
    assert np.array_equal(exact.free_energy(states(D)), rounded.free_energy(states(D)))
    assert ais(exact, 5, 10) == ais(rounded, 5, 10)
    assert not np.array_equal(exact.encode(states(D)), rounded.encode(states(D)))


def test_other_models():
    with pytest.raises(ValueError, match="rbm: expected at most 20 hidden units, whose states are summed, got 21"):
        log_partition(make("rbm", hidden=21))
    other = DBN(D, (3, 2))
    for function in (log_partition, ais, lambda model: log_likelihood(model, rows(), 0.0)):
        with pytest.raises(TypeError, match="rbm: expected an RBM, got DBN"):
            function(other)
