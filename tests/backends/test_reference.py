"""The reference against mathematics: finite differences, independent transcriptions, and its promises about dtypes.

Nothing here knows a kernel; test_ops.py compares the kernels with the reference.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import CASES, make_buffers
from finite_differences import agrees, away_from_kinks, empty
from numpy.typing import NDArray

from aaecore.backends import reference
from aaecore.backends.reference import random
from aaecore.core.ops import (
    ACTIVATIONS,
    BETA1,
    BETA2,
    EPS,
    GRAD_SCALE,
    LEAKY_RELU,
    LR,
    MOMENTUM,
    OPS,
    RELU,
    STATE_SIZE,
    STEP,
    TANH,
)

Array = NDArray[np.float64]
SLOPE = 0.2
activations = pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS)
formulas = SimpleNamespace(**reference.FUNCTIONS)


def forward(x: Array, weight: Array, bias: Array, act: int) -> Array:
    y = empty(len(x), len(weight))
    formulas.linear_forward(x, weight, bias, y, *x.shape, len(weight), act, SLOPE)
    return y


def activate(x: Array, act: int) -> Array:
    """The activation alone, by its textbook formula."""
    return [x, np.maximum(x, 0), np.where(x > 0, x, SLOPE * x), 1 / (1 + np.exp(-x)), np.tanh(x)][act]


# --- linear layers ----------------------------------------------------------------------------------------------------

X, WEIGHT, BIAS = away_from_kinks((4, 3), 1), away_from_kinks((5, 3), 2), away_from_kinks((5,), 3)
SEED_GRADIENT = away_from_kinks((4, 5), 4)  # of a scalar sum(SEED_GRADIENT * y)


@activations
def test_linear_forward(act: int) -> None:
    expected = [
        [
            activate(sum(w * x for w, x in zip(row, r, strict=True)) + b, act)
            for row, b in zip(WEIGHT, BIAS, strict=True)
        ]
        for r in X
    ]
    np.testing.assert_allclose(forward(X, WEIGHT, BIAS, act), expected, rtol=1e-12)


@activations
def test_weight_gradient_through_the_activation(act: int) -> None:
    """linear_backward_weight takes the gradient before the activation, which activation_backward makes."""
    y = forward(X, WEIGHT, BIAS, act)
    dy, dweight, dbias = empty(4, 5), empty(5, 3), empty(5)
    formulas.activation_backward(SEED_GRADIENT, y, dy, y.size, act, 0, SLOPE)
    formulas.linear_backward_weight(X, dy, dweight, dbias, 4, 3, 5, 0)
    assert np.abs(X @ WEIGHT.T + BIAS).min() > 1e-3
    agrees(dweight, lambda w: float(np.sum(SEED_GRADIENT * forward(X, w, BIAS, act))), WEIGHT)
    agrees(dbias, lambda b: float(np.sum(SEED_GRADIENT * forward(X, WEIGHT, b, act))), BIAS)


@activations
def test_input_gradient_is_that_before_the_activation_below(act: int) -> None:
    """dx belongs to what went INTO the activation that made x."""
    dx = empty(4, 3)
    formulas.linear_backward_input(SEED_GRADIENT, WEIGHT, activate(X, act), dx, 4, 3, 5, act, 0, SLOPE)
    agrees(dx, lambda x: float(np.sum(SEED_GRADIENT * (activate(x, act) @ WEIGHT.T + BIAS))), X)


@activations
def test_two_layers(act: int) -> None:
    """The convention carries through a network: only the last gradient goes through activation_backward."""
    top = away_from_kinks((2, 5), 5)
    seed = away_from_kinks((4, 2), 6)
    hidden = forward(X, WEIGHT, BIAS, act)
    dy, dhidden, dweight, dbias = empty(4, 2), empty(4, 5), empty(5, 3), empty(5)
    formulas.activation_backward(seed, forward(hidden, top, np.zeros(2), TANH), dy, 8, TANH, 0, SLOPE)
    formulas.linear_backward_input(dy, top, hidden, dhidden, 4, 5, 2, act, 0, SLOPE)
    formulas.linear_backward_weight(X, dhidden, dweight, dbias, 4, 3, 5, 0)
    agrees(dweight, lambda w: float(np.sum(seed * forward(forward(X, w, BIAS, act), top, np.zeros(2), TANH))), WEIGHT)


@activations
def test_activation_backward(act: int) -> None:
    x = away_from_kinks((12,))
    dx, dy = empty(12), away_from_kinks((12,), 7)
    formulas.activation_backward(dy, activate(x, act), dx, 12, act, 0, SLOPE)
    agrees(dx, lambda x: float(np.sum(dy * activate(x, act))), x)


def test_kinks_and_not_a_number() -> None:
    """At 0 the derivative of ReLU is 0 and of leaky ReLU its slope, as in PyTorch; NaN passes forward through both."""
    dx = empty(1)
    for act, derivative in ((RELU, 0.0), (LEAKY_RELU, SLOPE)):
        formulas.activation_backward(np.ones(1), np.zeros(1), dx, 1, act, 0, SLOPE)
        assert dx[0] == derivative
        assert np.isnan(forward(np.full((1, 1), np.nan), np.ones((1, 1)), np.zeros(1), act))


def test_a_derivative_wrong_by_a_thousandth_is_noticed() -> None:
    x = away_from_kinks((12,))
    dx, dy = empty(12), away_from_kinks((12,), 7)
    formulas.activation_backward(dy, activate(x, TANH), dx, 12, TANH, 0, SLOPE)
    agrees(dx, lambda x: float(np.sum(dy * np.tanh(x))), x)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        agrees(1.001 * dx, lambda x: float(np.sum(dy * np.tanh(x))), x)


# --- losses and the Gaussian posterior --------------------------------------------------------------------------------


@activations
def test_half_squared_error(act: int) -> None:
    target = np.random.default_rng(8).uniform(0, 1, (4, 3))
    dy, loss, unused = empty(4, 3), empty(1), empty(4, 3)

    def value(x: Array) -> float:
        formulas.half_squared_error(activate(x, act), target, unused, loss, 4, 3, act, SLOPE, 0.75)
        return float(loss[0])

    y = activate(X, act)
    formulas.half_squared_error(y, target, dy, loss, 4, 3, act, SLOPE, 0.75)
    rows = [0.5 * sum((a - b) ** 2 for a, b in zip(*row, strict=True)) for row in zip(y, target, strict=True)]
    assert loss[0] == pytest.approx(0.75 * sum(rows) / len(rows), rel=1e-12)
    agrees(dy, value, X)


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def test_bce_logits() -> None:
    target = np.random.default_rng(9).uniform(0, 1, (4, 3))
    dlogits, loss, unused = empty(4, 3), empty(1), empty(4, 3)

    def value(logits: Array) -> float:
        formulas.bce_logits(logits, target, unused, loss, 4, 3, 0.75)
        return float(loss[0])

    formulas.bce_logits(X, target, dlogits, loss, 4, 3, 0.75)
    expected = [cross_entropy(a, b) for a, b in zip(X.flat, target.flat, strict=True)]
    assert loss[0] == pytest.approx(0.75 * sum(expected) / 4, rel=1e-12)
    agrees(dlogits, value, X)


@pytest.mark.parametrize("real", [0, 1, 3, 7])
def test_adversarial_bce(real: int) -> None:
    logits = away_from_kinks((7,), 10)
    dlogits, loss, unused = empty(7), empty(1), empty(7)

    def value(logits: Array) -> float:
        formulas.adversarial_bce(logits, unused, loss, 7, real, 0.75)
        return float(loss[0])

    formulas.adversarial_bce(logits, dlogits, loss, 7, real, 0.75)
    groups = [[cross_entropy(x, 1) for x in logits[:real]], [cross_entropy(x, 0) for x in logits[real:]]]
    assert loss[0] == pytest.approx(0.75 * sum(sum(g) / len(g) for g in groups if g), rel=1e-12)
    agrees(dlogits, value, logits)


def test_cross_entropy_of_huge_logits() -> None:
    """Linear on the wrong side, exactly 0 on the right one, never infinite."""
    logits, target = np.array([[1e4, -1e4, 1e4, -1e4]]), np.array([[0.0, 1.0, 1.0, 0.0]])
    dlogits, loss = empty(1, 4), empty(1)
    formulas.bce_logits(logits, target, dlogits, loss, 1, 4, 1.0)
    assert loss[0] == 2e4
    assert dlogits.tolist() == [[1.0, -1.0, 0.0, 0.0]]


def test_gaussian_sample() -> None:
    params, noise, dz = away_from_kinks((4, 2, 3), 11), away_from_kinks((4, 3), 12), away_from_kinks((4, 3), 13)
    dparams, z = empty(4, 2, 3), empty(4, 3)

    def value(params: Array) -> float:
        formulas.gaussian_sample(params, noise, z, 4, 3)
        return float(np.sum(dz * z))

    formulas.gaussian_sample_backward(dz, params, noise, dparams, 4, 3, 0)
    agrees(dparams, value, params)
    value(params)
    assert z[1, 2] == pytest.approx(params[1, 0, 2] + math.sqrt(math.exp(params[1, 1, 2])) * noise[1, 2], rel=1e-12)


@pytest.mark.parametrize(("precision", "offset"), [(0.7, 0.4), (0.0, -0.9)])
def test_gaussian_kl(precision: float, offset: float) -> None:
    params, dparams, loss, unused = away_from_kinks((4, 2, 3), 16), empty(4, 2, 3), empty(1), empty(4, 2, 3)

    def value(params: Array) -> float:
        formulas.gaussian_kl(params, unused, loss, 4, 3, 0.3, precision, offset, 0.75)
        return float(loss[0])

    formulas.gaussian_kl(params, dparams, loss, 4, 3, 0.3, precision, offset, 0.75)
    terms = [
        (precision * (math.exp(v) + (m - 0.3) ** 2) - 1 - v) / 2 + offset
        for m, v in zip(params[:, 0].flat, params[:, 1].flat, strict=True)
    ]
    assert loss[0] == pytest.approx(0.75 * sum(terms) / 4, rel=1e-12)
    agrees(dparams, value, params)


def test_mixture_nll() -> None:
    """Every component counts somewhere, but for the one of weight 0."""
    rng = np.random.default_rng(17)
    z, means, whitening = (rng.standard_normal(shape) for shape in ((5, 3), (4, 3), (4, 3, 3)))
    whitening, log_scales = np.tril(whitening), np.array([-1.0, -math.inf, -2.0, -0.5])
    dz, loss, unused = empty(5, 3), empty(1), empty(5, 3)

    def value(z: Array) -> float:
        formulas.mixture_nll(z, log_scales, means, whitening, unused, loss, 5, 3, 4, 0.75)
        return float(loss[0])

    formulas.mixture_nll(z, log_scales, means, whitening, dz, loss, 5, 3, 4, 0.75)
    densities = [
        [math.exp(s - np.sum((w @ (row - m)) ** 2) / 2) for s, m, w in zip(log_scales, means, whitening, strict=True)]
        for row in z
    ]
    assert (np.array(densities).max(axis=0) > 0.01).tolist() == [True, False, True, True]
    assert loss[0] == pytest.approx(-0.75 * sum(math.log(sum(row)) for row in densities) / 5, rel=1e-12)
    agrees(dz, value, z)


# --- optimizers -------------------------------------------------------------------------------------------------------


def _gradients(steps: int, size: int) -> Array:
    rng = np.random.default_rng(14)
    return rng.standard_normal((steps, size)) * 10.0 ** rng.uniform(-4, 2, size)


def test_adam_over_a_thousand_steps() -> None:
    """Against Algorithm 1 of Kingma & Ba as PyTorch documents it, number by number, with changing rate and scale."""
    p, m, v, state = away_from_kinks((6,)), np.zeros(6), np.zeros(6), np.zeros(STATE_SIZE)
    state[[BETA1, BETA2, EPS]] = 0.9, 0.999, 1e-8
    parameters, first, second = p.tolist(), [0.0] * 6, [0.0] * 6
    for t, g in enumerate(_gradients(1000, 6), start=1):
        lr, scale = 1e-2 / math.sqrt(t), 1.0 if t % 3 else 0.5
        state[LR] = lr
        formulas.adam_advance(state)
        assert state[GRAD_SCALE] == 1
        state[GRAD_SCALE] = scale
        formulas.adam_step(p, g, m, v, state, 6)
        for i in range(6):
            gradient = scale * g[i]
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            m_hat, v_hat = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
            parameters[i] -= lr * m_hat / (math.sqrt(v_hat) + 1e-8)
    assert state[STEP] == 1000
    np.testing.assert_allclose(p, parameters, rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_over_a_thousand_steps(momentum: float) -> None:
    """PyTorch's rule: the first buffer is the gradient itself, then b = momentum b + g and p -= lr b."""
    p, velocity, state = away_from_kinks((6,)), np.zeros(6), np.zeros(STATE_SIZE)
    state[[LR, MOMENTUM]] = 1e-3, momentum
    parameters, buffer = p.tolist(), [0.0] * 6
    for t, g in enumerate(_gradients(1000, 6), start=1):
        formulas.sgd_advance(state)
        assert state[GRAD_SCALE] == 1
        state[GRAD_SCALE] = 0.5
        formulas.sgd_step(p, g, velocity, state, 6)
        for i in range(6):
            buffer[i] = 0.5 * g[i] if t == 1 else momentum * buffer[i] + 0.5 * g[i]
            parameters[i] -= 1e-3 * buffer[i]
    assert state[STEP] == 1000
    np.testing.assert_allclose(p, parameters, rtol=1e-9)


def test_fused_adam_is_the_gradient_and_then_adam() -> None:
    dy, rng = SEED_GRADIENT, np.random.default_rng(15)
    state = np.array([2, 0.5, 0.9, 0.999, 1e-8, 0.7, 0, 0])
    formulas.adam_advance(state)
    fused = [rng.uniform(0.5, 1, s) for s in [(5, 3)] * 3 + [(5,)] * 3]
    apart = [a.copy() for a in fused]
    dweight, dbias = empty(5, 3), empty(5)
    formulas.linear_backward_weight_adam(X, dy, *fused, state, 4, 3, 5)
    formulas.linear_backward_weight(X, dy, dweight, dbias, 4, 3, 5, 0)
    for (p, m, v), g in ((apart[:3], dweight), (apart[3:], dbias)):
        formulas.adam_step(p, g, m, v, state, p.size)
    for a, b in zip(fused, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("norm", "expected"), [(0.5, 1.0), (4.0, 0.5), (math.inf, 0.0), (math.nan, math.nan)])
def test_clipping(norm: float, expected: float) -> None:
    """As torch.nn.utils.clip_grad_norm_ with max_norm 2: NaN is not hidden."""
    state, total = np.zeros(STATE_SIZE), np.zeros(1)
    formulas.sum_squares(np.array([0.6, -0.8]) * norm, total, 2, 0)
    formulas.clip_scale(total, state, 2.0)
    assert state[GRAD_SCALE] == pytest.approx(expected, rel=1e-6, nan_ok=True)


# --- moving data, beta, dtypes ----------------------------------------------------------------------------------------


def test_columns_and_rows() -> None:
    src, dst = np.arange(6.0).reshape(2, 3), np.full((2, 4), 100.0)
    formulas.copy_columns(src, dst, 2, 2, 3, 1, 4, 2, 0)
    assert dst.tolist() == [[100, 100, 1, 2], [100, 100, 4, 5]]
    formulas.copy_columns(src, dst, 2, 2, 3, 0, 4, 0, 1)
    assert dst.tolist() == [[100, 101, 1, 2], [103, 104, 4, 5]]
    out = empty(2, 3)
    source = np.array([[0, 1, 2], [255, 254, 253]], np.uint8)
    formulas.gather_rows_u8(source, np.array([9, 1, 0]), np.array([1]), out, 2, 3, 3, 2, 2.0)
    assert out.tolist() == [[510, 508, 506], [0, 2, 4]]


@pytest.mark.parametrize("op", [op for op in OPS.values() if "beta" in op.dims], ids=lambda op: op.name)
def test_beta_accumulates(op: Any) -> None:
    """With beta 1 the same values are added; in copy_columns that is a role of its columns only."""
    case = next(c for c in CASES[op.name] if min(n for k, n in c.dims.items() if k in "BNIOZ") > 2)
    arrays = make_buffers(op.name, case, np.random.default_rng(0))
    added, fresh = [a.copy() for a in arrays], [a.copy() for a in arrays]
    for buffers, beta in ((added, 1), (fresh, 0)):
        reference.FUNCTIONS[op.name](*buffers, *{**case.dims, "beta": beta}.values(), *case.scalars.values())
    accumulating = [i for i, a in enumerate(op.args) if a.role in ("beta", "inout")]
    assert accumulating
    for i in accumulating:
        touched = slice(None)
        if op.name == "copy_columns":
            touched = (slice(None), slice(case.dims["dst_at"], case.dims["dst_at"] + case.dims["cols"]))
        np.testing.assert_allclose(added[i][touched], arrays[i][touched] + fresh[i][touched], rtol=1e-12, atol=1e-12)


class Float32Only(np.ndarray[Any, Any]):
    """Refuses every float64 array that is made from it."""

    def __array_finalize__(self, obj: object) -> None:
        if self.dtype == np.float64 and self.ndim:
            raise TypeError("computed in float64")


@pytest.mark.parametrize("op", [name for name in OPS if not name.startswith("random")])
def test_float32_is_computed_in_float32(op: str) -> None:
    """On float32 arrays the reference is the plain implementation that kernels are measured by: no hidden float64."""
    for case in CASES[op]:
        if case.parallel or case.bench or case.fill != "normal":
            continue
        arrays = make_buffers(op, case, np.random.default_rng(0))
        for i, arg in enumerate(OPS[op].args):
            if arg.kind in ("real", "weight"):
                arrays[i] = arrays[i].astype(np.float32).view(Float32Only)
        if op in ("sum_squares", "add_direction", "parzen"):  # by contract summed in float64: the check can fail
            with pytest.raises(TypeError, match="computed in float64"):
                reference.FUNCTIONS[op](*arrays, *case.dims.values(), *case.scalars.values())
        else:
            reference.FUNCTIONS[op](*arrays, *case.dims.values(), *case.scalars.values())


def test_random_float32_is_computed_in_float32() -> None:
    words = random.philox(1, 2, 3, np.arange(5))
    assert random._uniform01(words, np.float32).dtype == np.float32
    assert random._normals(words, np.float32).dtype == np.float32
