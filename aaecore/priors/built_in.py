"""The priors of the paper, and others that are drawn on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arguments import FLOAT32_MAX, FLOAT32_TINY, count, number, reals, shown
from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.random import Generator
from .prior import Draw, DrawLike, Prior

_LARGEST_NORMAL = 6.0  # standard deviations: no draw of 24 random bits is larger, sqrt(2 ln 2^24) = 5.8
_LARGEST_RADIUS = 1e27  # of a sphere: it is divided by the norm of normals, in 1-D as small as 1e-10
_MOST_TURNS = 1e6  # of a roll, so that a fraction of a turn has digits in float32


def _keep(prior: Prior, **fields: float | tuple[float, ...]) -> None:
    """Sets fields of a frozen prior: to Python's numbers, which a file takes."""
    for name, value in fields.items():
        object.__setattr__(prior, name, value)


def _check_reach(name: str, given: Any, reach: float) -> None:
    """ValueError where draws as large as `reach` are beyond float32."""
    if not reach <= FLOAT32_MAX:
        raise ValueError(f"{name}: expected draws that float32 can hold, up to {FLOAT32_MAX:.2g}, got {shown(given)}")


@dataclass(frozen=True)
class Normal(Prior):
    """N(mean, std^2) in every dimension. The paper uses std 5 for MNIST."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        std, mean = number("std", self.std, 0.0, open_low=True), number("mean", self.mean, -math.inf, open_low=True)
        _check_reach("std", self.std, abs(mean) + _LARGEST_NORMAL * std)
        _keep(self, std=std, mean=mean)

    def moments(self, latent_dim: int) -> tuple[np.ndarray, float]:
        return np.full(latent_dim, self.mean), self.std

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        return lambda generator, n: generator.normal((n, latent_dim), self.mean, self.std)


@dataclass(frozen=True)
class Uniform(Prior):
    """U[low, high) in every dimension."""

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        low = number("low", self.low, -math.inf, open_low=True)
        high = number("high", self.high, low, open_low=True)
        _check_reach("high", self.high, high - low)  # which the kernels make as well
        _keep(self, low=low, high=high)

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        return lambda generator, n: generator.uniform((n, latent_dim), self.low, self.high)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Cumulative probabilities, ending in exactly 1."""
    total = np.cumsum(weights, dtype=np.float64)
    return total / total[-1]


def _array(name: str, value: Any, ndim: int) -> np.ndarray:
    array = reals(name, value).astype(np.float64)
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers in {ndim} dimensions, got shape {array.shape}")
    return array


def _weights(name: str, value: Any) -> np.ndarray:
    weights = _array(name, value, 1)
    if (weights < 0).any() or not weights.any():
        raise ValueError(f"{name}: expected numbers >= 0 with a positive sum, got {shown(value)}")
    with np.errstate(over="ignore"):
        return weights if np.isfinite(weights.sum()) else weights * 2.0**-64  # only what they are to each other counts


@dataclass(frozen=True)
class GaussianMixture(Prior):
    """A mixture of C Gaussians; class c of labelled rows has component c.

    Args:
        means: (C, dim).
        covariances: (C, dim, dim), symmetric positive definite.
        weights: (C,) >= 0, any positive sum; equal by default.
    """

    means: Sequence[Sequence[float]]
    covariances: Sequence[Sequence[Sequence[float]]]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        means, covariances = _array("means", self.means, 2), _array("covariances", self.covariances, 3)
        if covariances.shape != (*means.shape, means.shape[1]):
            expected = (*means.shape, means.shape[1])
            raise ValueError(f"covariances: expected shape {expected} for means {means.shape}, got {covariances.shape}")
        weights = _weights("weights", np.ones(len(means)) if self.weights is None else self.weights)
        if len(weights) != len(means):
            raise ValueError(f"weights: expected {len(means)} numbers, got {len(weights)}")
        rounding = 1e-6 * float(np.abs(covariances).max())
        if not np.allclose(covariances, covariances.transpose(0, 2, 1), atol=rounding):
            raise ValueError("covariances: expected symmetric matrices")
        try:
            factors = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError:
            raise ValueError("covariances: expected positive definite matrices") from None
        with np.errstate(over="ignore"):
            reach = np.abs(means) + _LARGEST_NORMAL * np.abs(factors).sum(axis=2)
        if np.diagonal(factors, axis1=1, axis2=2).min() < FLOAT32_TINY:
            raise ValueError("covariances: expected spreads that float32 can hold, got smaller ones")
        _check_reach("means and covariances", float(reach.max()), float(reach.max()))
        for name, array in (("means", means), ("covariances", covariances), ("weights", weights)):
            object.__setattr__(self, name, array.tolist())

    def __repr__(self) -> str:
        return f"GaussianMixture({len(self.means)} components, {self.fixed_dim}-D)"

    @classmethod
    def ring(
        cls, components: int = 10, radius: float = 7.0, radial_std: float = 2.5, tangential_std: float = 0.5
    ) -> GaussianMixture:
        """2-D Gaussians on a circle, each stretched along its radius: the flower of figure 2 of the paper.

        The defaults reach r = 15, as the figure's axes do; the paper gives no numbers.
        """
        components = count("components", components)
        number("radius", radius, 0.0)
        number("radial_std", radial_std, 0.0, open_low=True)
        number("tangential_std", tangential_std, 0.0, open_low=True)
        angles = 2 * np.pi * np.arange(components) / components
        axes = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (C, 2), unit vectors along the radius
        normals = np.stack([-axes[:, 1], axes[:, 0]], axis=1)
        radial, tangential = np.einsum("ci,cj->cij", axes, axes), np.einsum("ci,cj->cij", normals, normals)
        covariances = radial_std**2 * radial + tangential_std**2 * tangential
        return cls((radius * axes).tolist(), covariances.tolist())

    @property
    def fixed_dim(self) -> int:  # type: ignore[override]
        return len(self.means[0])

    def _factors(self) -> np.ndarray:
        """(C, dim, dim): the lower triangular L of every covariance L L^T."""
        return np.linalg.cholesky(np.asarray(self.covariances))

    def density_tables(self, backend: Backend) -> tuple[Buffer, Buffer, Buffer]:
        """What `functions.mixture_nll` needs of the mixture: log_scales (C,), means (C, dim), whitening (C, dim, dim).

        log_scales = ln weight - dim/2 ln 2 pi - ln det L, whitening = L^-1. A component of weight 0 has -inf.
        """
        weights, factors = np.asarray(self.weights), self._factors()
        with np.errstate(divide="ignore"):
            log_weights = np.log(weights / weights.sum())
        log_determinants = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        log_scales = log_weights - self.fixed_dim / 2 * math.log(2 * math.pi) - log_determinants
        inverse = np.tril(np.linalg.inv(factors))
        if not np.abs(inverse).max() <= FLOAT32_MAX:
            raise ValueError("covariances: expected matrices with an inverse that float32 can hold, got smaller ones")
        log_scales, means, whitening = (backend.from_host(t) for t in (log_scales, np.asarray(self.means), inverse))
        return log_scales, means, whitening

    def _tables(self, backend: Backend) -> list[Buffer]:
        """What the kernels draw by: cumulative weights (C,), means (C, dim), factors (C, dim, dim)."""
        tables = (_cumulative(np.asarray(self.weights)), np.asarray(self.means), self._factors())
        return [backend.from_host(t) for t in tables]

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        tables, components = self._tables(backend), len(self.means)

        def draw(generator: Generator, n: int) -> Buffer:
            out = backend.empty((n, latent_dim))
            dims = (n, latent_dim, components, generator.stream())
            backend.launch("random_mixture", (generator.state, *tables, out), dims)
            return out

        return draw

    @property
    def parts(self) -> int:  # type: ignore[override]
        return len(self.means)

    def _bind_like(self, backend: Backend, latent_dim: int, classes: int) -> DrawLike:
        tables, components = self._tables(backend), len(self.means)

        def draw(generator: Generator, like: Buffer) -> Buffer:
            n, columns = like.shape
            out = backend.empty((n, latent_dim))
            dims = (n, latent_dim, components, columns, classes, generator.stream())
            backend.launch("random_mixture_of", (generator.state, *tables, like, out), dims)
            return out

        return draw

    def _part_of(self, z: np.ndarray, classes: int) -> np.ndarray:
        """The component that most likely drew it."""
        weights, factors = np.asarray(self.weights[:classes]), self._factors()[:classes]  # type: ignore[index]
        away = np.linalg.solve(factors, (z[None] - np.asarray(self.means)[:classes, None]).transpose(0, 2, 1))
        with np.errstate(divide="ignore"):
            scales = np.log(weights) - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        return np.argmax(scales[:, None] - np.square(away).sum(axis=1) / 2, axis=0)

    def _walks(self, classes: int, n: int) -> np.ndarray:
        """Along the main axis of each component, two standard deviations to either side of its mean, outwards."""
        means = np.asarray(self.means)[:classes]
        variances, axes = np.linalg.eigh(np.asarray(self.covariances)[:classes])  # ascending
        main = axes[:, :, -1]
        outwards = np.where((main * means).sum(axis=1) < 0, -1.0, 1.0)
        main = main * (outwards * np.sqrt(variances[:, -1]))[:, None]
        return means[:, None] + np.linspace(-2, 2, n)[:, None] * main[:, None]


@dataclass(frozen=True)
class SwissRoll(Prior):
    """A 2-D spiral, uniform along its length up to the square root: turn t = from + (to - from) sqrt(u), u uniform.

    Labelled rows of C classes have a part each, all equally likely, in their order: class c has u from c / C to
    (c + 1) / C.

    Args:
        turns: where the roll begins and ends, in turns around the origin.
        radius: distance from the origin at the end; the paper's figure 4 reaches 15.
        noise: standard deviation added in both dimensions.
    """

    turns: tuple[float, float] = (0.0, 2.0)
    radius: float = 15.0
    noise: float = 0.0
    fixed_dim: ClassVar[int] = 2
    parts: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        if not isinstance(self.turns, Sequence | np.ndarray) or len(self.turns) != 2:
            raise ValueError(f"turns: expected two numbers, got {shown(self.turns)}")
        begin = number("turns[0]", self.turns[0], 0.0)
        end = number("turns[1]", self.turns[1], begin, _MOST_TURNS, open_low=True)
        radius, noise = number("radius", self.radius, 0.0, open_low=True), number("noise", self.noise, 0.0)
        _check_reach("radius", self.radius, radius / end)  # which the kernels make as well
        _check_reach("noise", self.noise, radius + _LARGEST_NORMAL * noise)
        _keep(self, turns=(begin, end), radius=radius, noise=noise)

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        def draw(generator: Generator, n: int) -> Buffer:
            out = backend.empty((n, 2))
            backend.launch("random_swiss_roll", (generator.state, out), (n, generator.stream()), self._scalars())
            return out

        return draw

    def _scalars(self) -> tuple[float, ...]:
        return (*self.turns, self.radius, self.noise)

    def _bind_like(self, backend: Backend, latent_dim: int, classes: int) -> DrawLike:
        def draw(generator: Generator, like: Buffer) -> Buffer:
            n, columns = like.shape
            out = backend.empty((n, 2))
            dims = (n, columns, classes, generator.stream())
            backend.launch("random_swiss_roll_of", (generator.state, like, out), dims, self._scalars())
            return out

        return draw

    def _part_of(self, z: np.ndarray, classes: int) -> np.ndarray:
        """By the nearest of the three windings of the roll in the code's direction, or the end of the roll."""
        begin, end = self.turns
        angle = np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi)  # in turns
        winding = np.round(np.hypot(*z.T) * end / self.radius - angle)
        t = np.clip(angle + winding + np.array([[-1], [0], [1]]), begin, end)
        places = self.radius * t / end * np.array([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)])  # (2, 3, n)
        nearest = np.argmin(np.square(places - z.T[:, None]).sum(axis=0), axis=0)
        u = np.square((t[nearest, np.arange(len(z))] - begin) / (end - begin))
        return np.minimum((u * classes).astype(np.int64), classes - 1)

    def _walks(self, classes: int, n: int) -> np.ndarray:
        """From the beginning of the roll to its end, in steps that are equally likely; noise aside."""
        u = (np.arange(classes * n) + 0.5) / (classes * n)
        t = self.turns[0] + (self.turns[1] - self.turns[0]) * np.sqrt(u)
        places = np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1)
        return (self.radius * t / self.turns[1])[:, None].reshape(classes, n, 1) * places.reshape(classes, n, 2)


@dataclass(frozen=True)
class Hypersphere(Prior):
    """Uniform on the sphere of the given radius."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        _keep(self, radius=number("radius", self.radius, 0.0, _LARGEST_RADIUS, open_low=True))

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        def draw(generator: Generator, n: int) -> Buffer:
            out = backend.empty((n, latent_dim))
            dims = (n, latent_dim, generator.stream())
            backend.launch("random_hypersphere", (generator.state, out), dims, (self.radius,))
            return out

        return draw


@dataclass(frozen=True)
class Categorical(Prior):
    """One-hot codes. `weights` gives the probabilities of the classes up to a factor; None means equal ones."""

    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            object.__setattr__(self, "weights", _weights("weights", self.weights).tolist())

    @property
    def fixed_dim(self) -> int | None:  # type: ignore[override]
        return None if self.weights is None else len(self.weights)

    def _bind(self, backend: Backend, latent_dim: int) -> Draw:
        cumulative = backend.from_host(_cumulative(np.asarray(self.weights or np.ones(latent_dim))))

        def draw(generator: Generator, n: int) -> Buffer:
            out = backend.empty((n, latent_dim))
            backend.launch(
                "random_categorical", (generator.state, cumulative, out), (n, latent_dim, generator.stream())
            )
            return out

        return draw


BUILT_IN = (Normal, Uniform, GaussianMixture, SwissRoll, Hypersphere, Categorical)
