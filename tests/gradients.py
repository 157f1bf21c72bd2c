"""Gradients against finite differences, and the losses and sizes that several tests take."""

import numpy as np

from aaecore import functions as F
from aaecore.functions.tensor import Parameter, Tensor, backward

B, I, H, O = 5, 4, 6, 3  # noqa: E741


def leaf(backend, array):
    return Parameter(backend.from_host(array))


def numeric_gradient(parameter, loss, eps=1e-6):
    """Central differences of loss() by every element of the parameter."""
    value = parameter.numpy()
    gradient = np.empty_like(value)
    for i in np.ndindex(value.shape):
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved[i] += sign * eps
            parameter.backend.upload(parameter.buffer, moved)
            sides.append(sum(float(t) for t in loss()))
        gradient[i] = (sides[0] - sides[1]) / (2 * eps)
    parameter.backend.upload(parameter.buffer, value)
    return gradient


def check_gradients(parameters, loss):
    """Every parameter's gradient of the sum of the losses in the list loss(), against finite differences."""
    backward(loss(), parameters=parameters)
    for p in parameters:
        analytic = p.backend.to_host(p.grad)
        np.testing.assert_allclose(analytic, numeric_gradient(p, loss), atol=1e-5, rtol=1e-3)


def losses_of(name, backend, rng, width):
    target = Tensor(backend.from_host(rng.random((B, width))))
    return {
        "half_squared_error": lambda y: F.half_squared_error(y, target, 0.7),
        "bce_with_logits": lambda y: F.bce_with_logits(y, target, 1.3),
        "adversarial_bce": lambda y: F.adversarial_bce(y, 2, 0.9),
    }[name]
