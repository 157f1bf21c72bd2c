"""The density of a Gaussian Parzen window, by which section 3 of the paper measures likelihoods.

The samples are taken in a block at a time and never held: of each row x_i there stay the smallest squared distance to a
sample and, for each sigma, a sum of exponentials relative to it in float64.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self

import numpy as np

from ..arguments import number, shown
from ..backends.devices import get_backend
from ..core.backend import Backend
from ..core.memory import Buffer
from ..data.arrays import as_matrix
from ..data.rows import Rows, as_rows, moments, to_floats
from ..errors import CheckpointError

BLOCK = 1024  # samples of a launch, however many come at a time: sums so have one order
FINEST, COARSEST = 1e-18, 1e18  # sigmas for which float32 holds 1 / (2 sigma^2)
MOST_OFF = 0.1  # nats that roundings of distances may cost
_WINDOW = "parzen"  # what the description in a file is called


class Parzen:
    """ln p(x) of rows x under the mean of Gaussians N(sample, sigma^2 I), one for each sample that it was given.

    ln p(x_i) = ln sum_j exp(-d_ij / (2 sigma^2)) - ln n - N / 2 ln(2 pi sigma^2), d_ij = |x_i - sample_j|^2, of n
    samples with N features. Distances are made of float32 products, of rows and samples without the mean of the rows;
    sums and logarithms are float64. Roundings of distances grow with the spread of x: a sigma that is far below it is a
    warning. The same samples in the same order give the same bits, whatever the sizes of the arrays they come in and
    the number of threads.

    Args:
        x: (B, features) rows, float or uint8 (which stands for 0..1 in steps of 1/255), perhaps of the device.
        sigmas: standard deviations of the window, K numbers; the distances are made once for all of them.
        device: its name, or a backend, such as that of the model whose samples come.

    Attributes:
        count: how many samples came.
        sigmas: (K,) float64.
        about: what `save` was told and `load` has read; an empty dict at first.

    Raises:
        ValueError, TypeError: bad arguments.
    """

    def __init__(self, x: Any, sigmas: Sequence[float] | np.ndarray, *, device: str | Backend = "cpu") -> None:
        self.backend = _backend(device)
        self.sigmas = _sigmas("sigmas", sigmas)
        self.count = 0
        self.about: dict[str, Any] = {}
        self._given = _rows(self.backend, x, "x")
        n, features = self._given.shape
        backend = self.backend
        rows = to_floats(backend, self._given)
        mean, std, _ = moments(backend, rows)
        self._mean = backend.from_host(mean)
        self._warn_of_roundings(float(std))
        self._one = backend.from_host(np.ones(1))
        self._gammas = backend.from_host(0.5 / self.sigmas**2)
        self._x, self._centred = backend.empty((n, features)), backend.empty((BLOCK, features))
        self._pending, self._waiting = backend.empty((BLOCK, features)), 0  # samples that make no whole block yet
        self._least = backend.from_host(np.full(n, np.inf))
        self._sums = backend.zeros((n, len(self.sigmas)), "float64")
        self._centre(rows, self._x)

    def _warn_of_roundings(self, std: float) -> None:
        """Where no sigma is wide enough for distances that are as exact as products are."""
        widest = float(self.sigmas.max())
        off = float(np.finfo(self.backend.real).eps) * self._given.shape[1] * (std / widest) ** 2 / 2
        if off > MOST_OFF:
            text = (
                f"sigma: {widest:g} is so small beside the spread of x, {std:.3g} in a feature, that rounded distances"
            )
            warnings.warn(f"{text} make log densities wrong by about {off:.2g} nats", RuntimeWarning, stacklevel=3)

    def add(self, samples: Any) -> None:
        """Takes in samples (M, features): float or uint8 rows as x is, of the host or of the device.

        The values of device arrays are not checked.

        Raises:
            ValueError, TypeError: bad samples; none of them was taken in.
        """
        rows = _rows(self.backend, samples, "samples", self._x.shape[1])
        start = 0
        while start < len(rows):
            stop = min(start + BLOCK - self._waiting, len(rows))
            end = self._waiting + stop - start
            self.backend.copy(self._pending.rows(self._waiting, end), to_floats(self.backend, rows, start, stop))
            self._waiting, start, self.count = end, stop, self.count + stop - start
            if end == BLOCK:
                self._reduce(BLOCK, self._least, self._sums)
                self._waiting = 0

    def log_density(self) -> np.ndarray:
        """(B, K) float64: ln p(x_i) in nats for each of the sigmas, by the samples so far.

        Raises:
            ValueError: no samples came, or distances that float32 cannot hold.
        """
        if not self.count:
            raise ValueError("samples: expected at least one, got none")
        least, sums = self._least, self._sums
        if self._waiting:  # they stay where they are: more may come
            least, sums = self.backend.clone(least), self.backend.clone(sums)
            self._reduce(self._waiting, least, sums)
        gammas = self.backend.to_host(self._gammas).astype(np.float64)
        nearest = self.backend.to_host(least).astype(np.float64)[:, None]
        with np.errstate(all="ignore"):  # what is no number is reported
            logs = np.log(self.backend.to_host(sums)) - gammas * nearest - math.log(self.count)
        if not np.isfinite(logs).all():
            raise ValueError("samples: expected finite rows whose squared distances to x float32 can hold, got others")
        return np.asarray(logs + self._x.shape[1] / 2 * np.log(gammas / math.pi))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) means over the rows of ln p(x), and (K,) standard errors: the deviation over the rows / sqrt(B).

        Raises:
            ValueError: as of `log_density`.
        """
        logs = self.log_density()
        return logs.mean(axis=0), logs.std(axis=0) / math.sqrt(len(logs))

    def __reduce__(self) -> NoReturn:
        raise TypeError("Parzen: expected save and Parzen.load, which keep its state, and no copy")

    # --- files ------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """What the samples so far left, float64: "least" (B,), "sums" (B, K), and samples of no whole block yet."""
        parts = {"least": self._least, "sums": self._sums, "pending": self._pending.rows(0, self._waiting)}
        return {name: self.backend.to_host(part).astype(np.float64) for name, part in parts.items()}

    def save(self, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
        """Writes the state to a file, for `load`, without x; `about` are JSON values to be kept beside it.

        Raises:
            CheckpointError: the file could not be written; an old one is intact.
        """
        from ..files import checkpoint  # json and hashlib are slow to import

        self.about = dict(about or {})
        described = {
            "rows": digest(self.backend, self._given), "sigmas": self.sigmas.tolist(), "count": self.count,
            "pending": self._waiting, "about": self.about,
        }  # fmt: skip
        checkpoint.write(path, self.state(), {_WINDOW: described})

    @classmethod
    def load(cls, path: str | os.PathLike[str], x: Any, *, device: str | Backend = "cpu") -> Self:
        """The window of the same rows x that was written to a file: it goes on bit for bit.

        Raises:
            CheckpointError: no such file, or the window of other rows.
            ValueError, TypeError: bad arguments.
        """
        from ..files import checkpoint

        backend = _backend(device)
        rows = _rows(backend, x, "x")
        found: dict[str, Any] = {}

        def expected(meta: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
            if meta.keys() != {_WINDOW}:
                raise CheckpointError(f"expected the state of a Parzen window, got one of {', '.join(sorted(meta))}")
            found.update(meta[_WINDOW])
            if found["rows"] != digest(backend, rows):
                raise CheckpointError("expected the Parzen window of these rows x, got that of others")
            count, waiting = found["count"], found["pending"]
            if not 0 <= waiting < BLOCK or count < 0 or count % BLOCK != waiting:
                raise ValueError(f"{count} samples, of which {waiting} wait")
            (n, features), k = rows.shape, len(_sigmas("sigmas", found["sigmas"]))
            shapes = {"least": (n,), "sums": (n, k), "pending": (waiting, features)}
            return {name: (shape, "float64") for name, shape in shapes.items()}

        tensors, _ = checkpoint.read(path, expected)
        window = cls(rows, found["sigmas"], device=backend)
        window.count, window._waiting, window.about = int(found["count"]), int(found["pending"]), found["about"]
        backend.upload(window._least, tensors["least"])
        backend.upload(window._sums, tensors["sums"])
        backend.upload(window._pending.rows(0, window._waiting), tensors["pending"])
        return window

    # --- parts ------------------------------------------------------------------------------------

    def _centre(self, rows: Buffer, out: Buffer) -> None:
        """Rows without the mean of x: far from the origin, products would leave little of a distance."""
        self.backend.launch("standardise", (rows, self._mean, self._one, out), rows.shape)

    def _reduce(self, n: int, least: Buffer, sums: Buffer) -> None:
        """Takes the first n pending samples into `least` and `sums`."""
        samples = self._centred.rows(0, n)
        self._centre(self._pending.rows(0, n), samples)
        dims = (self._x.shape[0], n, self._x.shape[1], len(self.sigmas))
        self.backend.launch("parzen", (self._x, samples, self._gammas, least, sums), dims)


def parzen(samples: Any, x: Any, sigma: float, *, device: str | Backend = "cpu") -> tuple[float, float]:
    """The mean over rows x of their log density in nats under a Gaussian Parzen window of samples; see `Parzen`.

    Args:
        samples: (M, features) float or uint8, or an iterable of such arrays, of which one is looked at at a time.
        x: (B, features) rows.
        sigma: standard deviation of the window, of each feature.
        device: where to reckon.

    Returns:
        The mean, and its standard error: the standard deviation over the rows / sqrt(B).

    Raises:
        ValueError, TypeError: bad arrays, no samples, or no sigma > 0.
    """
    (mean,), (error,) = filled(samples, x, [_sigma("sigma", sigma)], device).result()
    return float(mean), float(error)


def choose_sigma(samples: Any, x: Any, grid: Sequence[float] | np.ndarray, *, device: str | Backend = "cpu") -> float:
    """The sigma of the grid under which rows x, which nobody trained on, have the largest mean log density.

    Where that is an end of a grid of several, a warning says so: a better one may lie beyond.

    Args:
        samples: as of `parzen`. The best sigma shrinks with their number: take as many as to measure with.
        x: (B, features) validation rows, not those to be measured.
        grid: sigmas to choose from.
        device: where to reckon.

    Raises:
        ValueError, TypeError: as of `parzen`.
    """
    window = filled(samples, x, _sigmas("grid", grid), device)
    sigma = float(window.sigmas[window.result()[0].argmax()])
    low, high = float(window.sigmas.min()), float(window.sigmas.max())
    if low < high and sigma in (low, high):
        end = "smallest" if sigma == low else "largest"
        warnings.warn(f"grid: the best sigma, {sigma:g}, is its {end}; a better one may lie beyond it", stacklevel=2)
    return sigma


def filled(samples: Any, x: Any, sigmas: Sequence[float] | np.ndarray, device: str | Backend) -> Parzen:
    """A window that has taken in all of the samples."""
    window = Parzen(x, sigmas, device=device)
    for part in _parts(samples):
        window.add(part)
    return window


def _backend(device: str | Backend) -> Backend:
    return device if isinstance(device, Backend) else get_backend(device)


def _rows(backend: Backend, rows: Any, name: str, features: int | None = None) -> Rows:
    """Checked rows, of any number of features if that is None."""
    of_device = isinstance(rows, Buffer) or backend.has(rows)
    matrix = rows if of_device else as_matrix(rows, name, features=features)
    return as_rows(backend, matrix, name, math.prod(matrix.shape[1:]) if features is None else features)


def digest(backend: Backend, rows: Rows) -> str:
    """SHA-256 of rows as they were given."""
    from ..files import checkpoint

    return checkpoint.digest({"x": backend.to_host(rows) if isinstance(rows, Buffer) else rows})


def _sigma(name: str, value: Any) -> float:
    sigma = number(name, value, 0.0, open_low=True)
    if not FINEST <= sigma <= COARSEST:
        raise ValueError(f"{name}: expected a number from {FINEST:g} to {COARSEST:g}, got {sigma:g}")
    return sigma


def _sigmas(name: str, values: Any) -> np.ndarray:
    """Numbers > 0 as (K,) float64."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise ValueError(f"{name}: expected a sequence of numbers > 0, got {shown(values)}")
    return np.array([_sigma(name, value) for value in values])


def _parts(samples: Any) -> Iterable[Any]:
    """An array as its only part; arrays one after the other as they are."""
    if isinstance(samples, Iterator):
        return samples
    is_list = isinstance(samples, list | tuple)
    return samples if is_list and all(getattr(part, "ndim", 0) == 2 for part in samples) else (samples,)
