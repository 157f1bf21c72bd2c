"""What codes tell of labels that they should not know: of a style code z, whose class is given beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..data.arrays import as_matrix
from ..data.labels import as_own, is_labelled

STEPS = 300  # of the fit at most; the accuracy of codes that tell little stands after some ten
DECAY = 1e-3  # of the weights, per row: so that separable classes have an end


class Leakage(NamedTuple):
    """How often a classifier is right, in [0, 1], and how often one is that always says the most frequent label."""

    accuracy: float
    majority: float


def leakage(z: Any, y: Any, z_test: Any, y_test: Any) -> Leakage:
    """How well a linear classifier reads labels from codes: where they know nothing, no better than the majority.

    Multinomial logistic regression on codes of mean 0 and variance 1, fitted on some rows and measured on others. Its
    Hessian is bounded by one matrix for all steps (Böhning 1992, "Multinomial logistic regression algorithm"), so the
    fit is deterministic and has no rate to choose. Sums do not depend on the number of threads.

    Args:
        z: (M, latent_dim) codes to fit on.
        y: (M,) their labels, integers or strings; rows without one (-1, "" or None) do not count.
        z_test: (N, latent_dim) codes of other rows.
        y_test: (N,) their labels.

    Returns:
        A `Leakage` with the accuracy on the other rows, and the share there of the most frequent label of `y`.

    Raises:
        ValueError, TypeError: bad arrays, or fewer than two different labels.
    """
    fitted, labels = _labelled(z, y, "z", "y", None)
    tested, wanted = _labelled(z_test, y_test, "z_test", "y_test", fitted.shape[1])
    names, classes = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"y: expected two or more different labels, got {len(names)}")
    if names.dtype.kind != wanted.dtype.kind:
        raise TypeError("y_test: expected labels of one kind in y and y_test, got integers and strings")
    if not len(wanted):
        raise ValueError("y_test: expected a label for at least one row, got none")
    mean, std = fitted.mean(axis=0), fitted.std(axis=0)
    std[std == 0] = 1.0
    weights = _fit(_with_one((fitted - mean) / std), classes, len(names))
    said = names[_product("ni,ic->nc", _with_one((tested - mean) / std), weights).argmax(axis=1)]
    most = names[np.bincount(classes).argmax()]
    return Leakage(float(np.mean(said == wanted)), float(np.mean(most == wanted)))


def _labelled(z: Any, y: Any, name: str, name_y: str, features: int | None) -> tuple[np.ndarray, np.ndarray]:
    rows = as_matrix(z, name, features=features)
    own = as_own(y, name_y, len(rows))
    return rows[is_labelled(own)].astype(np.float64), own[is_labelled(own)]


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.column_stack((x, np.ones(len(x))))


def _product(subscripts: str, *arrays: np.ndarray) -> np.ndarray:
    """Without BLAS, whose sums may depend on the number of its threads."""
    return np.asarray(np.einsum(subscripts, *arrays, optimize=False))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a positive definite matrix, by Gauss-Jordan elimination in place; without BLAS, as `_product`.

    No pivot has to be looked for: what is left of such a matrix is positive definite after every step.
    """
    left = matrix.copy()
    for i in range(len(left)):
        row, column = left[i] / left[i, i], left[:, i].copy()
        row[i], column[i] = 1 / left[i, i], 0.0
        left[:, i] = 0.0
        left -= column[:, None] * row
        left[i] = row
    return left


def _fit(x: np.ndarray, classes: np.ndarray, n: int) -> np.ndarray:
    """Weights (features, n) of the smallest mean cross-entropy with a small decay."""
    one_hot = np.eye(n)[classes]
    bound = _product("ni,nj->ij", x, x) / (2 * len(x)) + DECAY * np.eye(x.shape[1])
    inverse, weights = _inverse(bound), np.zeros((x.shape[1], n))
    for _ in range(STEPS):
        logits = _product("ni,ic->nc", x, weights)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        step = _product("ij,jc->ic", inverse, _product("ni,nc->ic", x, one_hot - p) / len(x) - DECAY * weights)
        weights += step
        if np.abs(step).max() < 1e-4:
            break
    return weights
