"""What a prior p(z) is: something that draws codes on a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from ..arguments import count
from ..backends.devices import get_backend
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.random import Generator

PRIORS: dict[str, type[Prior]] = {}  # by class name: those that a file can describe
_MANY = 10_000  # samples for moments: one in a hundred of a standard deviation
_PIECE = 100  # codes that a step takes by default, so that a function of a user's has as many
Draw = Callable[[Generator, int], Buffer]  # (generator, n) -> (n, latent_dim) on the generator's backend


class Prior(ABC):
    """A distribution over codes. `fixed_dim` is its dimension where it has only one.

    One of your own gives `_bind(backend, latent_dim)`: a function (generator, n) that launches what draws n codes, such
    as ``generator.normal((n, latent_dim))``. A file cannot hold it: a resume needs it again, as prior=.
    """

    fixed_dim: ClassVar[int | None] = None
    host: ClassVar[bool] = False  # drawn by Python on the host, so not inside a recorded step

    def bind(self, backend: Backend, latent_dim: int) -> Draw:
        """A sampler on `backend` of codes with `latent_dim` features.

        Raises:
            ValueError: the prior has another dimension.
        """
        self.check_dim(latent_dim)
        return self._bind(backend, latent_dim)

    def check_dim(self, latent_dim: int) -> None:
        """Raises ValueError if the prior has another dimension."""
        if self.fixed_dim not in (None, latent_dim):
            raise ValueError(
                f"prior: {type(self).__name__} has dimension {self.fixed_dim}, but latent_dim is {latent_dim}"
            )

    @abstractmethod
    def _bind(self, backend: Backend, latent_dim: int) -> Draw: ...

    def sample(self, n: int, latent_dim: int | None = None, seed: int = 0) -> np.ndarray:
        """(n, latent_dim) float64 samples on the host, a function of the seed; for looking at a prior."""
        backend = get_backend("reference")
        dim = (self.fixed_dim or 2) if latent_dim is None else count("latent_dim", latent_dim)
        draw = self.bind(backend, dim)
        return backend.to_host(draw(Generator(backend, seed), count("n", n)))

    def sizes(self, n: int) -> list[int]:
        """How many codes to draw at a time for n in all: of the host few, since a user's function may have no more."""
        piece = _PIECE if self.host else n
        return [min(piece, n - start) for start in range(0, n, piece)]

    def moments(self, latent_dim: int) -> tuple[np.ndarray, float]:
        """Its mean (latent_dim,) and one standard deviation, of a feature on average; of many samples."""
        z = np.concatenate([self.sample(n, latent_dim, seed) for seed, n in enumerate(self.sizes(_MANY))])
        return z.mean(axis=0), float(np.sqrt(z.var(axis=0).mean()))

    def config(self) -> dict[str, Any]:
        """What `from_config` makes an equal prior of: {"type": ..., fields}; of a user's own only the name."""
        name = type(self).__name__
        if PRIORS.get(name) is type(self):
            return {"type": name, **asdict(self)}  # type: ignore[call-overload]
        return {"type": "callable", "name": name}
