"""The supervised adversarial autoencoder: its decoder takes the label, its code does not tell it."""

from __future__ import annotations

import numpy as np
import pytest
from trained import PLAIN, D, rows

import aaecore
from aaecore import SupervisedAAE, Trainer, priors
from aaecore.evaluation.leakage import leakage

CLASSES = 3
Y = np.random.default_rng(1).integers(0, CLASSES, len(rows()))


def make(**options):
    return SupervisedAAE(D, **{"classes": CLASSES, "latent_dim": 2, "hidden": (9, 7), "seed": 1, **options})


def test_the_decoder_takes_the_label_and_the_encoder_does_not():
    shapes = {name: value.shape for name, value in make().state_dict().items()}
    assert shapes["encoder.0.weight"] == (9, D)
    assert shapes["decoder.0.weight"] == (7, CLASSES + 2)
    assert shapes["discriminator.0.weight"] == (9, 2 + CLASSES)
    assert make(informed=False).state_dict()["discriminator.0.weight"].shape == (9, 2)


@pytest.mark.parametrize(("reconstruction", "output"), [("bce", "sigmoid"), ("mse", "sigmoid"), ("mse", "linear")])
@pytest.mark.parametrize("standardise", [False, True])
def test_decode_against_numpy(reconstruction, output, standardise):
    """[y | z] through the layers, z in units of the prior."""
    prior = priors.Normal(2.0, 1.0)
    model = make(reconstruction=reconstruction, output=output, standardise=standardise, prior=prior)
    Trainer(model, 32).fit(rows(), 1, y=Y, progress=False)
    state, z = model.state_dict(), np.random.default_rng(0).normal(size=(130, 2)).astype(np.float32)
    units = (z - 1) / 2 if standardise else z
    h = np.concatenate([np.eye(CLASSES)[Y], units], axis=1)
    for i in range(3):
        h = h @ state[f"decoder.{i}.weight"].T + state[f"decoder.{i}.bias"]
        h = np.maximum(h, 0) if i < 2 else h
    if output == "sigmoid":
        h = 1 / (1 + np.exp(-h))
    elif standardise:
        h = h * state["inputs.back_scale"] + state["inputs.mean"]
    np.testing.assert_allclose(model.decode(z, Y), h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(rows(), Y), model.decode(model.encode(rows()), Y))


def test_weights_of_classes_and_labels_by_name():
    model = make(labels=["cat", "dog", "emu"])
    z = np.random.default_rng(0).normal(size=(4, 2))
    by_name = model.decode(z, ["emu", "cat", "dog", "emu"])
    assert np.array_equal(by_name, model.decode(z, np.eye(CLASSES)[[2, 0, 1, 2]]))
    between = model.decode(z, np.full((4, CLASSES), 1 / 3))
    assert not np.array_equal(between, by_name)
    assert np.array_equal(make().decode(z, [2, 0, 1, 2]), by_name)


def test_more_rows_than_a_chunk():
    model, z = make(), np.random.default_rng(0).normal(size=(2500, 2))
    y = np.arange(2500) % CLASSES
    np.testing.assert_allclose(model.decode(z, y)[2400:], model.decode(z[2400:], y[2400:]), rtol=1e-5, atol=1e-6)


def test_samples():
    model = make()
    assert model.sample(5).shape == (5, D)
    same = [make().sample(64, np.full(64, label)) for label in (0, 0, 1)]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    assert not np.array_equal(model.sample(5), model.sample(5))


def test_samples_without_labels_have_all_classes_equally_often():
    model = make()
    drawn = model._drawn_classes(30_000)
    assert np.array_equal(drawn.sum(axis=1), np.ones(30_000))
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / CLASSES, atol=5 * np.sqrt(2 / 9 / 30_000))


def test_samples_are_of_classes_that_have_a_label():
    model = make(classes=5, labels=["a", "b", "c"])
    drawn = model._drawn_classes(3000)
    assert (drawn.sum(axis=0) > 0).tolist() == [True, True, True, False, False]
    assert np.array_equal(drawn.sum(axis=1), np.ones(3000))
    assert model.sample(4).shape == (4, D)


def test_the_loss_of_rows():
    """By its formula, of the right label and of another one."""
    model, x = make(), rows()
    Trainer(model, 32).fit(x, 3, y=Y, progress=False)
    for y in (Y, (Y + 1) % CLASSES):
        p = model.reconstruct(x, y).astype(np.float64)
        expected = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=1)
        np.testing.assert_allclose(model.evaluate(x, y, "none"), expected, rtol=1e-4)
        assert model.evaluate(x, y) == pytest.approx(expected.mean(), rel=1e-5)
        assert np.array_equal(model.score_samples(x, y=y), -model.evaluate(x, y, "none"))


def test_the_discriminator_scores_codes_with_their_labels():
    model, x = make(), rows()
    right, other = (model.score_samples(2 * x, "discriminator", y) for y in (Y, (Y + 1) % CLASSES))
    h = np.concatenate([model.encode(2 * x), np.eye(CLASSES)[Y]], axis=1)
    state = model.state_dict()
    for i in range(3):
        h = h @ state[f"discriminator.{i}.weight"].T + state[f"discriminator.{i}.bias"]
        h = np.maximum(h, 0) if i < 2 else h
    np.testing.assert_allclose(right, h[:, 0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(right, other)
    with pytest.raises(ValueError, match=r"y: expected \(130,\) labels, or \(130, 3\) numbers, got None"):
        model.score_samples(x, "discriminator")
    assert make(informed=False).score_samples(x, "discriminator").shape == (130,)


def test_validation_takes_the_labels():
    trainer = Trainer(make(), 32)
    history = trainer.fit(rows(), 2, y=Y, validation=(rows()[:50], Y[:50]), progress=False)
    assert history["validation"][-1] == pytest.approx(trainer.model.evaluate(rows()[:50], Y[:50]))


def test_it_learns_digits_and_leaves_the_label_to_the_decoder():
    """What the decoder makes follows the label that it is given, since the code tells less of it."""
    digits = aaecore.datasets.load("mnist-sample")
    x, y = digits.test.x, digits.test.y
    codes = []
    for informed in (True, False):
        model = SupervisedAAE(784, classes=10, latent_dim=5, hidden=(200,), informed=informed, seed=0)
        Trainer(model, 100).fit(digits.train.x, 8, y=digits.train.y, progress=False)
        right, wrong = model.evaluate(x, y), model.evaluate(x, (y.astype(int) + 3) % 10)
        assert right < 150  # the mean image has 206
        assert wrong > right + 15
        codes.append([model.encode(digits.train.x), digits.train.y, model.encode(x), y])
    told = [leakage(*of).accuracy for of in codes]
    assert told[0] < told[1] - 0.1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.decode(np.zeros((3, 2)), [0, 1]), r"y: expected shape \(3,\), one label for each row, got shape"),
        (lambda m: m.decode(np.zeros((2, 2)), [0, 3]), "y: expected classes from 0 to 2, or -1 for no label, got 3"),
        (lambda m: m.decode(np.zeros((2, 2)), [0, -1]), "y: expected a label for every row, got none at row 1"),
        (lambda m: m.decode(np.zeros((2, 2)), None), r"y: expected \(2,\) labels, or \(2, 3\) numbers, got None"),
        (lambda m: m.decode(np.zeros((2, 2)), np.ones((2, 4))), r"y: expected 3 features \(columns\), got 4"),
        (lambda m: m.decode(np.zeros((2, 2)), np.ones((3, 3))), r"y: expected shape \(2, 3\), got \(3, 3\)"),
        (lambda m: m.decode(np.zeros((2, 2)), ["a", "b"]), "y: expected integers, since SupervisedAAE has no labels"),
        (lambda m: m.decode(np.zeros((2, 3)), [0, 1]), r"z: expected 2 features \(columns\), got 3"),
        (lambda m: m.decode(np.zeros((2, 2)), np.full((2, 3), np.nan)), "y: expected finite float32 values"),
        (lambda m: m.sample(3, [0, 1]), r"y: expected shape \(3,\)"),
        (lambda m: m.sample(0), "n: expected an integer >= 1, got 0"),
        (lambda m: m.evaluate(rows(), Y[:5]), r"y: expected shape \(130,\), one label for each row, got shape \(5,\)"),
        (lambda m: m.evaluate(rows(), None), "y: expected a label for every row, which SupervisedAAE needs, got None"),
        (lambda m: m.evaluate(rows(), Y, "sum"), "reduction: expected one of mean, none, got 'sum'"),
        (lambda m: m.score_samples(rows()), "y: expected a label for every row"),
        (lambda m: m.score_samples(rows(), "density"), "by: expected one of reconstruction, discriminator"),
        (lambda m: make(batch_norm="all", batch_statistics="recomputed"), "batch_statistics: expected 'running'"),
    ],
)
def test_bad_input(use, message):
    with pytest.raises(ValueError, match=message):
        use(make())


def test_every_row_needs_a_label():
    trainer, some = Trainer(make(**PLAIN), 32), np.where(np.arange(130) == 7, -1, Y)
    one = "expected a label for every row, which SupervisedAAE needs, got a row without one at row 7"
    with pytest.raises(ValueError, match=f"y: {one}"):
        trainer.fit(rows(), 1, y=some, progress=False)
    with pytest.raises(ValueError, match=f"y: {one}"):
        trainer.step(rows()[:32], y=some[:32])
    for held_out, name in ((rows(), "y"), ((rows(), None), "y"), ((rows(), some), r"validation\[1\]")):
        with pytest.raises(ValueError, match=f"{name}: expected a label for every row, which SupervisedAAE needs"):
            trainer.fit(rows(), 1, y=Y, validation=held_out, progress=False)
