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
    """A loss with another gradient and value. It takes the inputs of that loss, which is so never walked."""

    def __init__(self, loss: Function, seed: Buffer, value: Buffer) -> None:
        super().__init__(*loss.inputs)
        self.loss, self.seed, self.value = loss, seed, value

    def forward(self) -> Tensor:
        return self.result(self.value)

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
    return _Weighted(loss.maker, _scaled(seed, factor), _scaled(loss.buffer, factor)).forward()


def above_entropy(loss: Tensor, batch: int) -> Tensor:
    """How far a `bce_with_logits` lies above its floor, at least: a number of the device, (1,).

    The floor is the entropy of the targets, which grey values have. By Pinsker's inequality what lies above it is at
    least 2 |sigmoid(logits) - target|^2, a mean over the batch, which the loss's gradient tells.
    """
    check_tensors(loss=loss)
    if loss.maker is None or (seed := loss.maker.seed) is None:
        raise ValueError(f"loss: expected a loss that depends on something, got a tensor of shape {loss.shape}")
    backend = loss.backend
    total, value = backend.empty((1,), "float64"), backend.empty((1,))
    backend.launch("sum_squares", (seed.flat(), total), (seed.size, 0))
    backend.launch("to_real", (total, value), (), (2.0 * batch,))
    return Tensor(value)


def combined(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """a + factor * b of two numbers of the device, (1,), without gradients."""
    check_tensors(a=a, b=b)
    out = a.backend.empty((1,))
    a.backend.launch("copy", (b.buffer, out), (1, 0))
    a.backend.launch("scale", (out,), (1,), (factor,))
    a.backend.launch("copy", (a.buffer, out), (1, 1))
    return Tensor(out)


def pull(loss: Tensor, *factors: Tensor) -> Tensor:
    """A loss whose gradient is that of loss * factors, and which is no part of the value of its phase.

    Each factor (1,) is a number of the device; it gets no gradient. The value is that of `loss`, without the factors.
    """
    check_tensors(loss=loss, **{f"factors[{i}]": factor for i, factor in enumerate(factors)})
    if loss.maker is None or loss.maker.seed is None:
        raise ValueError(f"loss: expected a loss that depends on something, got a tensor of shape {loss.shape}")
    seed = loss.maker.seed
    for factor in factors:
        seed = _scaled(seed, factor)
    return _uncounted(_Weighted(loss.maker, seed, loss.buffer).forward())


def difference_penalty(a: Tensor, b: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Losses with the gradients of weight / 2 * mean over the batch of (a - b)^2, which no value counts; both (B, N).

    With a = D(x) and b = D(x + step n), n normal, and weight / step^2 for `weight`, it is half the mean squared norm of
    D's gradient by finite differences: a penalty that keeps D smooth (Mescheder et al. 2018, arXiv 1801.04406), without
    derivatives of derivatives.
    """
    first, second = half_squared_error(a, b.detach(), weight), half_squared_error(b, a.detach(), weight)
    return _uncounted(first), _uncounted(second)


def _uncounted(loss: Tensor) -> Tensor:
    loss.counted = False
    return loss
