"""Losses on codes, and losses whose weight is a number of the device: values against textbooks, gradients against
finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import cuda_devices
import numpy as np
import pytest
from gradients import B, H, I, O, check_gradients, leaf, losses_of
from numpy.typing import NDArray

from aaecore import functions as F
from aaecore import nn
from aaecore.backends.devices import get_backend
from aaecore.core.backend import Backend
from aaecore.core.ops import ACTIVATIONS
from aaecore.functions.tensor import Parameter, Tensor, backward
from aaecore.optim import SGD
from aaecore.priors import GaussianMixture

Array = NDArray[np.float64]
Loss = Callable[[Tensor], Tensor]
FACTOR = 0.375


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def backend() -> Backend:
    return get_backend("reference")


def tensor(backend: Backend, *numbers: float) -> Tensor:
    return Tensor(backend.from_host(np.array(numbers)))


def gradients(losses: list[Tensor], parameters: list[Parameter]) -> list[Array]:
    backward(losses, parameters=parameters)
    return [p.backend.to_host(p.grad) for p in parameters if p.grad is not None]


# --- the posterior's divergence and entropy ---------------------------------------------------------------------------


def normal_pdf(x: Array, mean: float, variance: float) -> Array:
    return np.asarray(np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 2.5)])
def test_divergence_and_entropy_are_the_integrals(
    mean: float, std: float, backend: Backend, rng: np.random.Generator
) -> None:
    """Of q ln(q / p) and of q ln q: a mean over the rows of the sum over the features."""
    params = rng.standard_normal((B, 2 * O))
    divergence = negative_entropy = 0.0
    for m, log_variance in zip(params[:, :O].flat, params[:, O:].flat, strict=True):
        spread = np.exp(log_variance / 2)
        x, step = np.linspace(m - 12 * spread, m + 12 * spread, 4001, retstep=True)
        q, p = normal_pdf(x, m, np.exp(log_variance)), normal_pdf(x, mean, std**2)
        divergence += float(np.sum(q * np.log(q / p)) * step)
        negative_entropy += float(np.sum(q * np.log(q)) * step)
    x = Tensor(backend.from_host(params))
    assert float(F.gaussian_kl(x, mean, std, 0.7)) == pytest.approx(0.7 * divergence / B, rel=1e-9)
    assert float(F.gaussian_negative_entropy(x, 0.7)) == pytest.approx(0.7 * negative_entropy / B, rel=1e-9)


@pytest.mark.parametrize("log_variance", [100.0, 3000.0, -3000.0])
def test_an_entropy_takes_any_log_variance(log_variance: float) -> None:
    """The variance itself may be more than float32 holds: an entropy has none."""
    cpu = get_backend("cpu")
    params = leaf(cpu, np.array([[1.0, 2.0, log_variance, 0.0]]))
    loss = F.gaussian_negative_entropy(params)
    expected = -(2 + log_variance + 2 * np.log(2 * np.pi)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    (gradient,) = gradients([loss], [params])
    np.testing.assert_array_equal(gradient, [[0, 0, -0.5, -0.5]])


def test_a_posterior_that_is_the_prior_has_no_divergence() -> None:
    cpu = get_backend("cpu")
    params = leaf(cpu, np.zeros((3, 8)))
    loss = F.gaussian_kl(params)
    assert float(loss) == 0
    assert not gradients([loss], [params])[0].any()


# --- the density of a mixture -----------------------------------------------------------------------------------------

MEANS = [[0.0, 0.0, 1.0], [1.0, -1.0, 0.5], [-2.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
WEIGHTS = [2.0, 1.0, 3.0, 0.0]


def mixture() -> GaussianMixture:
    factors = np.random.default_rng(1).standard_normal((4, O, O)) + 1.5 * np.eye(O)
    return GaussianMixture(MEANS, (factors @ factors.transpose(0, 2, 1)).tolist(), WEIGHTS)


def density(prior: GaussianMixture, z: Array) -> Array:
    """p(z) of every row, by the inverses and determinants of the covariances."""
    p = np.zeros(len(z))
    for weight, mean, covariance in zip(prior.weights or (), prior.means, prior.covariances, strict=True):
        away = z - np.array(mean)
        distance = np.sum(away * np.linalg.solve(np.array(covariance), away.T).T, axis=1)
        p += (
            weight
            / sum(prior.weights or ())
            * np.exp(-distance / 2)
            / np.sqrt(np.linalg.det(2 * np.pi * np.array(covariance)))
        )
    return p


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_mixture_nll_is_minus_the_log_density(device: str, rng: np.random.Generator) -> None:
    backend, prior = get_backend(device), mixture()
    z = 2 * rng.standard_normal((40, O))
    loss = F.mixture_nll(Tensor(backend.from_host(z)), prior.density_tables(backend), 0.7)
    expected = -0.7 * np.log(density(prior, z)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5 if device == "cpu" else 1e-12)


def test_the_density_of_a_mixture_integrates_to_one(backend: Backend) -> None:
    prior = GaussianMixture.ring(5, radius=2.0, radial_std=0.5, tangential_std=0.2)
    tables = prior.density_tables(backend)
    axis, step = np.linspace(-6, 6, 61, retstep=True)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = sum(np.exp(-float(F.mixture_nll(Tensor(backend.from_host(p[None])), tables))) for p in points)
    assert total * step**2 == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("distance", [1e3, 1e9])
def test_a_code_far_away_is_drawn_back(distance: float) -> None:
    """All densities are 0 there, but not their logarithms; the gradient is that of the widest component."""
    cpu = get_backend("cpu")
    covariances = np.array([1, 4, 1])[:, None, None] * np.eye(2)
    prior = GaussianMixture([[0, 0], [1, 0], [0, 0]], covariances.tolist(), [1, 1, 0])
    z = leaf(cpu, np.array([[distance, 0.0]]))
    loss = F.mixture_nll(z, prior.density_tables(cpu))
    assert float(loss) == pytest.approx((distance - 1) ** 2 / 8 + np.log(2 * 2 * np.pi * 4), rel=1e-5)
    np.testing.assert_allclose(gradients([loss], [z])[0], [[(distance - 1) / 4, 0]], rtol=1e-6)


# --- all of them ------------------------------------------------------------------------------------------------------


def all_losses(backend: Backend, rng: np.random.Generator) -> dict[str, tuple[int, Loss]]:
    """How many features each loss takes, and the loss."""
    tables = mixture().density_tables(backend)
    names = {"half_squared_error": O, "bce_with_logits": O, "adversarial_bce": 1}
    return {
        **{name: (width, losses_of(name, backend, rng, width)) for name, width in names.items()},
        "gaussian_kl": (2 * O, lambda params: F.gaussian_kl(params, 0.3, 1.7, 0.7)),
        "gaussian_negative_entropy": (2 * O, lambda params: F.gaussian_negative_entropy(params, 0.7)),
        "mixture_nll": (O, lambda z: F.mixture_nll(z, tables, 0.7)),
    }


LOSSES = list(all_losses(get_backend("reference"), np.random.default_rng(0)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["gaussian_kl", "gaussian_negative_entropy", "mixture_nll"])
def test_a_network_below(name: str, activation: str, backend: Backend, rng: np.random.Generator) -> None:
    """Also where the tensor has another loss, whose gradient is that before the activation."""
    width, loss = all_losses(backend, rng)[name]
    other = losses_of("half_squared_error", backend, rng, width)
    net = nn.MLP(backend, (I, H, width), "tanh", activation, rng=rng)
    x = leaf(backend, rng.standard_normal((B, I)))

    def losses() -> list[Tensor]:
        y = net(x)
        return [loss(y), other(y)]

    check_gradients([x, *net.parameters], lambda: [loss(net(x))])
    check_gradients([x, *net.parameters], losses)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, tables: F.gaussian_kl(x), r"params: expected shape \(batch, 2 latent_dim\), got \(2, 5\)"),
        (lambda x, tables: F.gaussian_negative_entropy(x), r"params: expected shape \(batch, 2 latent_dim\), got"),
        (lambda x, tables: F.gaussian_kl(x, std=0), "std: expected a number >= 1e-18, got 0"),
        (lambda x, tables: F.mixture_nll(x, tables), r"z: expected shape \(batch, 3\), got \(2, 5\)"),
    ],
)
def test_misuse(make: Callable[..., Tensor], message: str, backend: Backend) -> None:
    with pytest.raises(ValueError, match=message):
        make(Tensor(backend.from_host(np.zeros((2, 5)))), mixture().density_tables(backend))


# --- a weight of the device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_weighted_loss_is_the_loss_times_the_number(
    name: str, activation: str, backend: Backend, rng: np.random.Generator
) -> None:
    """Its value and all gradients: alone, and where another loss of the same tensor is walked before it or after it."""
    width, loss = all_losses(backend, rng)[name]
    other = losses_of("half_squared_error", backend, rng, width)
    net = nn.MLP(backend, (I, H, width), "tanh", activation, rng=rng)
    x, factor = leaf(backend, rng.standard_normal((B, I))), tensor(backend, FACTOR)
    leaves = [x, *net.parameters]
    plain, beside = (gradients([f(net(x))], leaves) for f in (loss, other))
    assert float(F.weighted(loss(net(x)), factor)) == pytest.approx(FACTOR * float(loss(net(x))), rel=1e-12)

    def agree(losses: list[Tensor], *, expected: list[Array]) -> None:
        for a, b in zip(gradients(losses, leaves), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)

    agree([F.weighted(loss(net(x)), factor)], expected=[FACTOR * p for p in plain])
    agree([F.weighted(F.weighted(loss(net(x)), factor), factor)], expected=[FACTOR**2 * p for p in plain])
    for turn in (1, -1):
        y = net(x)
        both = [other(y), F.weighted(loss(y), factor)]
        agree(both[::turn], expected=[b + FACTOR * p for b, p in zip(beside, plain, strict=True)])
    once = loss(net(x))
    agree([F.weighted(once, factor), once], expected=[(1 + FACTOR) * p for p in plain])


def test_a_weight_may_differ_from_step_to_step() -> None:
    """A recorded step reads it from the device; the weights are those of a loss with that number."""
    moved = []
    for device in (True, False):
        backend = get_backend("cpu")
        rng = np.random.default_rng(0)
        layer = nn.Linear(backend, 8, 5, "sigmoid", rng=rng)
        x, target = (Tensor(backend.from_host(rng.random((4, n)))) for n in (8, 5))
        factor, sgd = tensor(backend, 0.0), SGD((layer.weight, layer.bias), 0.5)

        def step(weight: float = 1.0) -> None:
            sgd.advance()  # noqa: B023
            loss = F.half_squared_error(layer(x), target, weight)  # noqa: B023
            (F.weighted(loss, factor) if device else loss).backward(sgd)  # noqa: B023

        plan = backend.capture(step)
        for weight in (0.25, 0.5, 2.0):
            backend.upload(factor.buffer, np.array([weight]))
            plan.replay() if device else step(weight)
        moved.append(layer.weight.numpy())
    np.testing.assert_array_equal(*moved)


def test_a_loss_without_history_is_weighted_too(backend: Backend, rng: np.random.Generator) -> None:
    logits = Tensor(backend.from_host(rng.standard_normal((B, 1))))
    loss = F.weighted(F.adversarial_bce(logits, 2), tensor(backend, FACTOR))
    assert float(loss) == pytest.approx(FACTOR * float(F.adversarial_bce(logits, 2)), rel=1e-12)
    assert not loss.requires_grad


def test_what_cannot_be_weighted(backend: Backend, rng: np.random.Generator) -> None:
    net = nn.Linear(backend, I, 1, rng=rng)
    y = net(Tensor(backend.from_host(rng.standard_normal((B, I)))))
    one_row = net(Tensor(backend.from_host(rng.standard_normal((1, I)))))
    for no_loss in (y, one_row, leaf(backend, np.zeros(1))):
        with pytest.raises(ValueError, match=r"loss: expected a loss, got a tensor of shape \(.*\) that is none"):
            F.weighted(no_loss, tensor(backend, 1.0))
    with pytest.raises(ValueError, match=r"factor: expected shape \(1,\), got \(2,\)"):
        F.weighted(F.adversarial_bce(y, 2), tensor(backend, 1.0, 2.0))


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def trained(backend: Backend, *, recorded: bool) -> list[Array]:
    """The weights after three steps of a model that has all of these losses, with a weight of the divergence that grows
    from step to step."""
    rng = np.random.default_rng(0)
    encoder, decoder = (nn.MLP(backend, sizes, rng=rng) for sizes in ((I, H, 2 * O), (O, H, I)))
    x, factor = Tensor(backend.from_host(rng.random((B, I)))), tensor(backend, 0.0)
    eps, tables = backend.from_host(rng.standard_normal((B, O))), mixture().density_tables(backend)
    sgd = SGD([*encoder.parameters, *decoder.parameters], 0.5)

    def step() -> None:
        sgd.advance()
        params = encoder(x)
        z = F.gaussian_sample(params, eps)
        losses = [F.half_squared_error(decoder(z), x), F.weighted(F.gaussian_kl(params), factor)]
        losses += [F.mixture_nll(z, tables, 0.1), F.gaussian_negative_entropy(params, 0.1)]
        backward(losses, sgd)

    run = backend.capture(step).replay if recorded else step
    for i in range(3):
        backend.upload(factor.buffer, np.array([0.2 * i]))
        run()
    return [p.numpy() for p in sgd.parameters]


@cuda_devices.needs_device
def test_a_recorded_step_is_that_of_single_launches_and_of_the_reference() -> None:
    single, recorded = (trained(cuda_devices.backend(), recorded=r) for r in (False, True))
    for a, b, c in zip(single, recorded, trained(get_backend("reference"), recorded=False), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)
