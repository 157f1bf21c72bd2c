"""Differentiable functions. Each launches its forward pass when called and its backward pass when walked.

Tensors are (batch, features). Losses are scalars of shape (1,): a sum over features and a mean over the batch, times
`weight`; the loss and its gradient are made in one pass.
"""

from __future__ import annotations

import math

from .arguments import number
from .backend import Backend, Buffer
from .ops import ACTIVATIONS, PRECISIONS
from .tensor import Function, Gradients, Parameter, Tensor

LEAKY_SLOPE = 0.01  # PyTorch's default
LEAST_STD = 1e-18  # its inverse square is a number of float32


def activation_code(name: str) -> int:
    """The kernel's code of an activation.

    Raises:
        ValueError: not one of identity, relu, leaky_relu, sigmoid, tanh.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def precision_suffix(name: str, backend: Backend) -> str:
    """What the names of the linear ops of a precision end in.

    Raises:
        ValueError: not one of fp32, tf32, bf16, or not one that the backend has.
    """
    if not isinstance(name, str) or name not in backend.precisions:
        expected = ", ".join(backend.precisions)
        raise ValueError(f"precision: expected one of {expected} on device {backend.name!r}, got {name!r}")
    return PRECISIONS[name]


class _Linear(Function):
    def __init__(self, x: Tensor, weight: Parameter, bias: Parameter, act: int, slope: float, suffix: str) -> None:
        super().__init__(x, weight, bias)
        self.x, self.weight, self.bias = x, weight, bias
        self.act, self.slope, self.suffix = act, slope, suffix
        self.dims = (x.shape[0], weight.shape[1], weight.shape[0])

    def forward(self) -> Tensor:
        x, y = self.x, self.x.backend.empty((self.dims[0], self.dims[2]))
        buffers = (x.buffer, self.weight.buffer, self.bias.buffer, y)
        x.backend.launch("linear_forward" + self.suffix, buffers, (*self.dims, self.act), (self.slope,))
        return self.result(y, self.act, self.slope)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        x = self.x

        def input_gradient(dx: Buffer, beta: int) -> None:
            buffers = (gradient, self.weight.buffer, x.buffer, dx)
            dims = (*self.dims, x.activation, beta)
            x.backend.launch("linear_backward_input" + self.suffix, buffers, dims, (x.slope,))

        # The input gradient first: it needs the weights as they were in the forward pass.
        gradients.contribute(x, input_gradient, before_activation=True)
        gradients.linear_weight(self.weight, self.bias, x.buffer, gradient, self.suffix)


def linear(
    x: Tensor,
    weight: Parameter,
    bias: Parameter,
    activation: str = "identity",
    slope: float = LEAKY_SLOPE,
    precision: str = "fp32",
) -> Tensor:
    """act(x W^T + b): x (B, I), weight (O, I), bias (O,), result (B, O).

    With precision "bf16" the factors of all matrix products, here and in the gradients, are rounded to bfloat16, with
    "tf32" (on a GPU) to 11 significant bits; sums, and everything that is stored, keep the backend's type.

    Raises:
        ValueError: shapes that do not fit, or an unknown activation or precision.
    """
    if len(x.shape) != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x: expected shape (batch, {weight.shape[1]}), got {x.shape}")
    suffix = precision_suffix(precision, x.backend)
    return _Linear(x, weight, bias, activation_code(activation), slope, suffix).forward()


class _Concat(Function):
    """Side by side (columns) or one below the other (rows)."""

    def __init__(self, tensors: tuple[Tensor, ...], axis: int) -> None:
        super().__init__(*tensors)
        self.axis = axis
        self.starts = [sum(t.shape[axis] for t in tensors[:i]) for i in range(len(tensors) + 1)]

    def forward(self) -> Tensor:
        shape = list(self.inputs[0].shape)
        shape[self.axis] = self.starts[-1]
        whole = self.inputs[0].backend.empty((shape[0], shape[1]))
        for t, at in zip(self.inputs, self.starts, strict=False):
            self._copy(t.buffer, whole, at, 0, into=True)
        return self.result(whole)

    def _copy(self, part: Buffer, whole: Buffer, at: int, beta: int, *, into: bool) -> None:
        launch = part.backend.launch
        if self.axis == 0:
            rows = whole.rows(at, at + part.shape[0])
            launch("copy", (part, rows) if into else (rows, part), (part.size, beta))
        else:
            batch, cols, total = part.shape[0], part.shape[1], whole.shape[1]
            if into:
                launch("copy_columns", (part, whole), (batch, cols, cols, 0, total, at, beta))
            else:
                launch("copy_columns", (whole, part), (batch, cols, total, at, cols, 0, beta))

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        for t, at in zip(self.inputs, self.starts, strict=False):

            def part_gradient(part: Buffer, beta: int, at: int = at) -> None:
                self._copy(part, gradient, at, beta, into=False)

            gradients.contribute(t, part_gradient, before_activation=False)


def concat(tensors: tuple[Tensor, ...] | list[Tensor], axis: int = 1) -> Tensor:
    """Joins (batch, features) tensors along rows (axis 0) or features (axis 1).

    Raises:
        ValueError: no tensors, another axis, or sizes that differ along the other axis.
    """
    if axis not in (0, 1) or not tensors:
        raise ValueError(f"concat: expected at least one tensor and axis 0 or 1, got {len(tensors)} and axis {axis}")
    if len({t.shape[1 - axis] for t in tensors}) != 1:
        raise ValueError(f"concat: sizes along axis {1 - axis} differ: {[t.shape for t in tensors]}")
    return _Concat(tuple(tensors), axis).forward()


class _GaussianSample(Function):
    def __init__(self, params: Tensor, eps: Buffer) -> None:
        super().__init__(params)
        self.params, self.eps = params, eps

    def forward(self) -> Tensor:
        z = self.params.backend.empty(self.eps.shape)
        self.params.backend.launch("gaussian_sample", (self.params.buffer, self.eps, z), self.eps.shape)
        return self.result(z)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        def params_gradient(dparams: Buffer, beta: int) -> None:
            buffers = (gradient, self.params.buffer, self.eps, dparams)
            self.params.backend.launch("gaussian_sample_backward", buffers, (*self.eps.shape, beta))

        gradients.contribute(self.params, params_gradient, before_activation=False)


def gaussian_sample(params: Tensor, eps: Buffer) -> Tensor:
    """mean + exp(log_variance / 2) eps with params = [mean | log_variance] (B, 2 Z) and eps (B, Z) standard normal.

    The re-parameterised draw of Kingma & Welling (2014), section 2.4.
    """
    if len(params.shape) != 2 or params.shape != (eps.shape[0], 2 * eps.shape[1]):
        raise ValueError(
            f"params: expected shape {(eps.shape[0], 2 * eps.shape[1])} for eps {eps.shape}, got {params.shape}"
        )
    return _GaussianSample(params, eps).forward()


class _Loss(Function):
    """A loss whose gradient is made with its value."""

    def __init__(
        self, op: str, x: Tensor, extra: tuple[Buffer, ...], dims: tuple[int, ...], scalars: tuple[float, ...]
    ) -> None:
        super().__init__(x)
        self.op, self.x, self.extra, self.dims, self.scalars = op, x, extra, dims, scalars

    def forward(self) -> Tensor:
        backend = self.x.backend
        self.seed, value = backend.empty(self.x.shape), backend.empty((1,))
        backend.launch(self.op, (self.x.buffer, *self.extra, self.seed, value), self.dims, self.scalars)
        return self.result(value)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        gradients.give(self.x, gradient, before_activation=self.op == "half_squared_error")


def _same_shape(x: Tensor, target: Tensor) -> None:
    if len(x.shape) != 2 or x.shape != target.shape:
        raise ValueError(f"target: expected the shape of the prediction {x.shape}, got {target.shape}")


def half_squared_error(y: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    """weight / 2 * mean over the batch of the squared Euclidean distance between y and target, both (B, N)."""
    _same_shape(y, target)
    return _Loss("half_squared_error", y, (target.buffer,), (*y.shape, y.activation), (y.slope, weight)).forward()


def bce_with_logits(logits: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    """Bernoulli cross-entropy of sigmoid(logits) against target in [0, 1], both (B, N)."""
    _same_shape(logits, target)
    return _Loss("bce_logits", logits, (target.buffer,), logits.shape, (weight,)).forward()


def adversarial_bce(logits: Tensor, real: int, weight: float = 1.0) -> Tensor:
    """-mean log sigmoid(l) over the first `real` rows - mean log(1 - sigmoid(l)) over the others; logits (B, 1).

    With `real` the number of prior samples it is the discriminator's loss (Goodfellow et al. 2014, eq. 1); with `real`
    the whole batch it is the generator's non-saturating loss on codes.
    """
    if len(logits.shape) != 2 or logits.shape[1] != 1 or not 0 <= real <= logits.shape[0]:
        raise ValueError(f"logits: expected shape (batch, 1) with batch >= real = {real}, got {logits.shape}")
    return _Loss("adversarial_bce", logits, (), (logits.shape[0], real), (weight,)).forward()


def _gaussian_kl(params: Tensor, mean: float, precision: float, offset: float, weight: float) -> Tensor:
    if len(params.shape) != 2 or params.shape[1] % 2:
        raise ValueError(f"params: expected shape (batch, 2 latent_dim), got {params.shape}")
    dims = (params.shape[0], params.shape[1] // 2)
    return _Loss("gaussian_kl", params, (), dims, (mean, precision, offset, weight)).forward()


def gaussian_kl(params: Tensor, mean: float = 0.0, std: float = 1.0, weight: float = 1.0) -> Tensor:
    """KL divergence of N(m, v) from N(mean, std^2) with params = [m | ln v] (B, 2 Z); Kingma & Welling (2014), app. B.

    Raises:
        ValueError: params of another shape, or a std below 1e-18. TypeError: a std that is no number.
    """
    std = number("std", std, LEAST_STD)
    return _gaussian_kl(params, mean, std**-2, math.log(std), weight)


def gaussian_negative_entropy(params: Tensor, weight: float = 1.0) -> Tensor:
    """Minus the entropy of N(m, v), that is -1/2 (1 + ln 2 pi v) for each feature, with params = [m | ln v] (B, 2 Z).

    Raises:
        ValueError: params of another shape.
    """
    return _gaussian_kl(params, 0.0, 0.0, -math.log(2 * math.pi) / 2, weight)


def mixture_nll(z: Tensor, tables: tuple[Buffer, Buffer, Buffer], weight: float = 1.0) -> Tensor:
    """Minus the log-density at z (B, Z) of a mixture of Gaussians, whose `density_tables` are given.

    Raises:
        ValueError: codes of another size than the mixture's.
    """
    components, size = tables[1].shape
    if len(z.shape) != 2 or z.shape[1] != size:
        raise ValueError(f"z: expected shape (batch, {size}), got {z.shape}")
    return _Loss("mixture_nll", z, tables, (*z.shape, components), (weight,)).forward()


def _scaled(x: Buffer, factor: Buffer) -> Buffer:
    y = x.backend.empty(x.shape)
    x.backend.launch("scale_by", (x, factor, y), (x.size,))
    return y


class _Weighted(Function):
    """A loss with its value and gradient scaled. It takes the inputs of that loss, which is so never walked."""

    def __init__(self, loss: Function, seed: Buffer, value: Buffer, factor: Buffer) -> None:
        super().__init__(*loss.inputs)
        self.loss, self.parts, self.factor = loss, (seed, value), factor

    def forward(self) -> Tensor:
        self.seed, value = (_scaled(part, self.factor) for part in self.parts)
        return self.result(value)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        self.loss.backward(gradient, gradients)


def weighted(loss: Tensor, factor: Tensor) -> Tensor:
    """loss * factor, itself a loss; factor (1,) is a number of the device that may differ from step to step.

    The factor gets no gradient.

    Raises:
        ValueError: no loss, or a factor of another shape.
    """
    seed = loss.maker.seed if loss.maker is not None else None
    if loss.shape != (1,) or (loss.requires_grad and seed is None):
        raise ValueError(f"loss: expected a loss, got a tensor of shape {loss.shape} that is none")
    if factor.shape != (1,):
        raise ValueError(f"factor: expected shape (1,), got {factor.shape}")
    if loss.maker is None or seed is None:  # nothing that it depends on requires a gradient
        return Tensor(_scaled(loss.buffer, factor.buffer))
    return _Weighted(loss.maker, seed, loss.buffer, factor.buffer).forward()


__all__ = [
    "activation_code",
    "adversarial_bce",
    "bce_with_logits",
    "concat",
    "gaussian_kl",
    "gaussian_negative_entropy",
    "gaussian_sample",
    "half_squared_error",
    "linear",
    "mixture_nll",
    "weighted",
]
