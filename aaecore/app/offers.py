"""What a model may offer, by which the app decides what to do with it: it names none."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..data.table import Column
from ..priors import Prior


class OfData(Protocol):
    """A model of some data."""

    def columns(self) -> dict[str, Column]:
        """The columns of its data."""
        ...


@runtime_checkable
class Generative(OfData, Protocol):
    """A model that has samples of what it learned."""

    def sample(self, n: int) -> np.ndarray:
        """(n, features) new rows."""
        ...


@runtime_checkable
class Coding(Protocol):
    """A model that has codes of rows."""

    def encode(self, x: Any) -> Any:
        """(N, units) of rows (N, features)."""
        ...


@runtime_checkable
class Reconstructing(OfData, Protocol):
    """A model that makes rows again of what it keeps of them."""

    def reconstruct(self, x: Any) -> Any:
        """(N, features) of rows (N, features); perhaps with their labels besides."""
        ...


@runtime_checkable
class Walked(OfData, Protocol):
    """A model with a part of its prior for each class."""

    def walks(self, n: int) -> np.ndarray:
        """(classes, n, latent_dim) codes: in order through the part of each class."""
        ...

    def decode(self, z: np.ndarray) -> np.ndarray:
        """(N, features) of codes (N, latent_dim)."""
        ...

    def own_labels(self, classes: np.ndarray) -> np.ndarray:
        """What users call the classes."""
        ...


@runtime_checkable
class Headed(Protocol):
    """A model whose codes lie around a head for each class."""

    @property
    def heads(self) -> np.ndarray:
        """(classes, latent_dim)."""
        ...


@runtime_checkable
class Swept(OfData, Protocol):
    """A model whose decoder takes a style and a class."""

    latent_dim: Any

    @property
    def categories(self) -> int:
        """How many classes there are."""
        ...

    def priors(self) -> dict[str, tuple[Prior, int]]:
        """Of the style "z", and how many features it has."""
        ...

    def decode(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, features) of styles (N, latent_dim) and weights of the classes (N, categories)."""
        ...


@runtime_checkable
class Clustered(OfData, Protocol):
    """A model that finds clusters."""

    def cluster_heads(self) -> np.ndarray:
        """(clusters, features): each cluster by itself."""
        ...

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N,) clusters of rows."""
        ...


def takes(method: Any, name: str) -> bool:
    """Whether a method has an argument of a name."""
    return name in inspect.signature(method).parameters


def labels_of(model: Any, n: int) -> list[Any]:
    """What users call the classes 0 to n - 1 of a model."""
    classes = np.arange(n)
    own = model.own_labels(classes) if hasattr(model, "own_labels") else classes
    return list(own.tolist())
