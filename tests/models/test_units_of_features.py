"""A unit for each feature of the data: where it comes from, what is in it, and where it is undone and kept."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from gradients import numeric_gradient
from trained import StopAt, same

import aaecore
from aaecore import AAE, VAE, CheckpointError, Trainer, get_backend
from aaecore.files import checkpoint
from aaecore.functions import half_squared_error
from aaecore.functions.tensor import Parameter, Tensor, backward
from aaecore.nn import StandardiseEach

D = 6
SCALES = np.array([1e-3, 1.0, 50.0, 0.2, 7.0, 0.0])  # the last feature never differs
CENTRES = np.array([5.0, -1.0, 1000.0, 0.0, 3.0, 9.0])
LINEAR = {"reconstruction": "mse", "standardise_each": True}


@pytest.fixture
def x():
    """Rows of correlated features with means and scales of their own."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(130, 3)) @ rng.normal(size=(3, D)) * SCALES + CENTRES).astype(np.float32)


def model(cls=AAE, latent_dim=2, **options):
    return cls(D, latent_dim, (16,), seed=3, **{**LINEAR, **options})


def units_of(x):
    """The account: float64 means and standard deviations by feature; 1 of what never differs."""
    data = x.astype(np.float64)
    std = data.std(axis=0)
    return data.mean(axis=0), np.where(std**2 < 1e-37, 1.0, std)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_there_and_back(x, device):
    backend = get_backend(device)
    units, given = StandardiseEach(backend, D), Tensor(backend.from_host(x))
    assert np.array_equal(units(given).numpy(), given.numpy()), "before it was told anything"
    mean, std = units_of(x)
    units.set("x", mean, std, 130)
    np.testing.assert_allclose(units(given).numpy(), (x - mean) / std, rtol=2e-4, atol=2e-4)
    rounding = 4e-7 * (np.abs(mean) + np.abs(x - mean).max(axis=0))  # a few, of the sum and of its parts
    assert (np.abs(units.back(units(given)).numpy() - x) <= rounding).all()
    assert np.array_equal(units(given).numpy()[:, 5], np.zeros(130))
    shapes = {name: t.shape for name, t in units.named_statistics("z.").items()}
    assert shapes == {
        "z.moments": (2, D), "z.scale": (D,), "z.back_mean": (D,), "z.back_scale": (D,), "z.variance": (1,),
        "z.rows": (1,),
    }  # fmt: skip
    assert units.named_parameters() == {}
    assert repr(units) == "StandardiseEach(6)"


@pytest.mark.parametrize("way", ["there", "back", "there and back"])
def test_gradients_go_through(way):
    backend, rng = get_backend("reference"), np.random.default_rng(0)
    units = StandardiseEach(backend, 3)
    units.set("x", np.array([1.0, -2.0, 0.5]), np.array([2.5, 0.3, 1.0]), 9)
    leaf, target = Parameter(backend.from_host(rng.normal(size=(5, 3)))), Tensor(backend.from_host(np.ones((5, 3))))

    def loss():
        y = units.back(leaf) if way == "back" else units(leaf)
        return half_squared_error(units.back(y) if way == "there and back" else y, target)

    backward([loss()], parameters=[leaf])
    numeric = numeric_gradient(leaf, lambda: [loss()])
    assert np.abs(numeric).min() > 1e-4
    np.testing.assert_allclose(backend.to_host(leaf.grad), numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("cls", [AAE, VAE])
def test_they_are_those_of_the_data_and_losses_are_in_them(x, cls):
    made = model(cls)
    made.begin(x, made.networks)
    mean, std = units_of(x)
    np.testing.assert_allclose(made.statistics["inputs.moments"].numpy(), [mean, np.ones(D)], rtol=1e-6)
    np.testing.assert_allclose(made.statistics["inputs.back_scale"].numpy(), std, rtol=1e-4)
    decoded = (made.reconstruct(x).astype(np.float64) - mean) / std
    expected = ((decoded - (x - mean) / std) ** 2 / 2).sum(axis=1)
    np.testing.assert_allclose(made.evaluate(x, "none"), expected, rtol=2e-3)
    assert made.evaluate(x) == pytest.approx(expected.mean(), rel=1e-3)


def test_features_of_any_scale_are_learned_alike(x):
    """In one unit for all the feature of the largest scale would be all that counts."""
    left = {}
    for each in (True, False):
        trainer = Trainer(model(standardise_each=each, latent_dim=3), 26, lr=3e-3)
        trainer.fit(x, 60, progress=False)
        left[each] = (trainer.model.reconstruct(x) - x).var(axis=0)[:5] / x.var(axis=0)[:5]
    assert left[True].max() < 0.4
    assert left[False].max() > 0.9


def test_another_unit_of_a_feature_changes_nothing_but_itself(x):
    factors = 2.0 ** np.array([3, -2, 0, 5, 1, 0])
    ends = []
    for data in (x, (x * factors).astype(np.float32)):
        trainer = Trainer(model(), 26)
        trainer.fit(data, 3, progress=False)
        ends.append((trainer.history["reconstruction"], trainer.model.encode(data), trainer.model.sample(9)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-6)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ends[0][2] * factors, ends[1][2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("record", [True, False])
def test_files_and_copies_keep_them(x, tmp_path, record):
    whole, part = (Trainer(model(), 32, record=record) for _ in range(2))
    whole.fit(x, 3, progress=False)
    part.fit(x, 3, callbacks=[StopAt(8)], progress=False)
    part.save(tmp_path / "a.h5")
    part.model.save(tmp_path / "b.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    codes = part.model.encode(x)
    others = (
        aaecore.load(tmp_path / "a.h5"), aaecore.load(tmp_path / "b.h5"), copy.deepcopy(part.model),
        pickle.loads(pickle.dumps(part)).model,
    )  # fmt: skip
    for made in others:
        assert made.standardise_each
        assert np.array_equal(made.encode(x), codes)
        assert np.array_equal(made.decode(codes), part.model.decode(codes))
    resumed.fit(x, 3, progress=False)
    assert same(resumed, whole)


def test_weights_without_them_are_for_data_as_they_are(x):
    made = model()
    made.load_state_dict({name: p.numpy() for name, p in made.parameters.items()})
    made.begin(x, made.networks)
    assert made.statistics["inputs.moments"].numpy().tolist() == [[0.0] * D, [1.0] * D]
    assert made.statistics["inputs.rows"].numpy() == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"scale": np.full(D, -1.0)}, {"back_mean": np.full(D, 1.0)}, {"variance": np.full(1, 2.0)},
        {"moments": np.zeros((2, D))}, {"rows": np.full(1, -1.0)}, {"back_scale": np.full(D, 2.0)},
    ],
)  # fmt: skip
def test_contradictions_in_a_file_are_refused(x, tmp_path, change):
    made = model()
    made.begin(x, made.networks)
    tensors = {f"model/{name}": value for name, value in made.state_dict().items()}
    tensors |= {f"model/inputs.{name}": value.astype(np.float32) for name, value in change.items()}
    checkpoint.write(tmp_path / "a.h5", tensors, {"model": made.config()})
    with pytest.raises(CheckpointError, match=r"a.h5: inputs.scale: expected what means and standard deviations of s"):
        aaecore.load(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("options", "came"),
    [
        ({"reconstruction": "bce"}, "standardise=True, output='sigmoid'"),
        ({"output": "sigmoid"}, "standardise=True, output='sigmoid'"),
        ({"standardise": False}, "standardise=False, output='linear'"),
    ],
)
def test_options_that_do_not_go_with_it(options, came):
    with pytest.raises(ValueError, match=f"^standardise_each: expected standardise=True, .* besides, got {came}$"):
        model(**options)


def test_numbers_that_float32_cannot_hold():
    with pytest.raises(ValueError, match=r"^x: expected numbers whose squares float32 can hold"):
        StandardiseEach(get_backend("cpu"), 2).set("x", np.array([0.0, 1e39]), np.array([1.0, 1.0]), 5)
