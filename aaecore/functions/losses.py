"""Losses of the adversarial autoencoder. Each makes its value and its gradient in one pass."""

from __future__ import annotations

from ..core.memory import Buffer
from .tensor import Function, Gradients, Tensor, check_tensors


class Loss(Function):
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
    check_tensors(prediction=x, target=target)
    if len(x.shape) != 2 or x.shape != target.shape:
        raise ValueError(f"target: expected the shape of the prediction {x.shape}, got {target.shape}")


def half_squared_error(y: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    """weight / 2 * mean over the batch of the squared Euclidean distance between y and target, both (B, N)."""
    _same_shape(y, target)
    return Loss("half_squared_error", y, (target.buffer,), (*y.shape, y.activation), (y.slope, weight)).forward()


def bce_with_logits(logits: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    """Bernoulli cross-entropy of sigmoid(logits) against target in [0, 1], both (B, N)."""
    _same_shape(logits, target)
    return Loss("bce_logits", logits, (target.buffer,), logits.shape, (weight,)).forward()


def adversarial_bce(logits: Tensor, real: int, weight: float = 1.0) -> Tensor:
    """-mean log sigmoid(l) over the first `real` rows - mean log(1 - sigmoid(l)) over the others; logits (B, 1).

    With `real` the number of prior samples it is the discriminator's loss (Goodfellow et al. 2014, eq. 1); with `real`
    the whole batch it is the generator's non-saturating loss on codes.
    """
    check_tensors(logits=logits)
    if len(logits.shape) != 2 or logits.shape[1] != 1 or not 0 <= real <= logits.shape[0]:
        raise ValueError(f"logits: expected shape (batch, 1) with batch >= real = {real}, got {logits.shape}")
    return Loss("adversarial_bce", logits, (), (logits.shape[0], real), (weight,)).forward()


def _scaled(x: Buffer, factor: Tensor) -> Buffer:
    y = factor.backend.empty(x.shape)
    factor.backend.launch("scale_by", (x, factor.buffer, y), (x.size,))
    return y


class _Weighted(Function):
    """A loss with its value and gradient scaled. It takes the inputs of that loss, which is so never walked."""

    def __init__(self, loss: Function, seed: Buffer, value: Buffer, factor: Tensor) -> None:
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
    check_tensors(loss=loss, factor=factor)
    seed = loss.maker.seed if loss.maker is not None else None
    if loss.shape != (1,) or (loss.requires_grad and seed is None):
        raise ValueError(f"loss: expected a loss, got a tensor of shape {loss.shape} that is none")
    if factor.shape != (1,):
        raise ValueError(f"factor: expected shape (1,), got {factor.shape}")
    if loss.maker is None or seed is None:  # nothing that it depends on requires a gradient
        return Tensor(_scaled(loss.buffer, factor))
    return _Weighted(loss.maker, seed, loss.buffer, factor).forward()
