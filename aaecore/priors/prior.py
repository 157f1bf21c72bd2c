"""What a prior p(z) is: something that draws codes on a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from ..arguments import count, reals, shown
from ..backends.devices import get_backend
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.random import Generator

PRIORS: dict[str, type[Prior]] = {}  # by class name: those that a file can describe
_MANY = 10_000  # samples for moments: one in a hundred of a standard deviation
_PIECE = 100  # codes that a step takes by default, so that a function of a user's has as many
Draw = Callable[[Generator, int], Buffer]  # (generator, n) -> (n, latent_dim) on the generator's backend
DrawLike = Callable[[Generator, Buffer], Buffer]  # (generator, one-hot labels (n, K)) -> (n, latent_dim)


class Prior(ABC):
    """A distribution over codes. `fixed_dim` is its dimension where it has only one.

    Some have a part for each class of labelled rows, section 2.3 of the paper: of at most `parts` classes.

    One of your own gives `_bind(backend, latent_dim)`: a function (generator, n) that launches what draws n codes, such
    as ``generator.normal((n, latent_dim))``. A file cannot hold it: a resume needs it again, as prior=. With `parts` it
    gives `_bind_like` as well, and `_part_of` to a model that asks for the class of a code.
    """

    fixed_dim: ClassVar[int | None] = None
    parts: ClassVar[float] = 0
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

    def bind_like(self, backend: Backend, latent_dim: int, classes: int) -> DrawLike:
        """A sampler on `backend` of codes that lie where the class of their row has its part.

        It takes one-hot labels (n, K), K >= classes. A row whose one lies beyond the classes, or nowhere, is what
        `bind` would draw for it, bit for bit.

        Raises:
            ValueError: the prior has another dimension, or no part for each of the classes.
        """
        self.check_dim(latent_dim)
        self.check_classes(classes)
        return self._bind_like(backend, latent_dim, classes)

    def check_classes(self, classes: int) -> None:
        """Raises ValueError if the prior has no part for each of the classes."""
        if self.parts < classes:
            known = "a GaussianMixture of as many components, or a SwissRoll"
            has = f"{self!r}, which has {self.parts or 'none'}"
            raise ValueError(f"prior: expected one with a part for each of {classes} classes ({known}), got {has}")

    def _bind_like(self, backend: Backend, latent_dim: int, classes: int) -> DrawLike:
        raise NotImplementedError(f"{type(self).__name__}._bind_like: how codes are drawn by labels")

    def part_of(self, z: Any, classes: int) -> np.ndarray:
        """(n,) int64: the class in whose part codes z (n, latent_dim) lie, or to whose part they are nearest.

        Raises:
            ValueError: the prior has another dimension, or no part for each of the classes. TypeError: no real numbers.
        """
        codes = reals("z", z).astype(np.float64)
        if codes.ndim != 2:
            raise ValueError(f"z: expected codes (n, latent_dim), got shape {codes.shape}")
        self.check_dim(codes.shape[1])
        self.check_classes(classes)
        return self._part_of(codes, classes)

    def _part_of(self, z: np.ndarray, classes: int) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}._part_of: which class has a code")

    def walks(self, classes: int, n: int) -> np.ndarray:
        """(classes, n, latent_dim) float64: codes in order through the part that each class has, for looking at.

        Raises:
            ValueError: the prior has no part for each of the classes.
        """
        self.check_classes(classes)
        return self._walks(classes, count("n", n))

    def _walks(self, classes: int, n: int) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}._walks: the way through the part of each class")

    def sample(self, n: int, latent_dim: int | None = None, seed: int = 0) -> np.ndarray:
        """(n, latent_dim) float64 samples on the host, a function of the seed; for looking at a prior."""
        backend = get_backend("reference")
        dim = (self.fixed_dim or 2) if latent_dim is None else count("latent_dim", latent_dim)
        draw = self.bind(backend, dim)
        return backend.to_host(draw(Generator(backend, seed), count("n", n)))

    def sample_like(
        self, y: Any, latent_dim: int | None = None, classes: int | None = None, seed: int = 0
    ) -> np.ndarray:  # fmt: skip
        """(n, latent_dim) float64 samples on the host for labels y (n,), of which -1 is none; for looking at a prior.

        Args:
            y: integers from -1 to classes - 1.
            latent_dim: features of the codes; those of the prior, or 2.
            classes: how many parts the prior has; as many as y by default.
            seed: equal seeds give equal samples; those of rows without a label are the ones that `sample` gives.

        Raises:
            ValueError: other labels, or no part for each class. TypeError: labels that are no integers.
        """
        labels = reals("y", y)
        if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
            wrong = ValueError if labels.dtype.kind in "iu" else TypeError
            raise wrong(f"y: expected integers (n,), -1 for no label, got {labels.dtype} {labels.shape}")
        known = max(int(labels.max()) + 1, 1) if classes is None else count("classes", classes)
        if not -1 <= labels.min() <= labels.max() < known:
            raise ValueError(f"y: expected labels from -1 to {known - 1}, got {shown(labels.tolist())}")
        backend = get_backend("reference")
        dim = (self.fixed_dim or 2) if latent_dim is None else count("latent_dim", latent_dim)
        draw = self.bind_like(backend, dim, known)
        like = backend.from_host(labels[:, None] == np.arange(known))
        return backend.to_host(draw(Generator(backend, seed), like))

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


class Draws(dict[str, Draw]):
    """Samplers of priors by name, `draws["z"](generator, n)`, on a backend.

    Args:
        priors: each with its dimension.
        classes: of the labels that `like` draws by; None without labels.
    """

    def __init__(self, backend: Backend, priors: Mapping[str, tuple[Prior, int]], classes: int | None) -> None:
        super().__init__({name: prior.bind(backend, dim) for name, (prior, dim) in priors.items()})
        self._backend, self._priors, self._classes = backend, priors, classes
        self._like: dict[str, DrawLike] = {}

    def like(self, name: str) -> DrawLike:
        """The sampler by labels of a prior, made when it is first asked for: not every prior has parts.

        Raises:
            ValueError: there are no labels, or the prior has no part for each class.
        """
        if self._classes is None:
            raise ValueError(f"draw: expected like=None for {name!r} of a model whose data have no labels")
        if name not in self._like:
            prior, dim = self._priors[name]
            with self._backend.unrecorded():  # the first step that asks is a recorded one
                self._like[name] = prior.bind_like(self._backend, dim, self._classes)
        return self._like[name]
