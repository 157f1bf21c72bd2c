"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167): of the batch while training, of what was kept otherwise."""

from __future__ import annotations

import numpy as np

from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.random import Generator
from ..functions import batch_norm, batch_norm_with
from ..functions.tensor import Parameter, Tensor

MOMENTUM = 0.1  # of the newest batch in the kept moments; PyTorch's default
MOST = 16  # passes of a step whose moments are kept: outside of steps nobody keeps any


class BatchNorm:
    """act(gamma (x - mean) / sqrt(variance + 1e-5) + shift), column by column.

    Args:
        backend: where it lives.
        features: columns of x.

    Attributes:
        gamma, shift: (features,) parameters, which begin at 1 and 0.
        moments: (2, features) mean and variance for evaluation; 0 and 1 until `keep` or `set_moments` was called.
    """

    def __init__(self, backend: Backend, features: int) -> None:
        self.gamma = Parameter(backend.generated((features,), lambda: np.ones(features)))
        self.shift = Parameter(backend.zeros((features,)))
        self.moments = backend.generated((2, features), lambda: np.repeat([[0.0], [1.0]], features, axis=1))
        self._rate = backend.generated((1,), lambda: np.array([MOMENTUM]))
        self._seen: list[Buffer] = []  # the moments of the batches of a step
        self._step = -1  # which one

    def __call__(self, x: Tensor, activation: str = "identity", rng: Generator | None = None) -> Tensor:
        """With `rng`, whose numbers are those of a training step, the batch's own moments; else the kept ones."""
        if rng is None:
            return batch_norm_with(x, self.gamma, self.shift, self.moments, activation)
        y, moments = batch_norm(x, self.gamma, self.shift, activation)
        if self._step != rng.restarts:  # what an unfinished step has left is none of this one's
            self._seen, self._step = [], rng.restarts
        if x.shape[0] > 1:  # of one row they say nothing
            self._seen = [*self._seen[1 - MOST :], moments]
        return y

    def set_moments(self, rows: list[Tensor]) -> None:
        """Sets the kept moments to those of rows (B, features), summed in float64 on the host."""
        arrays = [x.numpy().astype(np.float64) for x in rows]
        count = sum(map(len, arrays))
        mean = sum(x.sum(axis=0) for x in arrays) / count
        variance = sum(((x - mean) ** 2).sum(axis=0) for x in arrays) / count
        backend = self.gamma.backend
        backend.upload(self.moments, np.stack((mean, variance)).astype(backend.real))

    def keep(self) -> None:
        """Moves the kept moments towards those of the batches of this step: launches that a recorded step repeats."""
        for moments in self._seen:
            backend = self.gamma.backend
            backend.launch("average", (moments, self._rate, self.moments), (self.moments.size,))
        self._seen = []
