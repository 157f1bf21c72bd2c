"""A common unit: numbers without their mean, divided by one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import FLOAT32_MAX, FLOAT32_TINY
from ..core.backend import Backend
from ..core.memory import Buffer
from ..functions.tensor import Function, Gradients, Parameter, Tensor, check_tensors
from .module import Module


class _Moved(Function):
    """y = (x - mean) scale, where mean and scale are statistics."""

    def __init__(self, x: Tensor, mean: Buffer, scale: Buffer) -> None:
        super().__init__(x)
        self.x, self.mean, self.scale = x, mean, scale

    def forward(self) -> Tensor:
        y = self.x.backend.empty(self.x.shape)
        self.x.backend.launch("standardise", (self.x.buffer, self.mean, self.scale, y), self.x.shape)
        return self.result(y)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        dx = self.x.backend.empty(self.x.shape)
        self.x.backend.launch("scale_by", (gradient, self.scale, dx), (dx.size,))
        gradients.give(self.x, dx, before_activation=False)


class Standardise(Module):
    """y = (x - mean) / std with a mean for every column and one standard deviation for all of them.

    One for all, since a column that hardly ever differs from 0 would be blown up by one of its own. Until `set` was
    called y is x.

    Args:
        backend: where it lives.
        features: columns of x.
    """

    optional = True

    def __init__(self, backend: Backend, features: int) -> None:
        self.backend, self.features = backend, features
        self.rows = backend.zeros((1,))  # of which mean and std were made; 0 before that
        # y = (x - mean) scale, and x = (y - back_mean) back_scale.
        self.mean, self.back_mean = backend.zeros((features,)), backend.zeros((features,))
        self.scale, self.back_scale, self.variance = (backend.generated((1,), lambda: np.ones(1)) for _ in range(3))

    def set(self, name: str, mean: np.ndarray, std: float, rows: int) -> None:
        """Takes mean (features,) and std of so many rows; a std whose square is 0 in float32 stands for 1.

        Raises:
            ValueError: numbers that float32 cannot hold, in a message that begins with `name`.
        """
        std = std if std * std >= FLOAT32_TINY else 1.0
        values: dict[str, Any] = dict(
            zip(self._buffers(), (mean, 1 / std, -mean / std, std, std * std, rows), strict=True)
        )
        if any(np.abs(value).max() > FLOAT32_MAX for value in values.values()):
            raise ValueError(f"{name}: expected numbers whose squares float32 can hold, got a mean or std of {std:g}")
        for key, buffer in self._buffers().items():
            self.backend.upload(buffer, np.asarray(values[key], self.backend.real).reshape(buffer.shape))

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        """ValueError for statistics, by names that begin with `prefix`, that `set` cannot have made."""
        mean, scale, back_mean, back_scale, variance, rows = (
            np.asarray(values[f"{prefix}{name}"], np.float64) for name in self._buffers()
        )
        fits = rows >= 0 and min(scale, back_scale, variance) > 0
        # Near, since each of them was rounded; the mean in units, where a hundred-thousandth is nothing.
        fits = fits and max(abs(scale * back_scale - 1), abs(back_scale**2 / variance - 1)) < 1e-5
        if not (fits and np.allclose(mean * scale, -back_mean, rtol=1e-5, atol=1e-5)):
            came = f"scale {scale[0]:g}, back_scale {back_scale[0]:g}, variance {variance[0]:g}, rows {rows[0]:g}"
            expected = "what one mean and standard deviation of some rows give"
            raise ValueError(
                f"{prefix}scale: expected {expected}, got {came}, mean {mean[0]:g}, back_mean {back_mean[0]:g}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        check_tensors(x=x)
        return _Moved(x, self.mean, self.scale).forward()

    def back(self, y: Tensor) -> Tensor:
        """x again."""
        check_tensors(y=y)
        return _Moved(y, self.back_mean, self.back_scale).forward()

    def _buffers(self) -> dict[str, Buffer]:
        return {
            "mean": self.mean, "scale": self.scale, "back_mean": self.back_mean, "back_scale": self.back_scale,
            "variance": self.variance, "rows": self.rows,
        }  # fmt: skip

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {}

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        return {f"{prefix}{name}": Tensor(buffer) for name, buffer in self._buffers().items()}

    def __repr__(self) -> str:
        return f"Standardise({self.features})"
