"""Energies of Boltzmann machines: values against their formulas, gradients against finite differences, and draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gradients import B, H, I, check_gradients, leaf
from numpy.typing import NDArray

from aaecore import functions as F
from aaecore import nn
from aaecore.backends.devices import get_backend
from aaecore.core.backend import Backend
from aaecore.core.random import Generator
from aaecore.functions.tensor import Parameter, Tensor

Array = NDArray[np.float64]


@pytest.fixture(params=["reference", "cpu"])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(device: str) -> Backend:
    return get_backend(device)


@pytest.fixture
def exact() -> Backend:
    return get_backend("reference")


def tensor(backend: Backend, array: Array) -> Tensor:
    return Tensor(backend.from_host(array))


def layer_of(backend: Backend) -> nn.Linear:
    return nn.Linear(backend, I, H, rng=np.random.default_rng(1))


def test_free_energies_are_those_of_enumerated_states(exact: Backend, rng: np.random.Generator) -> None:
    """F(v) = -ln of the sum over all hidden states h of exp(b.v + c.h + h W v), a mean over the rows."""
    v, bias = rng.random((B, I)), rng.standard_normal(I)
    layer = layer_of(exact)
    w, c = layer.weight.numpy(), layer.bias.numpy()
    states = np.array(np.meshgrid(*[[0, 1]] * H)).reshape(H, -1).T
    expected = -np.mean(np.log(np.exp(v @ bias + (states @ c)[:, None] + states @ w @ v.T).sum(axis=0)))
    x = tensor(exact, v)
    parts = F.softplus_sum(layer(x), -1.0), F.bias_product(leaf(exact, bias), x, -1.0)
    assert sum(float(part) for part in parts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", [1.0, -0.7])
def test_gradients(weight: float, exact: Backend, rng: np.random.Generator) -> None:
    v, other = tensor(exact, rng.random((B, I))), tensor(exact, rng.random((B, H)))
    bias, layer = leaf(exact, rng.standard_normal(I)), layer_of(exact)

    def losses() -> list[Tensor]:
        pre = layer(v)
        return [F.softplus_sum(pre, weight), F.inner_product(pre, other, 0.3), F.bias_product(bias, v, weight)]

    check_gradients([bias, layer.weight, layer.bias], losses)


def test_values_of_both_devices(backend: Backend, rng: np.random.Generator) -> None:
    x, v, bias = rng.standard_normal((B, I)), rng.standard_normal((B, I)), rng.standard_normal(I)
    near = {"rel": 1e-5, "abs": 1e-6}
    a, b, c = tensor(backend, x), tensor(backend, v), tensor(backend, bias)
    assert float(F.inner_product(a, b, 2.0)) == pytest.approx(2 * np.mean((x * v).sum(axis=1)), **near)
    assert float(F.bias_product(c, b)) == pytest.approx(np.mean(v @ bias), **near)
    assert float(F.softplus_sum(a)) == pytest.approx(np.mean(np.logaddexp(0, x).sum(axis=1)), **near)
    np.testing.assert_allclose(F.add_bias(a, c).numpy(), x + bias, atol=1e-6)
    np.testing.assert_allclose(F.add_bias(a, c, "sigmoid").numpy(), 1 / (1 + np.exp(-x - bias)), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_way_down_is_the_transposed_product(precision: str, backend: Backend, rng: np.random.Generator) -> None:
    layer = layer_of(backend)
    y, onto = rng.standard_normal((B, H)), rng.standard_normal((B, I))
    tolerance = 1e-5 if precision == "fp32" else 0.05
    product = y @ layer.weight.numpy()
    down = F.transposed_product(tensor(backend, y), layer.weight, precision)
    np.testing.assert_allclose(down.numpy(), product, atol=tolerance)
    held = tensor(backend, onto)
    assert F.transposed_product(tensor(backend, y), layer.weight, precision, held).buffer is held.buffer
    np.testing.assert_allclose(held.numpy(), onto + product, atol=tolerance)
    assert not down.requires_grad


def test_draws_have_their_probability_and_are_equal_everywhere(backend: Backend, exact: Backend) -> None:
    p = np.repeat([0.0, 0.25, 1.0], 4000)
    drawn = [F.bernoulli(tensor(b, p), Generator(b, 7)).numpy() for b in (backend, exact, backend)]
    other = Generator(backend, 7)
    other.advance()
    assert set(np.unique(drawn[0])) == {0.0, 1.0}
    for other_draw in drawn[1:]:
        np.testing.assert_array_equal(drawn[0], other_draw)
    assert (F.bernoulli(tensor(backend, p), other).numpy() != drawn[0]).any()
    shares = drawn[0].reshape(3, -1).mean(axis=1)
    assert (shares[0], shares[2]) == (0, 1)
    assert abs(shares[1] - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t, w: F.softplus_sum(t(3)), r"logits: expected shape \(batch, features\), got \(3,\)"),
        (lambda t, w: F.bias_product(t(3), t(2, 4)), r"v: expected shape \(batch, 3\), got \(2, 4\)"),
        (lambda t, w: F.inner_product(t(2, 3), t(3, 2)), r"v: expected the shape of x \(2, 3\), got \(3, 2\)"),
        (lambda t, w: F.add_bias(t(2, 3), t(2)), r"bias: expected shape \(3,\), got \(2,\)"),
        (lambda t, w: F.add_bias(t(2, 3), t(3), "swish"), "activation: expected one of"),
        (lambda t, w: F.transposed_product(t(2, 3), w), r"y: expected shape \(batch, 6\), got \(2, 3\)"),
        (lambda t, w: F.transposed_product(t(2, H), w, "fp8"), "precision: expected one of"),
        (lambda t, w: F.transposed_product(t(2, H), w, onto=t(3, I)), r"onto: expected shape \(2, 4\), got \(3, 4\)"),
    ],
)  # fmt: skip
def test_bad_arguments(call: Callable[[Callable[..., Tensor], Parameter], Tensor], text: str, exact: Backend) -> None:
    with pytest.raises(ValueError, match=text):
        call(lambda *shape: tensor(exact, np.zeros(shape)), layer_of(exact).weight)


def test_what_is_no_tensor(exact: Backend) -> None:
    x = np.zeros((2, 3))
    for call in (F.softplus_sum, lambda x: F.bernoulli(x, Generator(exact, 0))):
        with pytest.raises(TypeError, match="expected a Tensor"):
            call(x)  # type: ignore[arg-type]
