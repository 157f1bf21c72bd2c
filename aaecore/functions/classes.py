"""Classes as distributions over the numbers of a row, and heads of clusters (section 7 of Makhzani et al. 2015)."""

from __future__ import annotations

from ..arguments import number
from ..core.memory import Buffer
from .losses import Loss
from .tensor import Function, Gradients, Tensor, check_tensors


class _Softmax(Function):
    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.logits, self.p = logits, logits.backend.empty(logits.shape)

    def forward(self) -> Tensor:
        self.logits.backend.launch("softmax", (self.logits.buffer, self.p), self.logits.shape)
        return self.result(self.p)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        def logits_gradient(dlogits: Buffer, beta: int) -> None:
            dims = (*self.logits.shape, beta)
            self.logits.backend.launch("softmax_backward", (gradient, self.p, dlogits), dims)

        gradients.contribute(self.logits, logits_gradient, before_activation=False)


def _check_matrix(name: str, x: Tensor) -> None:
    check_tensors(**{name: x})
    if len(x.shape) != 2:
        raise ValueError(f"{name}: expected shape (batch, classes), got {x.shape}")


def softmax(logits: Tensor) -> Tensor:
    """exp(logits) by its sum over the row, for logits (B, C): a distribution over C classes in every row.

    Raises:
        ValueError: another shape. TypeError: no Tensor.
    """
    _check_matrix("logits", logits)
    return _Softmax(logits).forward()


def softmax_cross_entropy(logits: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    """weight times -sum of target ln softmax(logits), a mean over the batch; both (B, C).

    The target is a distribution in every row, such as a one-hot label, and gets no gradient; a row of zeros adds
    nothing.

    Raises:
        ValueError: shapes that differ. TypeError: no Tensor.
    """
    _check_matrix("logits", logits)
    check_tensors(target=target)
    if target.shape != logits.shape:
        raise ValueError(f"target: expected the shape of the logits {logits.shape}, got {target.shape}")
    return Loss("softmax_cross_entropy", logits, (target.buffer,), logits.shape, (weight,)).forward()


class _AddHeads(Function):
    """z + y heads."""

    def __init__(self, z: Tensor, y: Tensor, heads: Tensor) -> None:
        super().__init__(z, y, heads)
        self.z, self.y, self.heads = z, y, heads
        self.dims = (*y.shape, z.shape[1])

    def forward(self) -> Tensor:
        out = self.z.backend.empty(self.z.shape)
        self.z.backend.launch("add_product", (self.y.buffer, self.heads.buffer, self.z.buffer, out), self.dims)
        return self.result(out)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        launch = self.z.backend.launch

        def y_gradient(dy: Buffer, beta: int) -> None:
            launch("add_product_backward", (gradient, self.heads.buffer, dy), (*self.dims, beta))

        def heads_gradient(dheads: Buffer, beta: int) -> None:
            launch("add_product_backward_heads", (self.y.buffer, gradient, dheads), (*self.dims, beta))

        gradients.contribute(self.y, y_gradient, before_activation=False)
        gradients.contribute(self.heads, heads_gradient, before_activation=False)
        gradients.give(self.z, gradient, before_activation=False)  # last: it may be written from then on


def add_heads(z: Tensor, y: Tensor, heads: Tensor) -> Tensor:
    """z + y heads: z (B, Z), y (B, C), a row of `heads` (C, Z) for each class; the result (B, Z).

    Raises:
        ValueError: shapes that do not fit. TypeError: no Tensor.
    """
    check_tensors(z=z, y=y, heads=heads)
    if len(z.shape) != 2 or len(y.shape) != 2 or (y.shape[0], heads.shape) != (z.shape[0], (y.shape[1], z.shape[1])):
        raise ValueError(f"heads: expected z (B, Z), y (B, C), heads (C, Z), got {z.shape}, {y.shape}, {heads.shape}")
    return _AddHeads(z, y, heads).forward()


def head_hinge(heads: Tensor, least: float, weight: float = 1.0) -> Tensor:
    """weight times the sum over all pairs of heads (C, Z) of how much nearer than `least` they are, or 0.

    Raises:
        ValueError: another shape, or a distance below 0. TypeError: no Tensor.
    """
    _check_matrix("heads", heads)
    number("least", least, 0.0)
    return Loss("head_hinge", heads, (), heads.shape, (least, weight)).forward()
