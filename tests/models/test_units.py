"""The units that networks work in: taken from the first data and the prior, kept by every file and copy."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from trained import DEFAULT, PLAIN, D, model, rows

from aaecore import AAE, VAE, Trainer, get_backend, load, priors
from aaecore.files import checkpoint
from aaecore.functions.tensor import Tensor
from aaecore.nn import Standardise

STATISTICS = ("mean", "scale", "back_mean", "back_scale", "variance", "rows")


@pytest.fixture
def x():
    return rows()


def default(**options):
    return model(**DEFAULT, **options)


def statistics(made):
    return {name: t.numpy() for name, t in made.statistics.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- Standardise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_there_and_back(device):
    backend = get_backend(device)
    x = np.random.default_rng(0).normal(5, 3, (50, 4))
    units = Standardise(backend, 4)
    given = Tensor(backend.from_host(x))
    assert np.array_equal(units(given).numpy(), given.numpy()), "before it was told anything"
    units.set("x", x.mean(0), 3.0, 50)
    np.testing.assert_allclose(units(given).numpy(), (x - x.mean(0)) / 3, atol=1e-6)
    np.testing.assert_allclose(units.back(units(given)).numpy(), x, atol=2e-6)
    assert {name: t.shape for name, t in units.named_statistics("z.").items()} == {
        f"z.{name}": (4,) if "mean" in name else (1,) for name in STATISTICS
    }
    assert units.named_statistics()["rows"].numpy() == [50]
    assert units.named_parameters() == {}


@pytest.mark.parametrize("std", [0.0, 1e-300])
def test_what_does_not_vary_keeps_its_unit(std):
    backend = get_backend("cpu")
    units = Standardise(backend, 2)
    units.set("x", np.array([1.0, -2.0]), std, 3)
    x = Tensor(backend.from_host(np.array([[1.5, 0.0]], np.float32)))
    assert units(x).numpy().tolist() == [[0.5, 2.0]]
    assert units.back(units(x)).numpy().tolist() == [[1.5, 0.0]]


# --- where they come from ---------------------------------------------------------------------------------------------


def test_they_are_those_of_the_first_data_and_of_the_prior(x):
    made = default(prior=priors.Uniform(-2, 6))
    assert made.statistics["inputs.rows"].numpy() == [0]
    made.begin(x, made.networks)
    found = statistics(made)
    data = x.astype(np.float64)
    std = np.sqrt(data.var(0).mean())
    np.testing.assert_allclose(found["inputs.mean"], data.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["inputs.scale"], 1 / std, rtol=1e-6)
    assert (found["inputs.rows"], found["codes.rows"]) == ([130], [130])
    np.testing.assert_allclose(found["codes.mean"], 2, atol=0.1)
    np.testing.assert_allclose(found["codes.back_scale"], 8 / np.sqrt(12), rtol=0.02)
    bias = made.decoder.layers[-1].bias.numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), data.mean(0), rtol=1e-5)
    Trainer(made, 32).fit(1 - x, 1, progress=False)
    assert equal(statistics(made), found), "other data later change nothing"


def test_a_linear_decoder_works_in_units_too(x):
    """What it gives is put back, and its loss is that of the rows as they are."""
    made, plain, data = default(reconstruction="mse"), model(reconstruction="mse"), 40 * x - 7
    made.begin(data, made.networks)
    plain.load_state_dict({name: p.numpy() for name, p in made.parameters.items()})
    z, std = made.sample_prior(20), np.sqrt(data.astype(np.float64).var(0).mean())
    np.testing.assert_allclose(made.decode(z), plain.decode(z) * std + data.mean(0), rtol=1e-4, atol=1e-4)
    loss = ((made.reconstruct(data) - data) ** 2).sum(1).mean() / 2
    assert made.evaluate(data) == pytest.approx(loss, rel=1e-4)


def test_bytes_have_those_of_the_floats_that_they_stand_for():
    pixels = np.random.default_rng(0).integers(0, 256, (64, D), np.uint8)
    from_bytes, from_floats = default(), default()
    from_bytes.begin(pixels, from_bytes.networks)
    from_floats.begin(pixels.astype(np.float32) * np.float32(1 / 255), from_floats.networks)
    assert equal(from_bytes.state_dict(), from_floats.state_dict())


def test_a_step_takes_its_batch_for_the_data(x):
    stepped, begun = default(), default()
    Trainer(stepped, 32).step(x[:32])
    begun.begin(x[:32], begun.networks)
    assert equal(statistics(stepped), statistics(begun))
    assert statistics(stepped)["inputs.rows"] == [32]


def test_networks_see_numbers_of_the_unit(x):
    """As a plain model with the same weights sees rows and codes that were scaled by hand."""
    made, plain = default(prior=priors.Normal(4.0, 1.0)), model()
    made.begin(x, made.networks)
    plain.load_state_dict({name: p.numpy() for name, p in made.parameters.items()})
    seen = (x - x.mean(0)) / np.sqrt(x.astype(np.float64).var(0).mean())
    np.testing.assert_allclose(made.encode(x), 4 * plain.encode(seen) + 1, rtol=1e-4, atol=1e-5)
    z = made.sample_prior(20)
    np.testing.assert_allclose(made.decode(z), plain.decode((z - 1) / 4), rtol=1e-5)
    by = "discriminator"
    np.testing.assert_allclose(made.score_samples(x, by), plain.score_samples(seen, by), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [AAE, VAE])
def test_an_interrupt_while_they_are_taken(kind, x, monkeypatch):
    """At every upload of them: the next fit takes them as if nothing had been."""

    def make():
        return kind(D, 3, hidden=(9,), seed=1, standardise=True)

    whole = make()
    whole.begin(x, whole.networks)
    uploads = 0
    while True:
        made, left, upload = make(), [uploads], type(whole.backend).upload

        def interrupted(self, buffer, array, left=left, upload=upload):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            upload(self, buffer, array)

        with monkeypatch.context() as patch:
            patch.setattr(type(whole.backend), "upload", interrupted)
            try:
                made.begin(x, made.networks)
                break
            except KeyboardInterrupt:
                uploads += 1
        made.begin(x, made.networks)
        assert equal(made.state_dict(), whole.state_dict()), f"after {uploads - 1} uploads"
    assert uploads > 5


# --- what keeps them --------------------------------------------------------------------------------------------------


def resumed(trainer, path):
    trainer.save(path)
    return Trainer.resume(path).model


def loaded(trainer, path):
    trainer.model.save(path)
    return load(path)


def pickled(trainer, path):
    return pickle.loads(pickle.dumps(trainer.model))


def by_name(trainer, path):
    other = default(seed=7)
    other.load_state_dict(trainer.model.state_dict())
    return other


@pytest.mark.parametrize("way", [resumed, loaded, pickled, by_name])
def test_files_and_copies_keep_them(way, x, tmp_path):
    trainer = Trainer(default(), 32)
    trainer.fit(x, 1, progress=False)
    other = way(trainer, tmp_path / "a.h5")
    assert equal(other.state_dict(), trainer.model.state_dict())
    assert np.array_equal(other.encode(x), trainer.model.encode(x))
    other.begin(1 - x, other.networks)
    assert equal(other.state_dict(), trainer.model.state_dict()), "what was loaded knows its data"


def test_weights_from_elsewhere_take_data_as_they_are(x):
    made, plain = default(seed=5), model()
    made.begin(x, made.networks)
    made.load_state_dict(plain.state_dict())
    assert np.array_equal(made.encode(x), plain.encode(x))
    before = made.state_dict()
    made.begin(x, made.networks)
    assert equal(made.state_dict(), before)
    some = {name: value for name, value in before.items() if name != "codes.scale"}
    with pytest.raises(ValueError, match=r"missing \['codes.scale'\]"):
        made.load_state_dict(some)


def test_a_file_of_before_is_a_model_without_them(tmp_path):
    """The golden checkpoint, and a description of today without these keys."""
    golden = load(Path(__file__).parents[1] / "golden" / "gaussian-ring-8-steps.h5")
    assert {name: getattr(golden, name) for name in PLAIN} == PLAIN
    assert golden.statistics == {}
    assert [phase.moves for phase in golden.phases] == [phase.moves for phase in AAE.phases]
    values = {f"model/{name}": value for name, value in model().state_dict().items()}
    described = {name: value for name, value in model().config().items() if name not in PLAIN}
    checkpoint.write(tmp_path / "a.h5", values, {"model": described})
    assert load(tmp_path / "a.h5").config() == model().config()


# --- what they are for ------------------------------------------------------------------------------------------------


def test_the_width_of_a_prior_does_not_matter(x):
    """To the bit, where it is a power of two."""
    narrow, wide = (Trainer(default(prior=priors.Normal(std)), 32) for std in (1.0, 8.0))
    for trainer in (narrow, wide):
        trainer.fit(x, 5, validation=x, progress=False)
    for name in (*narrow.names, "validation"):
        assert narrow.history[name] == wide.history[name]
    assert np.array_equal(8 * narrow.model.encode(x), wide.model.encode(x))


@pytest.mark.parametrize("rates", [0.0, {"reconstruction": 0.0, "discriminator": 0.0}])
def test_where_nothing_learns_nothing_is_taken(rates, x):
    made = default()
    before = made.state_dict()
    Trainer(made, 32, rates).fit(x, 1, progress=False)
    assert equal(made.state_dict(), before)


def test_a_decoder_that_does_not_move_keeps_its_bias(x):
    made = default()
    before = made.decoder.layers[-1].bias.numpy()
    Trainer(made, 32, {"reconstruction": 0.0, "generator": 0.0}).fit(x, 1, progress=False)
    assert np.array_equal(made.decoder.layers[-1].bias.numpy(), before)
    assert made.statistics["inputs.rows"].numpy() == [130]
