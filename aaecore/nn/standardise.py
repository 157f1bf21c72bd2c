"""A common unit: numbers without their mean, divided by one scale."""

from __future__ import annotations

import numpy as np

from ..core.backend import Backend
from ..core.memory import Buffer
from ..functions.tensor import Parameter, Tensor
from .module import Module


class Standardise(Module):
    """y = (x - mean) / std with a mean for every column and one standard deviation for all of them.

    One for all, since a column that hardly ever differs from 0 would be blown up by one of its own. Until `set` was
    called y is x.

    Args:
        backend: where it lives.
        features: columns of x.
    """

    def __init__(self, backend: Backend, features: int) -> None:
        self.backend, self.features = backend, features
        self.rows = backend.zeros((1,))  # of which mean and std were made; 0 before that
        self.variance = backend.zeros((1,))  # of a column, on average; 0 where it is not known
        # y = (x - mean) scale, and x = (y - back_mean) back_scale.
        self.mean, self.back_mean = backend.zeros((features,)), backend.zeros((features,))
        self.scale, self.back_scale = (backend.generated((1,), lambda: np.ones(1)) for _ in range(2))

    def set(self, mean: np.ndarray, std: float, rows: int, variance: float | None = None) -> None:
        """Takes mean (features,) and std of so many rows; a std of 0 stands for 1. The variance is that of std."""
        variance = std**2 if variance is None else variance
        std = std if std > np.finfo(np.float32).tiny else 1.0
        values = (mean, 1 / std, -mean / std, std, variance, rows)
        for buffer, value in zip(self._buffers().values(), values, strict=True):
            self.backend.upload(buffer, np.asarray(value, self.backend.real).reshape(buffer.shape))

    def __call__(self, x: Tensor) -> Tensor:
        return self._moved(x, self.mean, self.scale)

    def back(self, y: Tensor) -> Tensor:
        """x again."""
        return self._moved(y, self.back_mean, self.back_scale)

    def _moved(self, x: Tensor, mean: Buffer, scale: Buffer) -> Tensor:
        out = self.backend.empty(x.shape)
        self.backend.launch("standardise", (x.buffer, mean, scale, out), x.shape)
        return Tensor(out)

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
