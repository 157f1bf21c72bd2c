"""What is done to rows while training: noise, dropout, images moved by some pixels, steps in a direction.

All random numbers are Philox's, so a mask is never stored: the backward pass makes it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..arguments import count, counts, number
from ..core.memory import Buffer
from ..core.random import Generator
from .tensor import Function, Gradients, Tensor, check_tensors


class _Noisy(Function):
    def __init__(self, x: Tensor, generator: Generator, std: float) -> None:
        super().__init__(x)
        self.x, self.generator, self.std = x, generator, std

    def forward(self) -> Tensor:
        y, rng = self.x.backend.empty(self.x.shape), self.generator
        self.x.backend.launch("add_noise", (rng.state, self.x.buffer, y), (y.size, rng.stream()), (self.std,))
        return self.result(y)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        gradients.give(self.x, gradient, before_activation=False)


def noisy(x: Tensor, generator: Generator, std: float) -> Tensor:
    """x + std n with n standard normal, new at every step.

    Raises:
        ValueError, TypeError: std is no number >= 0, or x no tensor.
    """
    check_tensors(x=x)
    return _Noisy(x, generator, number("std", std, 0.0)).forward()


class _Dropout(Function):
    def __init__(self, x: Tensor, generator: Generator, rate: float) -> None:
        super().__init__(x)
        self.x, self.state, self.stream, self.rate = x, generator.state, generator.stream(), rate

    def forward(self) -> Tensor:
        y = self.x.backend.empty(self.x.shape)
        self._launch(self.x.buffer, y, 0)
        return self.result(y)

    def _launch(self, x: Buffer, y: Buffer, beta: int) -> None:
        self.x.backend.launch("dropout", (self.state, x, y), (y.size, self.stream, beta), (self.rate,))

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        def x_gradient(dx: Buffer, beta: int) -> None:
            self._launch(gradient, dx, beta)

        gradients.contribute(self.x, x_gradient, before_activation=False)


def dropout(x: Tensor, generator: Generator, rate: float) -> Tensor:
    """x / (1 - rate) with a probability of 1 - rate, else 0, element by element (Srivastava et al. 2014).

    The gradient is masked alike, as long as the generator was not advanced in between.

    Raises:
        ValueError, TypeError: rate is no number in [0, 1), or x no tensor.
    """
    check_tensors(x=x)
    return _Dropout(x, generator, number("rate", rate, 0.0, 1.0)).forward()


def translate(x: Tensor, generator: Generator, shape: Sequence[int], most: int) -> Tensor:
    """Images moved by whole pixels, each by up to `most` in both directions; 0 comes in. They get no gradient.

    Args:
        x: (B, N): rows are images of `shape` (height, width), N / (height width) numbers a pixel, pixel by pixel.
        generator: of the moves, new at every step.
        shape: height and width.
        most: pixels, >= 0.

    Raises:
        ValueError, TypeError: a shape that does not divide N, another argument that is none, or x no tensor.
    """
    check_tensors(x=x)
    size = counts("shape", tuple(shape))
    if len(x.shape) != 2 or len(size) != 2 or x.shape[1] % math.prod(size):
        raise ValueError(f"shape: expected height and width that divide the features of x {x.shape}, got {size}")
    y = x.backend.empty(x.shape)
    dims = (*x.shape, *size, count("most", most, 0), generator.stream())
    x.backend.launch("translate", (generator.state, x.buffer, y), dims)
    return Tensor(y)


def towards(x: Tensor, direction: Buffer, length: float) -> Tensor:
    """x + length d / |d|, row by row, for a direction d of the shape of x (B, N); nothing where d is 0.

    It gets no gradient.

    Raises:
        ValueError: another shape, or a length that is no finite number. TypeError: x is no tensor.
    """
    check_tensors(x=x)
    if len(x.shape) != 2 or direction.shape != x.shape:
        raise ValueError(f"direction: expected the shape of x {x.shape}, got {direction.shape}")
    y = x.backend.empty(x.shape)
    x.backend.launch("add_direction", (x.buffer, direction, y), x.shape, (number("length", length, 0.0),))
    return Tensor(y)
