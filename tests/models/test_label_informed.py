"""Label information in the regularisation: each class goes to its part of the prior, rows without a label anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from trained import D, rows

import aaecore
from aaecore import LabelInformedAAE, Trainer, priors
from aaecore.functions import Tensor
from aaecore.models import Batch

CLASSES = 3
Y = np.where(np.arange(130) % 3 == 0, -1, np.random.default_rng(1).integers(0, CLASSES, 130))


def make(**options):
    return LabelInformedAAE(D, **{"classes": CLASSES, "hidden": (9, 7), "seed": 1, **options})


def batch_of(model, y):
    """A batch with these labels, the last column of which is for none."""
    backend = model.backend
    ones = np.eye(CLASSES + 1)[y]
    inputs = {"x": backend.from_host(np.zeros((len(y), D))), "y": backend.from_host(ones)}
    return Batch(inputs, model.draws, {}, model.generator), ones


@pytest.mark.parametrize("prior", [None, priors.SwissRoll(), priors.GaussianMixture.ring(7)])
def test_samples_lie_in_the_part_of_their_label(prior):
    """Of a mixture with more components than classes too; rows without a label get all of the prior."""
    model = make(prior=prior, device="reference")
    batch, _ = batch_of(model, np.arange(4000) % (CLASSES + 1))
    z = model.real(batch).numpy()
    parts = model.priors()["z"][0].part_of(z, CLASSES)
    labelled = np.arange(4000) % (CLASSES + 1) < CLASSES
    assert np.mean(parts[labelled] == (np.arange(4000) % (CLASSES + 1))[labelled]) > 0.99
    whole = priors.SwissRoll() if prior is None else prior
    components = CLASSES if prior is None else int(min(whole.parts, 7))
    if components != 7:
        shares = np.bincount(parts[~labelled], minlength=CLASSES) / 1000
    else:
        shares = np.bincount(whole.part_of(z[~labelled], 7), minlength=7) / 1000
    np.testing.assert_allclose(shares, 1 / len(shares), atol=0.06)


def test_the_discriminator_is_told_the_labels_of_both_halves():
    model = make(device="reference")
    y = np.array([0, 2, 3, 1])
    batch, ones = batch_of(model, y)
    z = np.random.default_rng(0).normal(size=(8, 2))
    state = model.state_dict()
    h = np.concatenate([z, np.tile(ones, (2, 1))], axis=1)
    for i in range(3):
        h = h @ state[f"discriminator.{i}.weight"].T + state[f"discriminator.{i}.bias"]
        h = np.maximum(h, 0) if i < 2 else h
    both = Tensor(model.backend.from_host(z))
    np.testing.assert_allclose(model.judged(both, batch).numpy(), h, rtol=1e-6)
    codes = Tensor(model.backend.from_host(z[4:]))
    np.testing.assert_allclose(model.judged(codes, batch).numpy(), h[4:], rtol=1e-6)


def test_the_discriminator_scores_codes_without_a_label():
    model, x = make(), rows()
    state, codes = model.state_dict(), model.encode(x)
    h = np.concatenate([codes, np.tile([0, 0, 0, 1], (130, 1))], axis=1)
    for i in range(3):
        h = h @ state[f"discriminator.{i}.weight"].T + state[f"discriminator.{i}.bias"]
        h = np.maximum(h, 0) if i < 2 else h
    np.testing.assert_allclose(model.score_samples(x, by="discriminator"), h[:, 0], rtol=1e-4, atol=1e-5)
    assert np.array_equal(model.score_samples(x), -model.evaluate(x, "none"))


@pytest.mark.parametrize("prior", ["ring", "roll"])
def test_it_learns_digits(prior):
    """Most held-out codes lie in the part of their class, 2000 of 5000 labels given; a tenth if it paid no heed."""
    digits = aaecore.datasets.load("mnist-sample")
    y = np.where(np.arange(5000) < 2000, digits.train.y.astype(int), -1)
    model = LabelInformedAAE(
        784, classes=10, hidden=(200, 200), seed=0, prior=priors.SwissRoll() if prior == "roll" else None
    )
    trainer = Trainer(model, 100)
    history = trainer.fit(digits.train.x, 12, y=y, validation=(digits.test.x, digits.test.y), progress=False)
    assert history["error"][-1] < 0.4
    assert model.score(digits.test.x, digits.test.y) == pytest.approx(1 - history["error"][-1])
    assert history["validation"][-1] < 190  # the mean image has 206


def test_labels_by_name():
    model = make(labels=["cat", "dog", "emu"])
    names = np.array(["cat", "dog", "emu"])
    found = model.predict(rows())
    assert set(found.tolist()) <= set(names.tolist())
    assert np.array_equal(np.argmax(found[:, None] == names, axis=1), make().predict(rows()))
    wanted = np.where(np.arange(130) < 30, "", "dog")
    assert model.score(rows(), wanted) == pytest.approx(np.mean(found[30:] == "dog"))


def test_history_has_an_error_where_held_out_rows_have_labels():
    for y, has_one in ((Y, True), (np.full(130, -1), False)):
        history = Trainer(make(), 32).fit(rows(), 1, y=Y, validation=(rows(), y), progress=False)
        assert ("error" in history.columns) == has_one


def test_the_prior_is_a_ring_of_as_many_components_as_classes():
    assert make().prior == priors.GaussianMixture.ring(CLASSES)
    assert LabelInformedAAE(D, classes=5).prior == priors.GaussianMixture.ring(5)


@pytest.mark.parametrize("prior", [priors.SwissRoll(), priors.GaussianMixture.ring(CLASSES)])
def test_walks_stay_in_the_part_of_their_class(prior):
    codes = make(prior=prior).walks(9)
    assert codes.shape == (CLASSES, 9, 2)
    for c in range(CLASSES):
        assert (prior.part_of(codes[c], CLASSES) == c).all()
        assert np.linalg.norm(np.diff(codes[c], axis=0), axis=1).min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": priors.Normal()}, "prior: expected one with a part for each of 3 classes .* got Normal.*none"),
        ({"prior": priors.GaussianMixture.ring(2)}, "prior: expected one with a part for each of 3 classes .* got"),
        ({"prior": lambda n, rng: rng.random((n, 2))}, "prior: expected one with a part for each of 3 classes .* got"),
        ({"latent_dim": 3}, "latent_dim: expected 2, that of a ring, or another prior=, got 3"),
    ],
)
def test_priors_without_parts(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_no_labelled_row_to_score():
    with pytest.raises(ValueError, match="y: expected a label for at least one row, got none"):
        make().score(rows(), np.full(130, -1))
    with pytest.raises(ValueError, match="y: expected classes from 0 to 2, or -1 for no label, got 3 at row 0"):
        make().score(rows(), np.full(130, 3))


def test_a_prior_of_ones_own_that_does_not_know_the_part_of_a_code():
    """It says so when the model is made, not when it is first asked for a class."""

    class Parts(priors.Prior):
        parts = CLASSES

        def _bind(self, backend, latent_dim):
            return lambda generator, n: generator.normal((n, latent_dim))

    with pytest.raises(TypeError, match=r"^prior: expected Parts to have _part_of, which says the class of a code"):
        make(prior=Parts())
