"""How well clusters agree with labels: the paper's protocol (section 6), and measures that others use.

Labels are integers or strings, as users have them; rows without a label (-1, "" or None) do not count. Errors are
fractions of the rows. All is computed in float64 or in integers, and does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..data.arrays import as_labels, as_matrix
from ..data.labels import as_own, is_labelled


def cluster_error(proba_labelled: Any, y_labelled: Any, proba: Any, y: Any) -> float:
    """The error of Makhzani et al. (2015, section 6), in [0, 1].

    Each cluster i gets the label of the one labelled row with the largest q(i|x), of the first such row. Then the error
    of other rows is that of the label of their most probable cluster.

    Args:
        proba_labelled: (M, clusters) q(i|x) of labelled rows, which should not be among those that are measured.
        y_labelled: (M,) their labels.
        proba: (N, clusters) q(i|x) of the rows to measure.
        y: (N,) their labels.

    Raises:
        ValueError, TypeError: bad arrays, or no row with a label.
    """
    q_labelled, known = _labelled_rows(proba_labelled, y_labelled, "proba_labelled", "y_labelled")
    q, wanted = _labelled_rows(proba, y, "proba", "y", clusters=q_labelled.shape[1])
    if known.dtype.kind != wanted.dtype.kind:
        raise TypeError("y: expected labels of one kind in y and y_labelled, got integers and strings")
    names = known[q_labelled.argmax(axis=0)]
    return float(np.mean(names[q.argmax(axis=1)] != wanted))


def usage(proba: Any) -> np.ndarray:
    """The share of the rows whose most probable cluster is the i-th, (clusters,) float64, of q(i|x) (N, clusters)."""
    q = as_matrix(proba, "proba")
    return np.bincount(q.argmax(axis=1), minlength=q.shape[1]) / len(q)


def majority_error(clusters: Any, y: Any) -> float:
    """The error where each cluster has the most frequent label of these very rows, in [0, 1]; see `hungarian_error`.

    It falls with the number of clusters: with one cluster a row it is 0.
    """
    table = _contingency(clusters, y)
    return 1 - int(table.max(axis=1).sum()) / int(table.sum())


def hungarian_error(clusters: Any, y: Any) -> float:
    """The error where clusters and labels are matched one to one in the best way for these very rows, in [0, 1].

    Clusters beyond the number of labels match none: their rows are wrong. It needs SciPy.

    Args:
        clusters: (N,) integers >= 0, of `predict`.
        y: (N,) labels.

    Raises:
        ValueError, TypeError: bad arrays, or no row with a label. ImportError: there is no SciPy.
    """
    table = _contingency(clusters, y)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(f"hungarian_error needs SciPy, pip install scipy: {error}") from error
    rows, columns = linear_sum_assignment(table, maximize=True)
    return 1 - int(table[rows, columns].sum()) / int(table.sum())


def nmi(clusters: Any, y: Any) -> float:
    """Normalised mutual information, in [0, 1]: by the mean of the entropies of clusters and labels.

    It is 1 where there is one cluster and one label. Arguments and errors as of `hungarian_error`.
    """
    table = _contingency(clusters, y) / 1.0
    joint = table / table.sum()
    of_cluster, of_label = joint.sum(axis=1), joint.sum(axis=0)
    entropies = _entropy(of_cluster), _entropy(of_label)
    if max(entropies) == 0:
        return 1.0
    mutual = sum(entropies) - _entropy(joint.ravel())
    return min(1.0, max(0.0, 2 * mutual / sum(entropies)))


def ari(clusters: Any, y: Any) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985), at most 1; about 0 for clusters that know nothing of the labels.

    Arguments and errors as of `hungarian_error`.
    """
    table = _contingency(clusters, y)
    together, of_cluster, of_label = (
        sum(math.comb(int(n), 2) for n in counts) for counts in (table.ravel(), table.sum(axis=1), table.sum(axis=0))
    )
    pairs = math.comb(int(table.sum()), 2)
    by_chance, most = of_cluster * of_label / pairs if pairs else 0.0, (of_cluster + of_label) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def _labelled_rows(
    proba: Any, y: Any, name: str, name_y: str, clusters: int | None = None
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The rows that have a label, and their labels."""
    q = as_matrix(proba, name, features=clusters)
    own = as_own(y, name_y, len(q))
    return q[_some(own, name_y)], own[is_labelled(own)]


def _contingency(clusters: Any, y: Any) -> np.ndarray:
    """How many rows are in each cluster and have each label, int64; clusters and labels that never occur are left out.

    Raises:
        ValueError, TypeError: bad arrays, or no row with a label.
    """
    found = as_labels(clusters, "clusters", None)
    if found.size and found.min() < 0:
        raise ValueError(f"clusters: expected integers >= 0, got {found.min()}")
    own = as_own(y, "y", len(found))
    rows = _some(own, "y")
    groups, labels = (np.unique(of[rows], return_inverse=True)[1] for of in (found, own))
    shape = int(groups.max()) + 1, int(labels.max()) + 1
    return np.bincount(groups * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)


def _some(own: np.ndarray, name: str) -> np.ndarray:
    """Which rows have a label, if some have."""
    labelled = is_labelled(own)
    if not labelled.any():
        raise ValueError(f"{name}: expected a label for at least one row, got none")
    return labelled


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum()) if p.size > 1 else 0.0
