"""Losses on codes, and losses whose weight is a number of the device: values against textbooks, gradients against
finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from test_autograd import B, H, I, O, leaf, losses_of

from aaecore import functions as F
from aaecore import nn
from aaecore.backend import Backend, get_backend
from aaecore.ops import ACTIVATIONS
from aaecore.optim import SGD
from aaecore.tensor import Parameter, Tensor, backward

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


# --- a weight of the device -------------------------------------------------------------------------------------------


def all_losses(backend: Backend, rng: np.random.Generator) -> dict[str, tuple[int, Loss]]:
    """How many features each loss takes, and the loss."""
    names = {"half_squared_error": O, "bce_with_logits": O, "adversarial_bce": 1}
    return {name: (width, losses_of(name, backend, rng, width)) for name, width in names.items()}


LOSSES = list(all_losses(get_backend("reference"), np.random.default_rng(0)))


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
