"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167)."""

from __future__ import annotations

from ..core.memory import Buffer
from ..core.ops import IDENTITY
from .linear import LEAKY_SLOPE, activation_code
from .tensor import Function, Gradients, Parameter, Tensor, check_tensors

EPS = 1e-5  # PyTorch's default


class _BatchNorm(Function):
    """Of the batch's own moments, which the forward pass leaves in `moments`."""

    def __init__(self, x: Tensor, gamma: Parameter, shift: Parameter, moments: Buffer, act: int) -> None:
        super().__init__(x, gamma, shift)
        self.x, self.gamma, self.shift, self.moments, self.act = x, gamma, shift, moments, act

    def forward(self) -> Tensor:
        y = self.x.backend.empty(self.x.shape)
        buffers = (self.x.buffer, self.gamma.buffer, self.shift.buffer, y, self.moments)
        self.x.backend.launch("batch_norm_forward", buffers, (*y.shape, self.act), (LEAKY_SLOPE, EPS))
        return self.result(y, self.act, LEAKY_SLOPE)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        backend = self.x.backend
        made = [backend.empty(t.shape) for t in self.inputs]
        buffers = (gradient, self.x.buffer, self.gamma.buffer, self.moments, *made)
        backend.launch("batch_norm_backward", buffers, self.x.shape, (EPS,))
        for tensor, part in zip(self.inputs, made, strict=True):
            gradients.give(tensor, part, before_activation=False)


class _BatchNormWith(Function):
    """Of given moments: an affine map of every column."""

    def __init__(self, x: Tensor, gamma: Buffer, shift: Buffer, moments: Buffer, act: int) -> None:
        super().__init__(x)
        self.x, self.gamma, self.shift, self.moments, self.act = x, gamma, shift, moments, act

    def _apply(self, x: Buffer, shift: Buffer, moments: Buffer, y: Buffer, act: int) -> None:
        buffers = (x, self.gamma, shift, moments, y)
        self.x.backend.launch("batch_norm_apply", buffers, (*y.shape, act), (LEAKY_SLOPE, EPS))

    def forward(self) -> Tensor:
        y = self.x.backend.empty(self.x.shape)
        self._apply(self.x.buffer, self.shift, self.moments, y, self.act)
        return self.result(y, self.act, LEAKY_SLOPE)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        backend, dx = self.x.backend, self.x.backend.empty(self.x.shape)
        centred = backend.empty(self.moments.shape)  # a mean and a shift of 0 leave gamma / sqrt(variance + eps)
        backend.launch("copy", (self.moments, centred), (centred.size, 0))
        mean = centred.rows(0, 1)
        backend.launch("fill", (mean,), (mean.size,), (0.0,))
        self._apply(gradient, mean, centred, dx, IDENTITY)
        gradients.give(self.x, dx, before_activation=False)


def _check(x: Tensor, gamma: Parameter, shift: Parameter) -> None:
    check_tensors(x=x, gamma=gamma, shift=shift)
    if len(x.shape) != 2 or gamma.shape != (x.shape[1],) or shift.shape != gamma.shape:
        raise ValueError(f"x: expected shape (batch, {gamma.shape[0]}), got {x.shape}")


def batch_norm(
    x: Tensor, gamma: Parameter, shift: Parameter, activation: str = "identity"
) -> tuple[Tensor, Buffer]:  # fmt: skip
    """act(gamma (x - mean) / sqrt(variance + 1e-5) + shift) with the moments of the batch x (B, F).

    Returns:
        The result (B, F), and those moments (2, F): mean and variance, of B rows divided by B.

    Raises:
        ValueError: shapes that do not fit, or an unknown activation. TypeError: no Tensor.
    """
    _check(x, gamma, shift)
    moments = x.backend.empty((2, x.shape[1]))
    return _BatchNorm(x, gamma, shift, moments, activation_code(activation)).forward(), moments


def batch_norm_with(
    x: Tensor, gamma: Parameter, shift: Parameter, moments: Buffer, activation: str = "identity"
) -> Tensor:
    """The same with given moments (2, F), for evaluation: gamma and shift get no gradient.

    Raises:
        ValueError: shapes that do not fit, or an unknown activation. TypeError: no Tensor.
    """
    _check(x, gamma, shift)
    return _BatchNormWith(x, gamma.buffer, shift.buffer, moments, activation_code(activation)).forward()
