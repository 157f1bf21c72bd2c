"""The specification of every op: one short NumPy function each, written to be read and trusted, not to be fast.

A function takes the buffers of its op as C-contiguous arrays in their logical shape (`Arg.shape`; a weight is plain
(out, in)), then the dims, then the scalars, all in the order and by the names of the op table. It writes its outputs
in place. Everything is computed in the dtype of the real arrays: float64 is the reference proper, and the same
functions on float32 arrays are the "plain NumPy float32 implementation" that sets the tolerance of the kernels' tests.
"""
# ruff: noqa: E741  (I and O are the shape letters of the op table)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.ops import (
    BETA1,
    BETA2,
    EPS,
    GRAD_SCALE,
    INV_SQRT_BC2,
    LEAKY_RELU,
    LR,
    MOMENTUM,
    OPS,
    PRECISIONS,
    RELU,
    SIGMOID,
    STEP,
    STEP_SIZE,
    TANH,
)
from ..core.plan import Call

Array = NDArray[Any]


def _store(out: Array, value: Array, beta: int) -> None:
    out[...] = out + value if beta else value  # with beta 0 `out` is not read: it may hold NaN


# --- activations and linear layers --------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, e, 1) / (1 + e)


def _activation(x: Array, act: int, slope: float) -> Array:
    if act == RELU:
        return np.where(x < 0, 0, x)
    if act == LEAKY_RELU:
        return np.where(x < 0, slope * x, x)
    if act == SIGMOID:
        return _sigmoid(x)
    if act == TANH:
        return np.tanh(x)
    return x


def _derivative(y: Array, act: int, slope: float) -> Array:
    """act'(x) from the activation's OUTPUT y; at the kink of ReLU it is 0 (ReLU) or slope (leaky), as in PyTorch."""
    if act == RELU:
        return (y > 0).astype(y.dtype)
    if act == LEAKY_RELU:
        return np.where(y > 0, 1, slope).astype(y.dtype)
    if act == SIGMOID:
        return y * (1 - y)
    if act == TANH:
        return 1 - y * y
    return np.ones_like(y)


def linear_forward(
    x: Array, weight: Array, bias: Array, y: Array, B: int, I: int, O: int, act: int, slope: float
) -> None:
    """y = act(x W^T + b)."""
    y[...] = _activation(x @ weight.T + bias, act, slope)


def linear_backward_input(
    dy: Array, weight: Array, x: Array, dx: Array, B: int, I: int, O: int, act: int, beta: int, slope: float
) -> None:
    """dx = beta dx + (dy W) act'(x), where x is the output of the activation `act` before this layer."""
    _store(dx, (dy @ weight) * _derivative(x, act, slope), beta)


def linear_backward_weight(
    x: Array, dy: Array, dweight: Array, dbias: Array, B: int, I: int, O: int, beta: int
) -> None:
    """dW = beta dW + dy^T x, db = beta db + sum_rows dy."""
    _store(dweight, dy.T @ x, beta)
    _store(dbias, dy.sum(axis=0), beta)


def linear_backward_weight_adam(
    x: Array,
    dy: Array,
    weight: Array,
    m_weight: Array,
    v_weight: Array,
    bias: Array,
    m_bias: Array,
    v_bias: Array,
    state: Array,
    B: int,
    I: int,
    O: int,
) -> None:
    """Adam with g = dy^T x on the weight and g = sum_rows dy on the bias."""
    _adam(weight, dy.T @ x, m_weight, v_weight, state)
    _adam(bias, dy.sum(axis=0), m_bias, v_bias, state)


def _bfloat16(x: Array) -> Array:
    """x rounded to 8 significant bits, to nearest, ties to even: the upper half of its float32. NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


def _tfloat32(x: Array) -> Array:
    """x rounded to 11 significant bits, to nearest, ties away from zero. NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


def _with_factors(rounded: Callable[[Array], Array], function: Callable[..., None]) -> Callable[..., None]:
    """The function with its first two arguments, the factors of its products, rounded."""

    @wraps(function)
    def with_factors(x: Array, y: Array, *rest: Any) -> None:
        function(rounded(x), rounded(y), *rest)

    return with_factors


_LINEAR: Final = (
    linear_forward,
    linear_backward_input,
    linear_backward_weight,
    linear_backward_weight_adam,
)
_ROUNDED: Final = {
    f.__name__ + PRECISIONS[precision]: _with_factors(rounding, f)
    for precision, rounding in (("tf32", _tfloat32), ("bf16", _bfloat16))
    for f in _LINEAR
}


def activation_backward(dy: Array, y: Array, dx: Array, N: int, act: int, beta: int, slope: float) -> None:
    """dx = beta dx + dy act'(x), y = act(x)."""
    _store(dx, dy * _derivative(y, act, slope), beta)


# --- losses -------------------------------------------------------------------------------------------------------


def half_squared_error(
    y: Array, target: Array, dy: Array, loss: Array, B: int, N: int, act: int, slope: float, weight: float
) -> None:
    """loss = weight / (2 B) sum (y - target)^2; dy = weight / B (y - target) act'(x), y = act(x)."""
    error = y - target
    loss[...] = weight / (2 * B) * np.sum(error * error)
    dy[...] = weight / B * error * _derivative(y, act, slope)


def _bce(logits: Array, target: Array) -> Array:
    return np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))


def bce_logits(logits: Array, target: Array, dlogits: Array, loss: Array, B: int, N: int, weight: float) -> None:
    """loss = weight / B sum [max(l, 0) - l t + log(1 + exp(-|l|))]; dl = weight / B (sigmoid(l) - t)."""
    loss[...] = weight / B * np.sum(_bce(logits, target))
    dlogits[...] = weight / B * (_sigmoid(logits) - target)


def adversarial_bce(logits: Array, dlogits: Array, loss: Array, B: int, real: int, weight: float) -> None:
    """loss = weight (mean of bce(l, 1) over rows < real + mean of bce(l, 0) over the others); no rows, no term."""
    is_real = np.arange(B) < real
    target = is_real.astype(logits.dtype)
    rows = np.where(is_real, real, B - real).astype(logits.dtype)
    loss[...] = weight * np.sum(_bce(logits, target) / rows)
    dlogits[...] = weight * (_sigmoid(logits) - target) / rows


def gaussian_kl(
    params: Array,
    dparams: Array,
    loss: Array,
    B: int,
    Z: int,
    mean: float,
    precision: float,
    offset: float,
    weight: float,
) -> None:
    """loss = weight / B sum (1/2 [precision (v + (m - mean)^2) - 1 - ln v] + offset), params = [m | ln v];
    dm = weight / B precision (m - mean), dln v = weight / (2 B) (precision v - 1).

    Kingma & Welling (2014), appendix B.
    """
    away, log_variance = params[:, 0] - mean, params[:, 1]
    variance = np.exp(log_variance)
    terms = (precision * (variance + away * away) - 1 - log_variance) / 2 + offset
    loss[...] = weight / B * np.sum(terms)
    dparams[:, 0] = weight / B * precision * away
    dparams[:, 1] = weight / (2 * B) * (precision * variance - 1)


def mixture_nll(
    z: Array,
    log_scales: Array,
    means: Array,
    whitening: Array,
    dz: Array,
    loss: Array,
    B: int,
    Z: int,
    C: int,
    weight: float,
) -> None:
    """loss = -weight / B sum ln p, ln p = ln sum_c exp(log_scales_c - |y_c|^2 / 2), y_c = whitening_c (z - means_c);
    dz = weight / B sum_c r_c whitening_c^T y_c, where r_c is the share of component c in p."""
    y = np.einsum("cjk,bck->bcj", whitening, z[:, None] - means)
    terms = log_scales - np.sum(y * y, axis=2) / 2
    largest = terms.max(axis=1, keepdims=True)  # taken out, so that no exp overflows and not all are 0
    log_density = largest + np.log(np.sum(np.exp(terms - largest), axis=1, keepdims=True))
    shares = np.exp(terms - log_density)
    loss[...] = -weight / B * np.sum(log_density)
    dz[...] = weight / B * np.einsum("cjk,bcj->bk", whitening, shares[:, :, None] * y)


# --- the Gaussian posterior ---------------------------------------------------------------------------------------


def gaussian_sample(params: Array, eps: Array, z: Array, B: int, Z: int) -> None:
    """z = mean + exp(logvar / 2) eps, params = [mean | logvar]."""
    z[...] = params[:, 0] + np.exp(params[:, 1] / 2) * eps


def gaussian_sample_backward(dz: Array, params: Array, eps: Array, dparams: Array, B: int, Z: int, beta: int) -> None:
    """dmean = beta dmean + dz, dlogvar = beta dlogvar + dz eps exp(logvar / 2) / 2."""
    _store(dparams[:, 0], dz, beta)
    _store(dparams[:, 1], dz * eps * np.exp(params[:, 1] / 2) / 2, beta)


# --- moving data --------------------------------------------------------------------------------------------------


def copy_columns(
    src: Array, dst: Array, B: int, cols: int, src_cols: int, src_at: int, dst_cols: int, dst_at: int, beta: int
) -> None:
    """dst[:, dst_at : dst_at + cols] = beta dst[...] + src[:, src_at : src_at + cols]."""
    _store(dst[:, dst_at : dst_at + cols], src[:, src_at : src_at + cols], beta)


def copy(src: Array, dst: Array, N: int, beta: int) -> None:
    """dst = beta dst + src."""
    _store(dst, src, beta)


def fill(x: Array, N: int, value: float) -> None:
    """x = value."""
    x[...] = value


def scale(x: Array, N: int, factor: float) -> None:
    """x = factor x."""
    x *= factor


def scale_by(x: Array, factor: Array, y: Array, N: int) -> None:
    """y = x factor, where factor is an array of one number."""
    y[...] = x * factor


def gather_rows(
    source: Array, index: Array, cursor: Array, out: Array, M: int, N: int, P: int, B: int, scale: float
) -> None:
    """out[r] = source[index[cursor + r]] scale, r < B."""
    first = int(cursor[0])
    out[...] = source[index[first : first + B]].astype(out.dtype) * scale


gather_rows_u8 = gather_rows  # the same formula on bytes


def cursor_advance(cursor: Array, by: int) -> None:
    """cursor += by."""
    cursor += by


def log_value(value: Array, at: Array, log: Array, M: int, N: int, column: int) -> None:
    """log[at modulo M, column] = value."""
    log[at[0] % M, column] = value[0]


def take_rate(rates: Array, at: Array, state: Array, M: int, N: int, column: int) -> None:
    """The learning rate of the optimizer with this state = rates[at modulo M, column]."""
    state[LR] = rates[at[0] % M, column]


# --- optimizers ---------------------------------------------------------------------------------------------------


def adam_advance(state: Array) -> None:
    """step += 1, grad_scale = 1, step_size = lr / (1 - beta1^step), inv_sqrt_bc2 = 1 / sqrt(1 - beta2^step)."""
    state[STEP] += 1
    state[GRAD_SCALE] = 1
    state[STEP_SIZE] = state[LR] / (1 - state[BETA1] ** state[STEP])
    state[INV_SQRT_BC2] = 1 / np.sqrt(1 - state[BETA2] ** state[STEP])


def _adam(p: Array, g: Array, m: Array, v: Array, state: Array) -> None:
    s: list[float] = state.tolist()  # Python floats do not promote float32 arrays; float64 scalars would
    g = g * s[GRAD_SCALE]
    m[...] = s[BETA1] * m + (1 - s[BETA1]) * g
    v[...] = s[BETA2] * v + (1 - s[BETA2]) * (g * g)
    p -= s[STEP_SIZE] * m / (np.sqrt(v) * s[INV_SQRT_BC2] + s[EPS])


def adam_step(p: Array, g: Array, m: Array, v: Array, state: Array, N: int) -> None:
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= step_size m / (sqrt(v) inv_sqrt_bc2 + eps); g is scaled."""
    _adam(p, g, m, v, state)


def sgd_advance(state: Array) -> None:
    """step += 1, grad_scale = 1."""
    state[STEP] += 1
    state[GRAD_SCALE] = 1


def sgd_step(p: Array, g: Array, velocity: Array, state: Array, N: int) -> None:
    """velocity = momentum velocity + grad_scale g; p -= lr velocity."""
    s: list[float] = state.tolist()
    velocity[...] = s[MOMENTUM] * velocity + s[GRAD_SCALE] * g
    p -= s[LR] * velocity


def sum_squares(x: Array, total: Array, N: int, beta: int) -> None:
    """total = beta total + sum x^2, summed in float64 whatever the dtype of x."""
    _store(total, np.sum(np.square(x, dtype=np.float64)), beta)


def clip_scale(total: Array, state: Array, max_norm: float) -> None:
    """grad_scale = min(1, max_norm / (sqrt(total) + 1e-6)); NaN stays NaN."""
    state[GRAD_SCALE] = np.minimum(1.0, max_norm / (np.sqrt(total[0]) + 1e-6))


# --- random numbers -----------------------------------------------------------------------------------------------


def philox(seed: int, counter: int, stream: int, blocks: Array) -> Array:
    """Philox4x32-10 (Salmon et al. 2011), counter (block, stream, counter low, high), key seed: (blocks, 4) words.

    They are uint64 below 2^32, so that a product of two 32-bit words fits.
    """
    low = 0xFFFFFFFF
    c0 = np.asarray(blocks, np.uint64) & low
    c1, c2, c3 = (np.full_like(c0, word & low) for word in (stream, counter, counter >> 32))
    k0, k1 = seed & low, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return np.stack((c0, c1, c2, c3), axis=-1)


def _rows(rng: Array, stream: int, rows: int, blocks_per_row: int) -> Array:
    """The words of `rows` rows that own `blocks_per_row` consecutive blocks each: (rows, blocks_per_row, 4)."""
    blocks = np.arange(rows * blocks_per_row, dtype=np.uint64)
    return philox(int(rng[0]), int(rng[1]), stream, blocks).reshape(rows, blocks_per_row, 4)


def _uniform01(words: Array, dtype: DTypeLike) -> Array:
    return (words >> 8).astype(dtype) * 2.0**-24  # [0, 1), exact in float32


def _normals(words: Array, dtype: DTypeLike) -> Array:
    """Box-Muller on pairs of words (u, w): sqrt(-2 ln u) (cos, sin)(2 pi w), u in (0, 1], w in [0, 1)."""
    r = np.sqrt(-2 * np.log(_uniform01(words[..., 0::2] + 256, dtype)))
    angle = 2 * np.pi * _uniform01(words[..., 1::2], dtype)
    return np.stack((r * np.cos(angle), r * np.sin(angle)), axis=-1).reshape(words.shape)


def _normal_rows(words: Array, Z: int, dtype: DTypeLike) -> Array:
    return _normals(words, dtype).reshape(len(words), -1)[:, :Z]


def _choose(u: Array, cumulative: Array) -> Array:
    """The first c with u < cumulative[c], or the last."""
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)


def random_uniform(rng: Array, out: Array, N: int, stream: int, low: float, high: float) -> None:
    """out = low + (high - low) u, u in [0, 1) with 24 bits; element i takes word i % 4 of block i // 4."""
    words = _rows(rng, stream, -(-N // 4), 1).reshape(-1)[:N]
    out[...] = low + (high - low) * _uniform01(words, out.dtype)


def random_normal(rng: Array, out: Array, N: int, stream: int, mean: float, std: float) -> None:
    """out = mean + std n; element i takes normal i % 4 of block i // 4."""
    out[...] = mean + std * _normals(_rows(rng, stream, -(-N // 4), 1), out.dtype).reshape(-1)[:N]


def random_mixture(
    rng: Array, cumulative: Array, means: Array, factors: Array, out: Array, B: int, Z: int, C: int, stream: int
) -> None:
    """out = means[c] + factors[c] n, c by word 0 of the row's first block, n from the blocks after it."""
    words = _rows(rng, stream, B, 1 + -(-Z // 4))
    c = _choose(_uniform01(words[:, 0, 0], out.dtype), cumulative)
    n = _normal_rows(words[:, 1:], Z, out.dtype)
    out[...] = means[c] + np.einsum("bij,bj->bi", factors[c], n)


def random_swiss_roll(
    rng: Array, out: Array, B: int, stream: int, turns_from: float, turns_to: float, radius: float, noise: float
) -> None:
    """t = from + (to - from) sqrt(u); out = radius t / to (cos, sin)(2 pi t) + noise n; u: word 0, n: words 2 and 3."""
    words = _rows(rng, stream, B, 1)[:, 0]
    t = turns_from + (turns_to - turns_from) * np.sqrt(_uniform01(words[:, :1], out.dtype))
    angle = 2 * np.pi * (t - np.floor(t))  # whole turns off first: they would cost digits in float32
    spiral = radius * t / turns_to * np.concatenate((np.cos(angle), np.sin(angle)), axis=1)
    out[...] = spiral + noise * _normals(words, out.dtype)[:, 2:]


def random_hypersphere(rng: Array, out: Array, B: int, Z: int, stream: int, radius: float) -> None:
    """out = radius n / |n|, or radius times the first axis if n is 0; a row owns ceil(Z / 4) blocks."""
    n = _normal_rows(_rows(rng, stream, B, -(-Z // 4)), Z, out.dtype)
    n[~n.any(axis=1), 0] = 1
    out[...] = radius * n / np.linalg.norm(n, axis=1, keepdims=True)


def random_categorical(rng: Array, cumulative: Array, out: Array, B: int, C: int, stream: int) -> None:
    """out = one-hot rows of the class chosen by word 0 of block r."""
    c = _choose(_uniform01(_rows(rng, stream, B, 1)[:, 0, 0], out.dtype), cumulative)
    out[...] = np.arange(C) == c[:, None]


def rng_advance(rng: Array) -> None:
    """counter += 1, modulo 2^64."""
    rng[1:] += np.uint64(1)


FUNCTIONS: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {name: _ROUNDED[name] if name in _ROUNDED else globals()[name] for name in OPS}
)


class ReferenceBackend(Backend):
    """These functions in float64: what the device backends are tested against."""

    name = "reference"
    real = np.dtype(np.float64)

    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        op = OPS[name]
        named = dict(zip(op.dims, dims, strict=True))
        arrays = [
            buffer.storage.reshape([named[d] if isinstance(d, str) else d for d in arg.shape])
            for arg, buffer in zip(op.args, buffers, strict=True)
        ]
        FUNCTIONS[name](*arrays, *dims, *scalars)

    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]:
        def run(times: int) -> None:
            for _ in range(times):
                for call in calls:
                    self._run(call.name, call.buffers, call.dims, call.scalars)

        return run
