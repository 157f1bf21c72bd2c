"""Joins tensors side by side, or one below the other, and takes rows of them."""

from __future__ import annotations

from ..core.memory import Buffer
from .tensor import Function, Gradients, Tensor, check_tensors


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
        launch = self.inputs[0].backend.launch
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
    for tensor in tensors:
        check_tensors(tensors=tensor)
    if len({t.shape[1 - axis] for t in tensors}) != 1:
        raise ValueError(f"concat: sizes along axis {1 - axis} differ: {[t.shape for t in tensors]}")
    return _Concat(tuple(tensors), axis).forward()


class _Rows(Function):
    """Rows of a tensor: a view of its memory. Its gradient is added to those rows of the tensor's."""

    def __init__(self, x: Tensor, begin: int, end: int) -> None:
        super().__init__(x)
        self.x, self.begin, self.end = x, begin, end

    def forward(self) -> Tensor:
        return self.result(self.x.buffer.rows(self.begin, self.end))

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        launch = self.x.backend.launch

        def rows_gradient(whole: Buffer, beta: int) -> None:
            rows = whole.rows(self.begin, self.end)
            for other in (whole.rows(0, self.begin), whole.rows(self.end, len(whole))) if not beta else ():
                if other.size:
                    launch("fill", (other,), (other.size,), (0.0,))
            launch("copy", (gradient, rows), (rows.size, beta))

        gradients.contribute(self.x, rows_gradient, before_activation=False)


def rows(x: Tensor, begin: int, end: int) -> Tensor:
    """Rows `begin` to `end` of x (B, N): the same memory.

    Raises:
        ValueError: rows that are not there. TypeError: no Tensor.
    """
    check_tensors(x=x)
    if len(x.shape) != 2 or not 0 <= begin <= end <= x.shape[0]:
        raise ValueError(f"rows: expected 0 <= begin <= end <= {x.shape[0]}, got {begin} and {end}")
    return _Rows(x, begin, end).forward()
