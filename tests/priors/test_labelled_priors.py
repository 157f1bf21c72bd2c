"""Priors with a part for each class: draws by labels, the class of a code, and one-hot codes in turn."""

from typing import ClassVar

import cuda_devices
import numpy as np
import pytest
from trained import D, rows

from aaecore import Trainer, get_backend, priors
from aaecore.core.random import Generator
from aaecore.functions import half_squared_error
from aaecore.functions.tensor import Tensor
from aaecore.models import COUNT, Column, Model, Phase, Stream, model, option
from aaecore.models.batch import Batch, sample_of

CORRELATED = np.array([[4.0, 1.5], [1.5, 1.0]])
MIXTURE = priors.GaussianMixture([[0, 0], [6, 1], [-3, 5]], [np.eye(2), CORRELATED, 0.25 * np.eye(2)], [1, 0.01, 2])
ROLL = priors.SwissRoll((0.5, 2.5), radius=10.0, noise=0.05)
Y = np.arange(100_000) % 4 - 1  # -1 is no label
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]


def backend_of(device):
    return cuda_devices.backend() if device == "cuda" else get_backend(device)


def one_hot(y, columns):
    return (np.asarray(y)[:, None] == np.arange(columns)).astype(float)


def test_each_class_has_its_component():
    """However rare it is in the whole."""
    z = MIXTURE.sample_like(Y)
    for c, (mean, covariance) in enumerate(zip(MIXTURE.means, MIXTURE.covariances, strict=True)):
        own, spread = z[c == Y], np.sqrt(np.diagonal(covariance))
        assert (np.abs(own.mean(axis=0) - mean) < 5 * spread / np.sqrt(len(own))).all()
        np.testing.assert_allclose(np.cov(own.T), covariance, atol=0.05 * spread.max() ** 2)


def test_each_class_has_its_part_of_the_roll():
    """In numerical order, each as likely as the others, uniform within."""
    turn = np.hypot(*priors.SwissRoll(ROLL.turns, ROLL.radius).sample_like(Y).T) * 2.5 / 10
    u = np.square((turn - 0.5) / 2)
    for c in range(3):
        own = np.sort(u[c == Y])
        assert c / 3 - 1e-6 < own[0] < own[-1] < (c + 1) / 3 + 1e-6
        np.testing.assert_allclose(own, np.linspace(c / 3, (c + 1) / 3, len(own)), atol=0.01)


@pytest.mark.parametrize("prior", [MIXTURE, ROLL])
def test_rows_without_a_label_are_drawn_of_the_whole(prior):
    plain, drawn = prior.sample(len(Y), seed=3), prior.sample_like(Y, seed=3)
    assert np.array_equal(drawn[Y < 0], plain[Y < 0])
    assert np.mean(drawn[Y >= 0] == plain[Y >= 0]) < 0.5
    assert np.array_equal(prior.sample_like([-1] * 50, seed=3), plain[:50])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("prior", [MIXTURE, ROLL])
def test_a_column_beyond_the_classes_is_no_label(prior, device):
    """Of two classes: the third column is the extra one of the discriminator, though the mixture has a third part."""
    backend, y = backend_of(device), np.arange(300) % 4 - 1
    like = backend.from_host(one_hot(y, 3))
    drawn, plain = (
        backend.to_host(draw(Generator(backend, 5), of))
        for draw, of in ((prior.bind_like(backend, 2, 2), like), (prior.bind(backend, 2), len(y)))
    )
    labelled = (y >= 0) & (y < 2)
    assert np.array_equal(drawn[~labelled], plain[~labelled])
    assert (prior.part_of(drawn[labelled], 2) == y[labelled]).mean() > 0.9


@pytest.mark.parametrize(
    ("prior", "right"), [(priors.GaussianMixture.ring(10), 0.9), (ROLL, 0.97), (priors.SwissRoll(noise=0.1), 0.97)]
)
def test_the_class_of_a_code(prior, right):
    y = np.arange(5000) % 10
    z = prior.sample_like(y, classes=10)
    found = prior.part_of(z, 10)
    assert found.dtype == np.int64
    assert (found == y).mean() > right
    far = prior.part_of(1e3 * z, 10)  # nothing is nowhere
    assert ((far >= 0) & (far < 10)).all()


def test_a_code_outside_of_the_roll_belongs_to_the_winding_beside_it():
    """Not to where another winding would be."""
    y = np.arange(3000) % 10
    z = priors.SwissRoll(ROLL.turns, ROLL.radius).sample_like(y)
    radius = np.hypot(*z.T)
    outermost = radius > 6.5  # of 10; the windings are 4 apart
    outside = z * (1 + 3 / radius[:, None])
    assert (ROLL.part_of(outside[outermost], 10) == y[outermost]).mean() > 0.9


def test_the_class_of_a_code_weighs_components():
    """A code between two equal bells is the frequent one's."""
    mixture = priors.GaussianMixture([[-1.0], [1.0], [0.0]], [[[1.0]]] * 3, [1, 9, 100])
    assert mixture.part_of([[-1.2], [-1.0], [-0.9], [1.0]], 2).tolist() == [0, 1, 1, 1]


class Sided(priors.Prior):
    """A user's own with two parts."""

    parts = 2

    def _bind(self, backend, latent_dim):
        return lambda generator, n: generator.normal((n, latent_dim))

    def _bind_like(self, backend, latent_dim, classes):
        def draw(generator, like):
            z = generator.normal((like.shape[0], latent_dim), 9.0)
            return z

        return draw


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: priors.Normal().sample_like([0]),
            r"^prior: expected one with a part for each of 1 classes .* got Nor",
        ),
        (lambda: MIXTURE.sample_like([0], classes=4), "prior: .* each of 4 classes .* has 3"),
        (lambda: MIXTURE.part_of([[0, 0]], 4), "prior: .* each of 4 classes .* has 3"),
        (lambda: MIXTURE.part_of([0, 0], 2), r"^z: expected codes \(n, latent_dim\), got shape \(2,\)"),
        (lambda: MIXTURE.part_of([[0, 0, 0]], 2), "prior: GaussianMixture has dimension 2, but latent_dim is 3"),
        (lambda: MIXTURE.sample_like([0], latent_dim=3), "prior: GaussianMixture has dimension 2, but latent_dim is 3"),
        (lambda: Sided().sample_like([2]), "prior: .* each of 3 classes .* has 2"),
        (lambda: ROLL.sample_like([3, 0], classes=3), r"^y: expected labels from -1 to 2, got \[3, 0\]"),
        (lambda: ROLL.sample_like([-2, 0]), r"^y: expected labels from -1 to 0, got \[-2, 0\]"),
        (lambda: ROLL.sample_like([0.0, 1.0]), r"^y: expected integers \(n,\), -1 for no label, got float64 \(2,\)"),
        (lambda: ROLL.sample_like([True]), r"^y: expected integers .* got bool"),
        (lambda: ROLL.sample_like([[0]]), r"^y: expected integers .* got int64 \(1, 1\)"),
        (lambda: ROLL.sample_like(np.empty(0, int)), r"^y: expected integers .* got int64 \(0,\)"),
        (lambda: ROLL.sample_like([0], classes=0), "^classes: expected"),
    ],
)
def test_bad_input_is_refused(use, message):
    with pytest.raises((ValueError, TypeError), match=message):
        use()


def test_a_prior_of_ones_own_may_have_parts():
    assert Sided().sample_like([0, 1]).mean() > 5


# --- in a step --------------------------------------------------------------------------------------------------------


@model
class Pulled(Model):
    """Its codes are pulled to samples of their class."""

    classes: int = option(COUNT, "different labels", default=3)
    prior: priors.Prior = option(priors.PRIOR, "p(z)", default=MIXTURE)

    phases = (Phase("pull", moves=("encoder",)),)
    streams: ClassVar = {"": Stream(("x", "y"))}

    def columns(self):
        return {"x": Column(D), "y": Column(self.classes + 1, "label", rest=True)}

    def priors(self):
        return {"z": (self.prior, 2)}

    def build(self):
        self.encoder = self.mlp(D, 5, 2)

    def step(self, batch):
        yield "pull", half_squared_error(self.encoder(batch.x), batch.draw("z", like=batch.y))


@pytest.mark.parametrize("prior", [MIXTURE, ROLL])
def test_a_recorded_step_draws_by_labels(prior):
    """The same as one that is launched, after a resume too."""
    x, y = rows()[:40], np.arange(40) % 4 - 1
    states = []
    for record in (True, False):
        trainer = Trainer(Pulled(prior=prior), 16, record=record)
        trainer.fit(x, 3, y=y, progress=False)
        states.append(trainer.model.state_dict())
    assert all(np.array_equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("device", DEVICES)
def test_a_recording_may_be_the_first_that_draws_by_labels(device):
    """Then the tables of the prior are uploaded beside it, and a replay draws anew."""
    backend = backend_of(device)
    draws = priors.Draws(backend, {"z": (MIXTURE, 2)}, 3)
    generator, y = Generator(backend, 1), np.arange(30) % 4 - 1
    like, out = Tensor(backend.from_host(one_hot(y, 4))), []

    def step():
        batch = Batch({"x": like.buffer}, draws, {}, generator)
        out.append(batch.draw("z", like=like).buffer)
        generator.advance()

    plan = backend.capture(step)
    plan.replay()
    first = backend.to_host(out[0])
    plan.replay()
    again = backend.to_host(out[0])
    expected = MIXTURE.sample_like(y, seed=1)
    np.testing.assert_allclose(first, expected, atol=1e-4)
    assert not (first == again).any()


def test_a_given_sample_wins_and_labels_must_fit():
    made = Pulled()
    x, y, z = (made.backend.from_host(a) for a in (np.ones((4, D)), one_hot([0, 1, 2, 3], 4), np.full((4, 2), 7.0)))
    batch = Batch({"x": x, "y": y, sample_of("z"): z}, made.draws, {}, made.generator)
    assert (batch.draw("z", like=batch.y).numpy() == 7).all()
    with pytest.raises(ValueError, match=r"^draw: like: expected labels of 4 rows, got shape \(3, 4\)"):
        batch.draw("z", like=Tensor(y.rows(0, 3)))


def test_a_prior_without_parts_is_refused_when_a_step_asks():
    trainer = Trainer(Pulled(prior=priors.Normal()), 8)
    with pytest.raises(ValueError, match=r"^prior: expected one with a part for each of 3 classes"):
        trainer.fit(rows()[:8], 1, y=np.zeros(8, int), progress=False)
    with pytest.raises(ValueError, match=r"^draw: expected like=None for 'z' of a model whose data have no labels"):
        priors.Draws(get_backend("cpu"), {"z": (MIXTURE, 2)}, None).like("z")
