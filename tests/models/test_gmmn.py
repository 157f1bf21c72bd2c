"""The generative moment matching network, on data and on codes of a trained autoencoder."""

from __future__ import annotations

import copy
import re
import subprocess
import sys

import numpy as np
import pytest
from compared_models import CODED, KINDS, D, coder, fit, make, rows
from phase_gradients import yielded

import aaecore
from aaecore import AAE, GMMN, VAE, CheckpointError, SupervisedAAE, Tensor, Trainer
from aaecore.files import checkpoint

coded = pytest.mark.parametrize("kind", CODED)


def kernel(a, b, widths):
    """The mean of a sum of Gaussians of these widths."""
    squares = np.square(a[:, None] - b).sum(axis=2)
    return sum(np.exp(-squares / (2 * w**2)) for w in widths).mean()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("GMMN")])
def test_its_loss_is_the_discrepancy_of_what_it_makes_and_what_there_is(kind):
    """In units; the widths are beside the distance of two rows of independent features."""
    model, x = make(kind), rows()[:40].astype(np.float64)
    model.begin(x, model.networks)
    (loss,) = yielded(model, {"x": x}, {"average": 0.5})["discrepancy"]
    model.generator.restart()
    z = model.in_units(Tensor(model.draws["z"](model.generator, 40)))
    made = model.decoder(z).numpy()
    wanted = x if model.coder is None else model.coder.encode(x).astype(np.float64)
    std = wanted.std(axis=0) if model.standardise_each else np.sqrt(wanted.var(axis=0).mean())
    wanted = (wanted - wanted.mean(axis=0)) / std
    if model.output == "sigmoid":
        made = (made - x.mean(axis=0)) / std
    widths = [w * np.sqrt(2 * made.shape[1]) for w in model.widths]
    expected = kernel(made, made, widths) + kernel(wanted, wanted, widths) - 2 * kernel(made, wanted, widths)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@coded
def test_the_copy_of_the_autoencoder_gives_what_it_gives_and_stays_as_it_is(kind, x):
    ae = coder()
    before = ae.state_dict()
    model = fit(make(kind, autoencoder=ae), x).model
    assert all(np.array_equal(v, before[name]) for name, v in model.coder.state_dict().items())
    assert all(np.array_equal(v, before[name]) for name, v in ae.state_dict().items())
    held = {k.removeprefix("frozen."): v for k, v in model.state_dict().items() if k.startswith("frozen.")}
    assert held.keys() == before.keys()
    chunk = Tensor(model.backend.from_host(x))
    assert np.array_equal(model.wanted(chunk, model.sampler).numpy().astype(np.float32), ae.encode(x))
    z = model.sample_prior(7)
    codes = model.final("decoder")(model.in_units(Tensor(model.backend.from_host(z))))
    np.testing.assert_allclose(model.decode(z), ae.decode(model.inputs.back(codes).numpy()), rtol=1e-5)


@coded
def test_what_becomes_of_the_autoencoder_changes_nothing(kind, x):
    ae = coder()
    model = make(kind, autoencoder=ae)
    made = model.decode(np.zeros((2, 4), np.float32))
    Trainer(ae, 32).fit(x, 1, progress=False)
    assert np.array_equal(model.decode(np.zeros((2, 4), np.float32)), made)


def test_a_file_is_read_without_the_autoencoder(x, tmp_path):
    """By another process, which knows of nothing else."""
    trainer = fit(make("GMMN, codes", "cpu"), x)
    trainer.save(tmp_path / "a.h5")
    code = "import sys, aaecore, numpy as np; np.save(sys.argv[2], aaecore.load(sys.argv[1]).decode(np.ones((3, 4))))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.h5", tmp_path / "made.npy"], check=True)
    assert np.array_equal(np.load(tmp_path / "made.npy"), trainer.model.decode(np.ones((3, 4))))


def test_it_goes_to_another_device(x, tmp_path):
    model = fit(make("GMMN, codes", "cpu", precision="bf16"), x).model
    model.save(tmp_path / "a.h5")
    there = aaecore.load(tmp_path / "a.h5", device="reference")
    assert there.coder.backend is there.backend
    z = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(there.decode(z), model.decode(z), atol=0.02)
    on = make("GMMN, codes", "reference", autoencoder=coder("cpu"))
    np.testing.assert_allclose(on.coder.encode(x), coder("cpu").encode(x), atol=1e-5)


def test_what_is_no_autoencoder_for_it(x):
    for other in (make("GMMN"), SupervisedAAE(D, 2, (5,), classes=3), object(), {"type": "GMMN"}):
        with pytest.raises(
            ValueError, match=r"^autoencoder: expected a trained Autoencoder whose decoder takes codes a"
        ):
            GMMN(D, 2, (5,), autoencoder=other)
    with pytest.raises(ValueError, match=r"^autoencoder: expected one of rows with 9 features, got 12"):
        GMMN(9, 2, (5,), autoencoder=coder("cpu"))
    with pytest.raises(ValueError, match=r"^output: expected 'linear' beside an autoencoder"):
        GMMN(D, 2, (5,), autoencoder=coder("cpu"), output="sigmoid")
    for widths in ((), (0.0,), (-1.0, 2.0), "12"):
        with pytest.raises(ValueError, match=r"^widths: expected "):
            GMMN(D, widths=widths)
    for cls in (GMMN, aaecore.WAE):
        for width in (1e-21, 1e-37, 1e25):
            with pytest.raises(
                ValueError, match=rf"^widths: expected numbers w .* 1 / \(48 w\^2\), got {re.escape(f'{width:g}')}"
            ):
                cls(D, latent_dim=D, widths=(1.0, width))
    with pytest.raises(TypeError, match=r"^widths: expected a number > 0, got 'a'"):
        GMMN(D, widths=["a"])


def test_an_autoencoder_that_has_seen_no_data(x):
    new = AAE(D, 3, (8,), seed=1)
    with pytest.raises(
        ValueError, match=r"^autoencoder: expected a trained Autoencoder, got one that has seen no data"
    ):
        GMMN(D, 4, (9,), autoencoder=new)
    new.load_state_dict({name: p.numpy() for name, p in new.parameters.items()})  # of data as they are
    plain = AAE(D, 3, (8,), seed=1, standardise=False)  # no unit tells
    for ae in (new, plain):
        assert GMMN(D, 4, (9,), autoencoder=ae).sample(2).shape == (2, D)


def ones(n, rng):
    return np.ones((n, 3))


def test_the_copy_draws_of_a_callable_prior(x):
    ae = AAE(D, 3, (8,), prior=ones, seed=1)
    fit(ae, x, 1)
    model = GMMN(D, 4, (9,), autoencoder=ae)
    for other in (model, copy.deepcopy(model)):
        assert np.array_equal(other.coder.sample(2), ae.sample(2))


def test_the_copy_is_not_trained(x):
    """A copy of it may be."""
    model = make("GMMN, codes")
    with pytest.raises(
        ValueError, match=r"^model: expected one of its own, got the AAE that a GMMN keeps as it is; tr"
    ):
        Trainer(model.autoencoder)
    before = model.coder.state_dict()
    fit(copy.deepcopy(model.autoencoder), x, 1)
    assert all(np.array_equal(v, before[name]) for name, v in model.coder.state_dict().items())


def test_a_description_without_a_prior():
    config = coder().config()
    del config["prior"]
    with pytest.raises(ValueError, match=r"^config: expected 'prior' in what describes AAE, got \{"):
        GMMN(D, 2, (5,), autoencoder=config)


def test_a_file_with_another_autoencoder_in_it_is_one_error(tmp_path):
    model = make("GMMN, codes", "cpu")
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for change, message in (
        (lambda t, c: c["autoencoder"].update(type="GMMN"), "autoencoder: expected a trained Autoencoder"),
        (lambda t, c: c["autoencoder"].update(type="Nobody's"), "model: expected one of"),
        (lambda t, c: c["autoencoder"].pop("latent_dim"), "latent_dim"),
        (lambda t, c: c["autoencoder"].update(hidden=[3]), "expected"),
        (lambda t, c: c.update(autoencoder=None), "expected"),
        (lambda t, c: t["model/frozen.inputs.scale"].fill(-1.0), "frozen.inputs.scale: expected what one mean"),
        (lambda t, c: t["model/frozen.encoder.0.norm.moments"].fill(-1.0), "frozen.encoder.*expected variances"),
    ):
        given, config = {name: value.copy() for name, value in tensors.items()}, model.config()
        change(given, config)
        checkpoint.write(tmp_path / "a.h5", given, {"model": config})
        with pytest.raises(CheckpointError, match=message):
            aaecore.load(tmp_path / "a.h5")


@pytest.mark.parametrize("cls", [AAE, VAE, aaecore.WAE, aaecore.DenoisingAE])
def test_any_autoencoder_will_do(cls, x):
    ae = cls(D, 3, (8,), seed=1)
    fit(ae, x, 1)
    model = fit(GMMN(D, 4, (9,), autoencoder=ae, seed=2), x, 1).model
    assert model.sample(3).shape == (3, D)


def test_it_learns_digits():
    """Samples of the data's mean and spread: of the codes' generator too, whose autoencoder has 8 features."""
    x = aaecore.datasets.load("mnist-sample").train.x
    ae = aaecore.DenoisingAE(784, 8, (100,), seed=0)
    Trainer(ae, 100).fit(x, 5, progress=False)
    for options in ({}, {"autoencoder": ae}):
        model = GMMN(784, 10, (100, 100), seed=0, **options)
        trainer = Trainer(model, 500, lr=1e-3)
        trainer.fit(x, 30, progress=False)
        made = model.sample(1000)
        assert np.abs(made.mean(axis=0) - x.mean(axis=0)).mean() < 0.05, options
        assert 0.6 < made.std(axis=0).mean() / x.std(axis=0).mean() < 1.1, options
