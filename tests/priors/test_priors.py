"""Priors as users give them: of NumPy's numbers, at the edge of float32, of their own, drawn by their functions."""

import warnings

import numpy as np
import pytest
from trained import PLAIN

from aaecore import AAE, VAE, Trainer, priors

MAX = float(np.finfo(np.float32).max)


def thin(wide, narrow):
    """A covariance whose factor is lower triangular with a small diagonal and something larger below it."""
    factor = np.array([[narrow, 0.0], [wide, narrow]])
    return factor @ factor.T


def model(prior, latent_dim=2, **options):
    return AAE(6, latent_dim, (5,), prior=prior, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: priors.Normal(n(2), n(1)),
        lambda n: priors.Uniform(n(-1), n(2)),
        lambda n: priors.SwissRoll((n(0), n(2)), n(3), n(1)),
        lambda n: priors.SwissRoll(np.array([n(1), n(2)])),
        lambda n: priors.Hypersphere(n(3)),
        lambda n: priors.GaussianMixture(np.ones((2, 2), type(n(1))), [[[n(1), n(0)], [n(0), n(1)]]] * 2, [n(1), n(2)]),
        lambda n: priors.GaussianMixture.ring(3, n(7), n(2), n(1)),
        lambda n: priors.Categorical(np.array([n(1), n(2)])),
    ],
)
@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64, np.float16, int])
def test_numpys_numbers_become_plain_ones(make, number, tmp_path):
    made, plain = make(number), make(float)
    assert made == plain
    assert repr(made) == repr(plain)
    trainer = Trainer(model(made))
    trainer.save(tmp_path / "c.h5")
    assert Trainer.resume(tmp_path / "c.h5").model.prior == plain


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(
    "prior",
    [
        priors.Normal(MAX / 6.1),
        priors.Normal(1.0, -MAX * 0.99),
        priors.Uniform(-MAX / 2.01, MAX / 2.01),
        priors.Hypersphere(9e26),
        priors.SwissRoll(radius=MAX * 0.9, noise=MAX / 100),
        priors.SwissRoll((0, 2e-30), radius=1.0),
        priors.GaussianMixture([[MAX / 2, 0.0]], [[[1e70, 0.0], [0.0, 1e-30]]]),
    ],
)
def test_what_is_taken_has_finite_draws(prior, device):
    for latent_dim in (2,) if prior.fixed_dim else (1, 2, 7):
        drawn = model(prior, latent_dim, device=device).sample_prior(20000)
        assert np.isfinite(drawn).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: priors.Normal(3e38), "std"),
        (lambda: priors.Normal(1.0, 3.402823e38), None),  # the mean itself is within
        (lambda: priors.Normal(1e38, 3e38), "std"),
        (lambda: priors.Normal(1e-46), "std"),
        (lambda: priors.Uniform(-3e38, 3e38), "high"),
        (lambda: priors.Hypersphere(3e38), "radius"),
        (lambda: priors.Hypersphere(1e-46), "radius"),
        (lambda: priors.SwissRoll((0, 1e30)), r"turns\[1\]"),
        (lambda: priors.SwissRoll((0, 1e-37), radius=100.0), "radius"),
        (lambda: priors.SwissRoll(noise=3e38), "noise"),
        (lambda: priors.GaussianMixture([[3e38, 0]], [np.eye(2) * 1e76]), "means and covariances"),
        (lambda: priors.GaussianMixture([[0.0, 0]], [np.eye(2) * 1e80]), "means and covariances"),
        (lambda: priors.GaussianMixture([[0.0, 0]], [np.eye(2) * 1e-80]), "covariances"),
        (lambda: VAE(6, 2, (5,), prior=priors.GaussianMixture([[0.0, 0]], [thin(1e-30, 1e-36)])), "covariances"),
        (lambda: priors.GaussianMixture([[0.0, 0]], [[[1e-20, 5e-21], [0, 1e-20]]]), "covariances"),
        (lambda: priors.GaussianMixture([[10**400, 0]], [np.eye(2)]), "means"),
        (lambda: priors.GaussianMixture([[0, 0]], [np.ma.masked_array(np.eye(2), True)]), "covariances"),
        (lambda: priors.Categorical(np.ma.masked_array([1, 2], True)), "weights"),
        (lambda: priors.Categorical([float("inf"), 1]), "weights"),
        (lambda: priors.SwissRoll(3), "turns"),
    ],
)
def test_what_float32_cannot_hold_is_refused_when_given(make, name):
    if name is None:
        make()
        return
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected "):
        make()


@pytest.mark.parametrize("largest", [1.0, 1e308])
def test_weights_are_taken_in_proportion_whatever_their_sum(largest):
    weights = [largest, largest, 2 * (largest / 2), largest / 1e9]
    shares = model(priors.Categorical(weights), 4).sample_prior(30000).mean(axis=0)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.02)
    mixture = priors.GaussianMixture([[-9.0, 0], [9, 0]], [np.eye(2)] * 2, [largest, largest])
    assert abs((model(mixture).sample_prior(5000)[:, 0] > 0).mean() - 0.5) < 0.05


class Mine(priors.Prior):
    """As the public base is there for: no dataclass, no description."""

    def _bind(self, backend, latent_dim):
        return lambda generator, n: generator.normal((n, latent_dim), 3.0, 0.5)


class Wider(priors.Normal):
    """Of a class that a file can describe, but itself unknown to files."""

    def _bind(self, backend, latent_dim):
        return lambda generator, n: generator.normal((n, latent_dim), self.mean, 2 * self.std)


@pytest.mark.parametrize(("prior", "std"), [(Mine(), 0.5), (Wider(3.0), 6.0)])
def test_a_prior_of_ones_own_trains_and_a_resume_asks_for_it(prior, std, tmp_path):
    x = np.random.default_rng(0).random((40, 6))
    trainer = Trainer(model(prior), 20)
    assert abs(trainer.model.sample_prior(5000).std() / std - 1) < 0.1
    trainer.fit(x, 2, progress=False, checkpoint=tmp_path / "c.h5")
    with pytest.raises(ValueError, match=f"^prior: '{type(prior).__name__}' .* pass it as prior="):
        Trainer.resume(tmp_path / "c.h5")
    again = Trainer.resume(tmp_path / "c.h5", prior=prior)
    for t in (trainer, again):
        t.fit(x, 3, progress=False)
    assert all(np.array_equal(v, again.model.state_dict()[k]) for k, v in trainer.model.state_dict().items())


def test_a_file_cannot_name_a_prior_that_it_does_not_describe():
    for config in ({"type": "callable"}, {"type": "Mine"}, {"type": ["Normal"]}, {"type": None}, {}):
        with pytest.raises(ValueError, match=r"^prior: "):
            priors.from_config(config)


def test_a_function_may_fill_the_same_array_again():
    """A roll-back repeats steps with the samples that they had, not with those of the last one."""
    kept = np.zeros((100_000, 2))

    def reusing(n, rng):
        kept[:n] = rng.standard_normal((n, 2))
        return kept[:n]

    def fresh(n, rng):
        return rng.standard_normal((n, 2))

    x = np.random.default_rng(0).random((200, 6))
    states = []
    for function in (reusing, fresh):
        trainer = Trainer(model(function, **PLAIN), 20, schedule=lambda step: 1e30 if step == 5 else 1.0)
        with pytest.raises(FloatingPointError):
            trainer.fit(x, 10, progress=False)
        assert trainer.steps == 5
        states.append(trainer.model.state_dict())
    assert all(np.array_equal(v, states[1][k]) for k, v in states[0].items())


def test_a_function_may_return_any_real_numbers():
    for dtype in ("f2", "f4", "f8", "g", "i1", "?", ">f4", "u8"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = model(lambda n, rng, dtype=dtype: np.ones((n, 2), dtype)).sample_prior(3)
        assert drawn.tolist() == [[1, 1]] * 3
    for value in (np.full((3, 2), np.inf, "f2"), np.full((3, 2), 1e39), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="prior: the callable returned 6 values that are NaN or infinite"):
            model(lambda n, rng, value=value: value).sample_prior(3)
    with pytest.raises(TypeError, match=r"^prior: expected a plain array, got a masked one"):
        model(lambda n, rng: np.ma.masked_array(np.full((n, 2), 1e9), True)).sample_prior(2)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_function_with_few_codes_trains(device):
    """No more are asked for at once than a step takes, also for the units of the codes and the measures of health."""
    asked, pool = [], np.random.default_rng(0).normal(7.0, 2.0, (120, 2))

    def drawn(n, rng):
        asked.append(n)
        return rng.permutation(pool)[:n] if n <= len(pool) else pytest.fail(f"{n} of {len(pool)}")

    trainer = Trainer(model(drawn, device=device))
    history = trainer.fit(np.random.default_rng(0).random((300, 6)), 100, progress=False)
    assert max(asked) == 100
    assert history["code_mmd"]
    mean, std = priors.CallablePrior(drawn).moments(2)
    np.testing.assert_allclose(mean, pool.mean(axis=0), atol=0.1)
    assert abs(std / pool.std() - 1) < 0.05
    assert all(np.array_equal(a, b) for a, b in zip((mean, std), priors.CallablePrior(drawn).moments(2), strict=True))


def test_moments_are_of_many_different_codes():
    seen = []

    def drawn(n, rng):
        seen.append(rng.standard_normal((n, 1)))
        return seen[-1]

    mean, _ = priors.CallablePrior(drawn).moments(1)
    assert abs(mean[0]) < 0.05
    assert len(np.unique(np.concatenate(seen))) == 10_000


def test_what_a_function_raises_names_the_prior():
    def broken(n, rng):
        raise KeyError("pool")

    trainer = Trainer(model(broken))
    for use in (lambda: trainer.model.sample_prior(3), lambda: trainer.step(np.ones((4, 6)) / 2)):
        with pytest.raises(KeyError, match="pool") as info:
            use()
        note = "prior: the callable broken raised this when it was asked for "
        assert [text.startswith(note) for text in info.value.__notes__] == [True]


def test_a_class_with_the_name_of_a_built_in_one_is_not_saved_as_that(tmp_path):
    class Normal(priors.Normal):
        pass

    class Uniform(priors.Prior):
        def _bind(self, backend, latent_dim):
            return lambda generator, n: generator.uniform((n, latent_dim), 3.0, 4.0)

    for prior in (Normal(2.0), Uniform()):
        name = type(prior).__name__
        assert prior.config() == {"type": "callable", "name": name}
        Trainer(model(prior)).save(tmp_path / "c.h5")
        with pytest.raises(ValueError, match=f"^prior: '{name}' .* pass it as prior="):
            Trainer.resume(tmp_path / "c.h5")
        again = Trainer.resume(tmp_path / "c.h5", prior=prior)
        assert again.model.prior is prior
