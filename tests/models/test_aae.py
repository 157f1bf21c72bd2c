"""The model: what goes in and out, the three posteriors, every prior, and one clear error for each bad argument."""

import numpy as np
import pytest

from aaecore import AAE, Trainer, priors
from aaecore.data.rows import to_floats
from aaecore.functions import bce_with_logits
from aaecore.functions.tensor import Tensor

D, Z = 12, 3


@pytest.fixture
def x():
    return np.random.default_rng(0).random((40, D), np.float32)


def model(**options):
    return AAE(D, options.pop("latent_dim", Z), (16, 10), **{"seed": 1, **options})


POSTERIORS = ["deterministic", "gaussian", "universal"]


def units(name, features):
    """The statistics of a network that takes numbers in a common unit."""
    one = dict.fromkeys((f"{name}.scale", f"{name}.back_scale", f"{name}.variance", f"{name}.rows"), (1,))
    return {**one, f"{name}.mean": (features,), f"{name}.back_mean": (features,)}


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_shapes_and_names(posterior, x):
    m = model(posterior=posterior, noise_dim=5, discriminator_hidden=(7,))
    assert m.encode(x).shape == (40, Z)
    assert m.decode(m.encode(x)).shape == m.reconstruct(x).shape == (40, D)
    assert m.sample(9).shape == (9, D)
    assert {a.dtype for a in (m.encode(x), m.reconstruct(x), m.sample(2))} == {np.dtype(np.float32)}
    shapes = {name: value.shape for name, value in m.state_dict().items()}
    inputs, outputs = D + 5 * (posterior == "universal"), Z * (1 + (posterior == "gaussian"))
    assert shapes == {
        "encoder.0.weight": (16, inputs), "encoder.0.bias": (16,), "encoder.1.weight": (10, 16),
        "encoder.1.bias": (10,), "encoder.2.weight": (outputs, 10), "encoder.2.bias": (outputs,),
        "decoder.0.weight": (10, Z), "decoder.0.bias": (10,), "decoder.1.weight": (16, 10), "decoder.1.bias": (16,),
        "decoder.2.weight": (D, 16), "decoder.2.bias": (D,),
        "discriminator.0.weight": (7, Z), "discriminator.0.bias": (7,), "discriminator.1.weight": (1, 7),
        "discriminator.1.bias": (1,),
        **units("inputs", D), **units("codes", Z),
    }  # fmt: skip


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_noise_on_codes_is_of_the_prior_s_unit_and_only_where_they_are_drawn(posterior, x):
    """Of two models with equal weights one has noise: their draws differ by normals of that width."""
    plain, noisy = (model(posterior=posterior, prior=priors.Normal(5.0), code_noise=std) for std in (0.0, 0.3))
    Trainer(plain).step(x)  # so that there are units
    noisy.load_state_dict(plain.state_dict())
    rows = np.repeat(x, 100, axis=0)
    added = noisy.encode(rows, sample=True) - plain.encode(rows, sample=True)
    assert (noisy.encode(x) == plain.encode(x)).all()
    assert added.std() == pytest.approx(0.3 * 5, rel=0.03)
    assert abs(added.mean()) < 0.1


def test_training_sees_noise_on_codes(x):
    losses = [Trainer(model(code_noise=std)).step(x) for std in (0.0, 3.0)]
    assert losses[0]["reconstruction"] != losses[1]["reconstruction"]
    m = model(code_noise=3.0)
    recorded, eager = (Trainer(m if record else model(code_noise=3.0), 20, record=record) for record in (True, False))
    for trainer in (recorded, eager):
        trainer.fit(x, 2, progress=False)
    assert all((a == b).all() for a, b in zip(m.state_dict().values(), eager.model.state_dict().values(), strict=True))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_encode_against_numpy(posterior, x):
    m = model(posterior=posterior)
    s = {k: v.astype(np.float64) for k, v in m.state_dict().items()}
    h = np.hstack([x, np.zeros((40, Z))]) if posterior == "universal" else x
    for i in range(3):
        h = h @ s[f"encoder.{i}.weight"].T + s[f"encoder.{i}.bias"]
        h = np.maximum(h, 0) if i < 2 else h[:, :Z]
    np.testing.assert_allclose(m.encode(x), h, rtol=1e-4, atol=1e-6)


def test_sampling_the_posterior(x):
    assert np.array_equal(model().encode(x, sample=True), model().encode(x))
    m = model(posterior="gaussian")
    draws = np.stack([m.encode(x[:4], sample=True) for _ in range(800)])
    state = m.state_dict()
    h = np.maximum(x[:4] @ state["encoder.0.weight"].T + state["encoder.0.bias"], 0)
    h = np.maximum(h @ state["encoder.1.weight"].T + state["encoder.1.bias"], 0)
    std = np.exp((h @ state["encoder.2.weight"].T + state["encoder.2.bias"])[:, Z:] / 2)
    np.testing.assert_allclose(draws.mean(0), m.encode(x[:4]), atol=5 * std.max() / np.sqrt(800))
    np.testing.assert_allclose(draws.std(0), std, rtol=0.15)
    u = model(posterior="universal")
    assert not np.array_equal(u.encode(x, sample=True), u.encode(x, sample=True))
    assert np.array_equal(u.encode(x), u.encode(x))


@pytest.mark.parametrize(("reconstruction", "output"), [("bce", "sigmoid"), ("mse", "sigmoid"), ("mse", "linear")])
def test_what_decode_gives_fits_the_loss(reconstruction, output, x):
    m = model(reconstruction=reconstruction, output=output)
    y = m.reconstruct(x).astype(np.float64)
    if output == "sigmoid":
        assert y.min() >= 0
        assert y.max() <= 1
    if reconstruction == "bce":
        loss = -(x * np.log(y) + (1 - x) * np.log1p(-y)).sum(1).mean()
    else:
        loss = 0.5 * ((y - x) ** 2).sum(1).mean()
    assert m.evaluate(x) == pytest.approx(loss, rel=1e-4)


def test_decode_of_far_codes_saturates_without_a_warning():
    y = model().decode(np.full((2, Z), 1e6))
    assert np.isfinite(y).all()


def test_rows_are_independent_of_their_chunk():
    m = model()
    many = np.random.default_rng(1).random((2500, D), np.float32)
    codes = m.encode(many)
    np.testing.assert_allclose(codes[2400:], m.encode(many[2400:]), rtol=1e-5, atol=1e-6)


def test_bytes_are_scaled():
    m, pixels = model(), np.random.default_rng(0).integers(0, 256, (30, D), np.uint8)
    assert np.array_equal(m.encode(pixels), m.encode(pixels.astype(np.float32) * np.float32(1 / 255)))


def test_any_layout_of_the_data(x):
    m, codes = model(), model().encode(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    twice = np.repeat(x, 2, axis=0)
    for same in (np.asfortranarray(x), frozen, twice[::2], x.astype(np.float64), x.astype(">f4"), x.tolist()):
        assert np.array_equal(m.encode(same), codes)


def test_equal_seeds_equal_bits_and_other_seeds_not(x):
    a, b, c = model(seed=5), model(seed=5), model(seed=6)
    assert all(np.array_equal(a.state_dict()[k], b.state_dict()[k]) for k in a.state_dict())
    assert not np.array_equal(a.encode(x), c.encode(x))
    assert np.array_equal(a.sample(4), b.sample(4))
    assert not np.array_equal(a.sample(4), a.sample(4))


def test_state_dict_round_trip_and_refusals(x):
    a, b = model(seed=1), model(seed=2)
    b.load_state_dict(a.state_dict())
    assert np.array_equal(a.encode(x), b.encode(x))
    good = b.state_dict()
    nan = np.full((10,), np.nan, np.float32)
    for change, message in (
        ({"encoder.9.weight": np.zeros(3)}, "unknown"),
        ({"encoder.0.weight": np.zeros((2, 2))}, r"encoder.0.weight: expected shape \(16, 12\), got \(2, 2\)"),
        ({"encoder.1.bias": np.full(10, 1e300)}, "encoder.1.bias: expected real numbers that are finite in float32"),
        ({"encoder.1.bias": nan}, "encoder.1.bias: expected real numbers that are finite in float32"),
    ):
        with pytest.raises(ValueError, match=message):
            b.load_state_dict({**a.state_dict(), "encoder.0.bias": np.ones(16), **change})
        assert all(np.array_equal(b.state_dict()[k], good[k]) for k in good)  # nothing was changed
    with pytest.raises(ValueError, match=r"missing \['decoder.0.bias'\]"):
        b.load_state_dict({k: v for k, v in good.items() if k != "decoder.0.bias"})


ALL_PRIORS = {
    "normal": (priors.Normal(5.0, 1.0), 3), "uniform": (priors.Uniform(-2, 2), 3),
    "ring": (priors.GaussianMixture.ring(), 2), "swiss roll": (priors.SwissRoll(noise=0.1), 2),
    "mixture": (priors.GaussianMixture([[0, 0, 0], [1, 2, 3]], [np.eye(3), np.eye(3)], [1, 3]), 3),
    "sphere": (priors.Hypersphere(2.0), 4), "categorical": (priors.Categorical(), 5),
    "weighted categorical": (priors.Categorical([1, 2, 1]), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL_PRIORS)
def test_priors_train_and_describe_themselves(name, x):
    prior, latent_dim = ALL_PRIORS[name]
    m = model(prior=prior, latent_dim=latent_dim)
    losses = Trainer(m, 20).step(x[:20])
    assert all(np.isfinite(v) for v in losses.values())
    assert priors.from_config(prior.config()) == prior
    z = m.sample_prior(500)
    assert z.shape == (500, latent_dim)
    host = prior.sample(500, latent_dim, seed=1)
    spread = 6 * host.std(0) / np.sqrt(500) + 1e-6
    assert (np.abs(z.mean(0) - host.mean(0)) < 2 * spread).all()


def test_a_callable_prior_is_a_function_of_seed_and_step(x):
    def prior(n, rng):
        return rng.uniform(-1, 1, (n, Z))

    def run():
        m = model(prior=prior)
        trainer = Trainer(m, 20)
        return [dict(trainer.step(x[:20])) for _ in range(3)]

    first = run()
    assert first == run()
    assert first[0]["discriminator"] != first[1]["discriminator"]


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda n, rng: np.zeros((n, Z + 1)), r"to return real numbers of shape \(20, 3\), got float64 \(20, 4\)"),
        (lambda n, rng: np.full((n, Z), np.nan), "returned 60 values that are NaN or infinite"),
        (lambda n, rng: None, "prior: expected an array of real numbers, got NoneType"),
        (lambda n, rng: np.zeros((n, Z), complex), "prior: expected an array of real numbers, .* complex"),
    ],
)
def test_bad_callable_priors(prior, message, x):
    trainer = Trainer(model(prior=prior), 20)
    before = trainer.model.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        trainer.step(x[:20])
    assert all(np.array_equal(before[k], v) for k, v in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.Normal(0.0), "std: expected a number > 0, got 0.0"),
        (lambda: priors.Normal(float("nan")), "std: expected a number > 0"),
        (lambda: priors.Normal("5"), "std: expected a number > 0, got '5'"),
        (lambda: priors.Uniform(1, 1), "high: expected a number > 1, got 1"),
        (lambda: priors.GaussianMixture([[0, 0]], [[[1, 0]]]), r"covariances: expected shape \(1, 2, 2\)"),
        (lambda: priors.GaussianMixture([[0, 0]], [[[1, 2], [2, 1]]]), "positive definite"),
        (
            lambda: priors.GaussianMixture([[0, 0]], [np.eye(2)], [0]),
            "weights: expected numbers >= 0 with a positive sum",
        ),
        (lambda: priors.GaussianMixture.ring(0), "components: expected an integer >= 1"),
        (lambda: priors.SwissRoll((2, 1)), r"turns\[1\]: expected a number > 2"),
        (lambda: priors.Hypersphere(-1), "radius: expected a number > 0"),
        (lambda: priors.Categorical([1, -1]), "weights: expected numbers >= 0"),
        (lambda: priors.from_config({"type": "Cauchy"}), "expected type to be one of Normal"),
        (lambda: priors.from_config({"type": "Normal", "scale": 2}), "wrong options for Normal"),
        (lambda: priors.as_prior(3), "prior: expected a Prior or a callable"),
        (lambda: priors.as_prior(priors.Normal), "prior: expected a Prior or a callable"),
        (lambda: priors.Normal(1e39), "std: expected a number > 0, got 1e"),
        (lambda: priors.GaussianMixture([[0, 0]], [[[1, 5], [0, 1]]]), "covariances: expected symmetric matrices"),
    ],
)
def test_bad_priors(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dim": 0}, "input_dim: expected an integer >= 1, got 0"),
        ({"latent_dim": 0}, "latent_dim: expected an integer >= 1, got 0"),
        ({"latent_dim": -3}, "latent_dim: expected an integer >= 1, got -3"),
        ({"latent_dim": 2.5}, "latent_dim: expected an integer >= 1, got 2.5"),
        ({"hidden": (10, 0)}, "hidden: expected an integer >= 1, got 0"),
        ({"hidden": 10}, "hidden: expected a sequence of integers >= 1, got 10"),
        ({"discriminator_hidden": "64"}, "discriminator_hidden: expected a sequence of integers >= 1, got '64'"),
        ({"posterior": "laplace"}, "posterior: expected one of deterministic, gaussian, universal, got 'laplace'"),
        ({"reconstruction": "l1"}, "reconstruction: expected one of bce, mse, got 'l1'"),
        ({"output": "tanh"}, "output: expected one of sigmoid, linear, got 'tanh'"),
        ({"output": "linear"}, "reconstruction='bce' works on the logits of a sigmoid"),
        ({"activation": "gelu"}, "activation: expected one of"),
        ({"precision": "fp16"}, "precision: expected one of fp32, bf16 on device 'cpu', got 'fp16'"),
        ({"noise_dim": 0}, "noise_dim: expected an integer >= 1"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"prior": priors.SwissRoll()}, "SwissRoll has dimension 2, but latent_dim is 3"),
        ({"prior": "normal"}, "prior: expected a Prior or a callable"),
        ({"device": "abacus"}, "device: expected 'cpu', 'cuda'"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"input_dim": D, "latent_dim": Z, "hidden": (8,), **options}
    with pytest.raises((ValueError, TypeError), match=message):
        AAE(**arguments)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, D + 1)), "x"),
        (np.zeros(D), "x"),
        (np.zeros((0, D)), "x"),
        (np.full((2, D), np.nan), "nan"),
        (np.full((2, D), np.inf), "inf"),
        (np.full((2, D), 1.5), r"\[0, 1\]"),
        (np.zeros((2, D), complex), "x"),
        (np.full((2, D), "a"), "x"),
        (None, "x"),
    ],
)
def test_bad_data(data, message):
    m = model()
    needs_no_range = {"encode"} if "0, 1" in message else set()
    for use in (m.encode, m.evaluate, Trainer(m, 2).step):
        if use.__name__ in needs_no_range:
            continue
        with pytest.raises((ValueError, TypeError), match=message):
            use(data)


def test_no_hidden_layers(x):
    m = AAE(D, Z, ())
    assert np.isfinite(list(Trainer(m, 10).step(x).values())).all()


def test_the_reconstruction_loss_is_that_of_the_functions(x):
    m = model()
    target = Tensor(to_floats(m.backend, x))
    logits = m.decoder(m.encoder(target))
    assert float(bce_with_logits(logits, target)) == pytest.approx(m.evaluate(x), rel=1e-6)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_recomputed_statistics_are_those_of_codes_at_the_centre(posterior, x):
    m = model(posterior=posterior, batch_norm="hidden", batch_statistics="recomputed")
    Trainer(m, 20).fit(x, 2, progress=False)
    state, z = m.state_dict(), m.in_units(Tensor(m.backend.from_host(m.encode(x)))).numpy()
    first = z @ state["decoder.0.weight"].T + state["decoder.0.bias"]
    moments = state["decoder.0.norm.moments"]
    np.testing.assert_allclose(moments[0], first.mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(moments[1], first.var(axis=0), rtol=1e-3, atol=1e-5)
