"""Whether the codes keep to the prior: their moments, and their maximum mean discrepancy (Gretton et al. 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SAMPLE = 256  # codes that are looked at: enough to see what matters, and a fraction of a millisecond
MOST_APART = 300  # steps between two looks at most, however small they are
WORK = 6e9  # floating-point operations of training between two looks, so that none costs more than a few hundredths
EARLY = 300  # steps before which nobody expects the prior to be held
NAMES = OFFSET, SPREAD, MMD = "code_offset", "code_spread", "code_mmd"
LEAST_SPREAD, MOST_SPREAD, MOST_OFFSET, MOST_MMD = 0.75, 1.33, 0.5, 6.0


class Health:
    """Measures codes against samples of a prior.

    Args:
        prior: some independent samples of it, each (n, dim); two at the least.
    """

    def __init__(self, *prior: np.ndarray) -> None:
        self._sample, *fresh = (z.astype(np.float64) for z in prior)
        self._mean = np.concatenate(prior).mean(axis=0)
        self._std = np.concatenate(prior).std(axis=0) + np.finfo(np.float32).tiny
        median = np.median(_distances(self._sample, fresh[0]))
        self._rate = 1 / (8 * median) if median > 0 else 1.0
        self._same = self._kernel(self._sample, self._sample)
        self._null = float(np.mean([self._mmd(z) for z in fresh])) or 1.0

    def measure(self, codes: np.ndarray) -> dict[str, float]:
        """Of codes (n, dim), for a row of the history.

        code_offset: the largest distance of their mean from the prior's, in its standard deviations; 0 at best.
        code_spread: their standard deviation by the prior's, of the feature where it is furthest from 1.
        code_mmd: their squared discrepancy by that of a fresh sample of the prior; about 1 at best.
        """
        z = codes.astype(np.float64)
        offset = float(np.max(np.abs(z.mean(axis=0) - self._mean) / self._std))
        ratios = z.std(axis=0) / self._std
        spread = float(ratios[np.argmax(np.abs(np.log(np.maximum(ratios, np.finfo(np.float32).tiny))))])
        return {OFFSET: offset, SPREAD: spread, MMD: self._mmd(z) / self._null}

    def _mmd(self, z: np.ndarray) -> float:
        return self._kernel(z, z) + self._same - 2 * self._kernel(z, self._sample)

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> float:
        """The mean of a sum of three Gaussian kernels, whose squared widths lie a factor of four apart."""
        wide = np.exp(-self._rate * _distances(a, b))
        middle = wide**4
        return float((wide + middle + middle**4).mean())


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The squared distance of every row of one from every row of the other."""
    products = np.einsum("ik,jk->ij", a, b)  # not a @ b.T: the bits of a BLAS may depend on its threads
    return np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * products, 0.0)


def due(steps: int, before: int, parameters: int, batch: int) -> bool:
    """Whether a look is due at the end of an epoch, after `steps` steps in all, `before` of them in earlier epochs."""
    apart = max(1, min(MOST_APART, round(WORK / (6 * parameters * batch))))
    return steps // apart > before // apart


def advice(row: Mapping[str, Any]) -> str:
    """What the measures of a row say in words, and what to try; nothing where the prior is held, or early."""
    if any(not isinstance(row.get(name), float) for name in NAMES) or row["step"] < EARLY:
        return ""
    offset, spread, mmd = (row[name] for name in NAMES)
    if spread < LEAST_SPREAD:
        said = f"in a feature they spread {spread:.2f} times as far as it"
        remedy = "more epochs, a larger generator_weight, or fewer features in the code"
    elif spread > MOST_SPREAD:
        said = f"in a feature they spread {spread:.2f} times as far as it"
        remedy = "more epochs, or a larger generator_weight"
    elif offset > MOST_OFFSET:
        said = f"their mean lies {offset:.2f} of its standard deviations beside its own"
        remedy = "more epochs, or a lower learning rate"
    elif mmd > MOST_MMD:
        said = f"their discrepancy is {mmd:.0f} times that of a fresh sample"
        remedy = "more epochs, a larger generator_weight, or fewer features in the code"
    else:
        return ""
    return f"the codes do not hold the prior: {said}; try {remedy}"
