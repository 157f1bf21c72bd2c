"""Units: numbers without their mean, divided by one scale, or each column by its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import FLOAT32_MAX, FLOAT32_TINY
from ..core.backend import Backend
from ..core.memory import Buffer
from ..functions.linear import activation_code
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


class Units(Module):
    """y = (x - mean) / std. Until `set` was called y is x.

    Args:
        backend: where it lives.
        features: columns of x.

    Attributes:
        rows: (1,) of how many rows mean and std were made; 0 before that.
        variance: (1,) of a column on average, in the unit of squared errors of y.
    """

    optional = True
    rows: Buffer
    variance: Buffer

    def __init__(self, backend: Backend, features: int) -> None:
        self.backend, self.features = backend, features
        self.rows = backend.zeros((1,))

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """y (B, features)."""

    @abstractmethod
    def back(self, y: Tensor) -> Tensor:
        """x again."""

    @abstractmethod
    def set(self, name: str, mean: np.ndarray, std: np.ndarray | float, rows: int) -> None:
        """Takes mean (features,) and std of so many rows; a std whose square is 0 in float32 stands for 1.

        Raises:
            ValueError: numbers that float32 cannot hold, in a message that begins with `name`.
        """

    @abstractmethod
    def _buffers(self) -> dict[str, Buffer]:
        """The statistics by name."""

    def _upload(self, name: str, values: Mapping[str, Any]) -> None:
        if any(np.abs(value).max() > FLOAT32_MAX for value in values.values()):
            std = np.max(values["back_scale"])
            raise ValueError(f"{name}: expected numbers whose squares float32 can hold, got a mean or std of {std:g}")
        for key, buffer in self._buffers().items():
            self.backend.upload(buffer, np.asarray(values[key], self.backend.real).reshape(buffer.shape))

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {}

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        return {f"{prefix}{name}": Tensor(buffer) for name, buffer in self._buffers().items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.features})"


class Standardise(Units):
    """y = (x - mean) / std with a mean for every column and one standard deviation for all of them.

    One for all, since a column that hardly ever differs from 0 would be blown up by one of its own.
    """

    def __init__(self, backend: Backend, features: int) -> None:
        super().__init__(backend, features)
        # y = (x - mean) scale, and x = (y - back_mean) back_scale.
        self.mean, self.back_mean = backend.zeros((features,)), backend.zeros((features,))
        self.scale, self.back_scale, self.variance = (backend.generated((1,), lambda: np.ones(1)) for _ in range(3))

    def set(self, name: str, mean: np.ndarray, std: np.ndarray | float, rows: int) -> None:
        std = std if std * std >= FLOAT32_TINY else 1.0
        values = (mean, 1 / std, -mean / std, std, std * std, rows)
        self._upload(name, dict(zip(self._buffers(), values, strict=True)))

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
        check_tensors(y=y)
        return _Moved(y, self.back_mean, self.back_scale).forward()

    def _buffers(self) -> dict[str, Buffer]:
        return {
            "mean": self.mean, "scale": self.scale, "back_mean": self.back_mean, "back_scale": self.back_scale,
            "variance": self.variance, "rows": self.rows,
        }  # fmt: skip


class _Scaled(Function):
    """y = scale (x - mean) + shift, each of a column; `moments` are [mean | 1]. The gradient has no mean and shift."""

    def __init__(self, x: Tensor, scale: Buffer, moments: Buffer, shift: Buffer, none: tuple[Buffer, Buffer]) -> None:
        super().__init__(x)
        self.x, self.scale, self.moments, self.shift, self.none = x, scale, moments, shift, none

    def forward(self) -> Tensor:
        return self.result(self._of(self.x.buffer, self.moments, self.shift))

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        gradients.give(self.x, self._of(gradient, *self.none), before_activation=False)

    def _of(self, x: Buffer, moments: Buffer, shift: Buffer) -> Buffer:
        backend = self.x.backend
        y, dims = backend.empty(x.shape), (*x.shape, activation_code("identity"))
        backend.launch("batch_norm_apply", (x, self.scale, shift, moments, y), dims, (0.0, 0.0))
        return y


class StandardiseEach(Units):
    """y = (x - mean) / std with a mean and a standard deviation for every column.

    Squared errors of y are in no unit of the data, so `variance` is 1. A column that hardly ever differs is blown up.
    """

    def __init__(self, backend: Backend, features: int) -> None:
        super().__init__(backend, features)

        def ones() -> np.ndarray:
            return np.ones(features)

        def moments() -> np.ndarray:
            return np.stack((np.zeros(features), np.ones(features)))

        self.moments = backend.generated((2, features), moments)  # [mean | 1]
        self.scale, self.back_scale = backend.generated((features,), ones), backend.generated((features,), ones)
        self.back_mean = backend.zeros((features,))
        self.variance = backend.generated((1,), lambda: np.ones(1))
        self._none = backend.generated((2, features), moments), backend.zeros((features,))  # no mean, and no shift

    def set(self, name: str, mean: np.ndarray, std: np.ndarray | float, rows: int) -> None:
        std = np.broadcast_to(std, mean.shape)
        std = np.where(std * std >= FLOAT32_TINY, std, 1.0)
        values = (np.stack((mean, np.ones_like(mean))), 1 / std, mean, std, 1.0, rows)
        self._upload(name, dict(zip(self._buffers(), values, strict=True)))

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        """ValueError for statistics, by names that begin with `prefix`, that `set` cannot have made."""
        moments, scale, back_mean, back_scale, variance, rows = (
            np.asarray(values[f"{prefix}{name}"], np.float64) for name in self._buffers()
        )
        fits = rows >= 0 and min(scale.min(), back_scale.min()) > 0 and variance == 1 and (moments[1] == 1).all()
        if not (fits and np.array_equal(moments[0], back_mean) and np.abs(scale * back_scale - 1).max() < 1e-5):
            expected = "what means and standard deviations of some rows give"
            raise ValueError(f"{prefix}scale: expected {expected}, got others; variance {variance[0]:g}")

    def __call__(self, x: Tensor) -> Tensor:
        check_tensors(x=x)
        return _Scaled(x, self.scale, self.moments, self._none[1], self._none).forward()

    def back(self, y: Tensor) -> Tensor:
        check_tensors(y=y)
        return _Scaled(y, self.back_scale, self._none[0], self.back_mean, self._none).forward()

    def _buffers(self) -> dict[str, Buffer]:
        return {
            "moments": self.moments, "scale": self.scale, "back_mean": self.back_mean, "back_scale": self.back_scale,
            "variance": self.variance, "rows": self.rows,
        }  # fmt: skip
