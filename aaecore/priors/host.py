"""A prior that a function of the user draws, on the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import arguments
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.random import Generator
from ..errors import CaptureError
from .prior import Draw, DrawLike, Prior

HostSampler = Callable[[int, "np.random.Generator"], Any]  # in quotes: numpy.random is slow to import


@dataclass(frozen=True)
class CallablePrior(Prior):
    """A user's ``f(n, rng)``. It is called once per step, with a generator that is a function of (seed, step).

    Whatever else needs samples, the units of the codes say, asks for at most 100 at a time.
    """

    function: HostSampler
    host: ClassVar[bool] = True

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        def draw(generator: Generator, n: int) -> Buffer:
            if backend.recording:
                raise CaptureError(
                    "prior: a callable draws on the host; give the recorded step its samples as an input"
                )
            seed, counter = (int(v) for v in backend.to_host(generator.state))
            return backend.from_host(self.draw(n, latent_dim, seed, counter, generator.stream()))

        return draw

    def draw(self, n: int, latent_dim: int, seed: int, counter: int, stream: int = 0) -> np.ndarray:
        """Calls the function and gives a checked copy of what it returns.

        The words of its generator are Philox4x64 with key (seed, counter), from block 2^192 (1 + stream) on: other ones
        than those that order the rows.

        Raises:
            ValueError: another shape than (n, latent_dim), or values that are not finite. TypeError: no real numbers.
            What the function raises, with a note that names the prior.
        """
        rng = np.random.Generator(np.random.Philox(key=[arguments.seed(seed), counter], counter=[0, 0, 0, 1 + stream]))
        try:
            drawn = self.function(n, rng)
        except Exception as error:
            error.add_note(f"prior: the callable {self._name} raised this when it was asked for {n} codes")
            raise
        z = arguments.reals("prior", drawn).copy()  # whose array it is, and may be filled again
        if z.shape != (n, latent_dim):
            expected = f"expected the callable to return real numbers of shape {(n, latent_dim)}"
            raise ValueError(f"prior: {expected}, got {z.dtype} {z.shape}")
        with np.errstate(over="ignore"):
            bad = int(np.count_nonzero(~np.isfinite(z.astype(np.float32, copy=False))))
        if bad:
            raise ValueError(f"prior: the callable returned {bad} values that are NaN or infinite in float32")
        return z

    def __repr__(self) -> str:
        return f"CallablePrior({self._name})"

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def config(self) -> dict[str, Any]:
        return {"type": "callable", "name": self._name}


@dataclass(frozen=True)
class MissingPrior(Prior):
    """Stands for a prior of a user's own, which a file cannot hold: to encode it is not needed, and a draw says so."""

    name: str
    parts: ClassVar[float] = math.inf  # which it may have had

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        def draw(generator: Generator, n: int) -> Buffer:
            raise ValueError(self.reason())

        return draw

    def _bind_like(self, backend: Backend, latent_dim: int, classes: int) -> DrawLike:
        def draw(generator: Generator, like: Buffer) -> Buffer:
            raise ValueError(self.reason())

        return draw

    def _part_of(self, z: np.ndarray, classes: int) -> np.ndarray:
        raise ValueError(self.reason())

    def _walks(self, classes: int, n: int) -> np.ndarray:
        raise ValueError(self.reason())

    def reason(self) -> str:
        """What to do, in the words of an error."""
        return f"prior: {arguments.shown(self.name)} was a callable, which a file cannot hold; pass it as prior="

    def config(self) -> dict[str, Any]:
        return {"type": "callable", "name": self.name}
