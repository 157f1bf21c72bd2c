"""What units are good for: scales do not matter, gradients hold, and contradictions are refused."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import numeric_gradient
from trained import DEFAULT, PLAIN, D, model, rows

import aaecore
from aaecore import CheckpointError, Trainer, get_backend, priors
from aaecore.data.rows import SAMPLE, moments
from aaecore.files import checkpoint
from aaecore.functions import half_squared_error
from aaecore.functions.tensor import Parameter, Tensor, backward
from aaecore.nn import Standardise


@pytest.fixture
def x():
    return rows()


def default(**options):
    return model(**DEFAULT, **options)


# --- gradients and scales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["there", "back", "there and on"])
def test_gradients_go_through(way):
    backend, rng = get_backend("reference"), np.random.default_rng(0)
    units = Standardise(backend, 3)
    units.set("x", np.array([1.0, -2.0, 0.5]), 2.5, 9)
    leaf, target = Parameter(backend.from_host(rng.normal(size=(5, 3)))), Tensor(backend.from_host(np.ones((5, 3))))

    def loss():
        y = units.back(leaf) if way == "back" else units(leaf)
        return half_squared_error(units(y) if way == "there and on" else y, target)

    backward([loss()], parameters=[leaf])
    numeric = numeric_gradient(leaf, lambda: [loss()])
    assert np.abs(numeric).min() > 1e-4
    np.testing.assert_allclose(backend.to_host(leaf.grad), numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_the_decoder_learns_the_units_only_where_it_is_linear(output, x):
    """A linear decoder gives numbers of the data's unit; one of probabilities those of the data themselves."""
    made = default(reconstruction="mse", output=output)
    made.begin(x, made.networks)
    decoded = made.decoder(made.code(Tensor(made.backend.from_host(x)), made.sampler, sample=False)).numpy()
    scale, mean = (made.statistics[f"inputs.{name}"].numpy() for name in ("back_scale", "mean"))
    expected = decoded * scale + mean if output == "linear" else decoded
    np.testing.assert_allclose(made.reconstruct(x), expected, rtol=1e-5, atol=1e-6)


def test_the_scale_of_data_does_not_matter(x):
    """Of the squared error with a linear output; x and 100 x + 7."""
    small, large = (Trainer(default(reconstruction="mse"), 32) for _ in range(2))
    small.fit(x, 6, validation=x, progress=False)
    large.fit(100 * x + 7, 6, validation=100 * x + 7, progress=False)
    untrained = default(reconstruction="mse")
    untrained.begin(x, untrained.networks)
    assert np.abs(untrained.encode(x) - small.model.encode(x)).max() > 0.05, "training moved the codes"
    np.testing.assert_allclose(large.model.encode(100 * x + 7), small.model.encode(x), atol=1e-3)
    np.testing.assert_allclose(large.model.reconstruct(100 * x + 7), 100 * small.model.reconstruct(x) + 7, atol=0.1)
    for name, factor in {"reconstruction": 1e4, "validation": 1e4, "discriminator": 1.0, "generator": 1.0}.items():
        np.testing.assert_allclose(large.history[name], factor * np.array(small.history[name]), rtol=1e-3)


# --- of which rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("device", ["cpu", "reference", "cuda"])
def test_rows_of_a_device_have_the_moments_of_an_array(device, kind, cuda_device):
    """More than are looked at, in an order in which the first ones are unlike the rest."""
    backend = get_backend(device)
    x = np.sort(np.random.default_rng(0).integers(0, 256, (SAMPLE + 999, 3)), axis=0).astype(kind)
    buffer = backend.from_host(x, "uint8" if kind == "uint8" else "real")
    (mean, std, n), (of_buffer, std_of_buffer, n_of_buffer) = moments(backend, x), moments(backend, buffer)
    assert np.array_equal(mean, of_buffer)
    assert (std, n) == (std_of_buffer, n_of_buffer)
    assert n == SAMPLE
    exact = x / 255 if kind == "uint8" else x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-2)
    assert std == pytest.approx(np.sqrt(exact.var(0).mean()), rel=1e-2)


# --- weights from elsewhere -------------------------------------------------------------------------------------------


def by_name(made, weights):
    made.load_state_dict(weights)


def by_hand(made, weights):
    for name, value in weights.items():
        made.backend.upload(made.parameters[name].buffer, value)


@pytest.mark.parametrize("changed", [by_name, by_hand])
def test_weights_changed_before_the_first_step_are_taken_as_they_are(changed, x):
    """They are for data as they are, so units of the data would change what they compute."""
    made, plain = default(), model(seed=5)
    changed(made, plain.state_dict())
    Trainer(made, 32, {"reconstruction": 0.0, "generator": 0.0}).step(x[:32])  # which moves the discriminator alone
    assert np.array_equal(made.encode(x), plain.encode(x))
    assert np.array_equal(made.decode(plain.encode(x)), plain.decode(plain.encode(x)))
    for name, t in made.statistics.items():
        assert np.array_equal(t.numpy(), np.full(t.shape, 0.0 if "mean" in name else 1.0)), name


# --- what cannot be ---------------------------------------------------------------------------------------------------


CONTRADICTIONS = {
    "scale": lambda v: 2 * v,
    "back_scale": lambda v: 2 * v,
    "variance": lambda v: 2 * v,
    "mean": lambda v: v + 1,
    "back_mean": lambda v: v + 1,
    "rows": lambda v: -v,
}


def trained(x):
    trainer = Trainer(default(), 32)
    trainer.fit(x, 1, progress=False)
    return trainer


@pytest.mark.parametrize("network", ["inputs", "codes"])
@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_statistics_that_contradict_each_other_are_refused(name, network, x, tmp_path):
    trainer, key, message = (
        trained(x),
        f"{network}.{name}",
        rf"{network}.scale: expected what one mean and standard deviation",
    )
    values = trainer.model.state_dict()
    bad = CONTRADICTIONS[name](values[key])
    other = default(seed=9)
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict({**values, key: bad})
    assert all(np.array_equal(value, before[n]) for n, value in other.state_dict().items())

    tensors, meta = trainer._maker.committed("save")
    checkpoint.write(tmp_path / "trainer.h5", {**tensors, f"model/{key}": bad}, meta)
    alone = {f"model/{n}": value for n, value in {**values, key: bad}.items()}
    checkpoint.write(tmp_path / "model.h5", alone, {"model": trainer.model.config()})
    for read, file in ((Trainer.resume, "trainer.h5"), (aaecore.load, "trainer.h5"), (aaecore.load, "model.h5")):
        with pytest.raises(CheckpointError, match=rf"{file}: .*{message}"):
            read(tmp_path / file)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-21, 1e-18, 1e17])
@pytest.mark.parametrize("far", [0.0, 1.0])
def test_what_was_taken_can_be_read_again(scale, far, x, tmp_path):
    """Also where a square leaves the range of float32."""
    made = default(reconstruction="mse")
    made.begin((x + far) * np.float32(scale), made.networks)
    made.save(tmp_path / "a.h5")
    again = aaecore.load(tmp_path / "a.h5").state_dict()
    assert all(np.array_equal(value, again[name]) for name, value in made.state_dict().items())


def test_a_prior_whose_square_is_too_large_is_one_error(x):
    trainer = Trainer(aaecore.AAE(D, 3, hidden=(9,), prior=priors.Normal(1e25), seed=1), 32)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^prior: expected numbers whose squares float32 can .* of 1e\+25$") as e:
            trainer.fit(x, 1, progress=False)
        assert (e.value.__cause__, e.value.__context__) == (None, None)
        assert trainer.model.statistics["inputs.rows"].numpy() == [0]


def test_data_whose_square_is_too_large_are_one_error_and_others_can_follow(x):
    made, same = default(reconstruction="mse"), default(reconstruction="mse")
    trainer = Trainer(made, 32)
    with pytest.raises(ValueError, match="x: expected numbers whose squares float32 can hold"):
        trainer.fit(x * np.float32(1e25), 1, progress=False)
    for each in (trainer, other := Trainer(same, 32)):
        each.fit(x, 1, progress=False)
    assert trainer.history.rows == other.history.rows


def test_without_units_a_wide_prior_is_the_users_affair():
    model(**{**PLAIN, "prior": priors.Normal(1e25)})
