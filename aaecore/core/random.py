"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011) with the whole state {seed, counter} in one buffer.

Number i of launch `stream` in step `counter` is a function of (seed, counter, stream, i): the same on every backend,
for any number of threads, and in a recorded step, which advances the counter itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import arguments
from .backend import Backend
from .memory import Buffer


class Generator:
    """Hands out streams: every draw between two `advance` calls gets a stream of its own, numbered from `first`."""

    def __init__(self, backend: Backend, seed: int, first: int = 0) -> None:
        self.backend = backend
        self.state = backend.from_host(np.array([arguments.seed(seed), 0], np.uint64), "uint64")
        self.first = self._stream = first
        self.restarts = 0  # how often a step was begun

    @property
    def counter(self) -> int:
        """How often the generator was advanced."""
        return int(self.backend.to_host(self.state)[1])

    @counter.setter
    def counter(self, value: int) -> None:
        self.backend.upload(self.state, np.array([self.backend.to_host(self.state)[0], value], np.uint64))

    def stream(self) -> int:
        """The next free stream number."""
        self._stream += 1
        return self._stream - 1

    def restart(self) -> None:
        """Begins a step: its first draw gets the first stream, whatever was drawn before."""
        self._stream = self.first
        self.restarts += 1

    def advance(self) -> None:
        """Ends a step: the same draws give new numbers from here on."""
        self.backend.launch("rng_advance", (self.state,))
        self.restart()

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Buffer:
        """U[low, high)."""
        out = self.backend.empty(tuple(shape))
        self.backend.launch("random_uniform", (self.state, out), (out.size, self.stream()), (low, high))
        return out

    def normal(self, shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> Buffer:
        """N(mean, std^2)."""
        out = self.backend.empty(tuple(shape))
        self.backend.launch("random_normal", (self.state, out), (out.size, self.stream()), (mean, std))
        return out
