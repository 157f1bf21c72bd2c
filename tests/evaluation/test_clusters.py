"""Measures of clusters: by hand, against scikit-learn, and what cannot be measured."""

import sys

import numpy as np
import pytest

import aaecore
from aaecore.evaluation import ari, cluster_error, hungarian_error, majority_error, nmi, usage

Q_LABELLED = np.array([[0.5, 0.3, 0.2], [0.4, 0.6, 0.0], [0.1, 0.2, 0.7], [0.45, 0.1, 0.45]])
Q = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.1, 0.0], [0.4, 0.4, 0.2]])


def test_the_protocol_of_the_paper():
    """Cluster 0 is named by row 0, 1 by row 1, 2 by row 2; a tie is the first cluster's."""
    assert cluster_error(Q_LABELLED, [5, 6, 7, 5], Q, [5, 6, 7, 5, 5]) == 0.0
    assert cluster_error(Q_LABELLED, [5, 6, 7, 5], Q, [5, 6, 6, 6, 6]) == 3 / 5
    assert cluster_error(Q_LABELLED, ["a", "b", "a", "b"], Q, ["a", "b", "b", "a", None]) == 1 / 4
    assert cluster_error(Q_LABELLED, [5, -1, 7, 6], Q, [5, 5, 7, 5, 5]) == 0.0, "row 0 is the next of cluster 1"


def test_the_measured_rows_do_not_name_clusters():
    """The other rows' largest probabilities, and their labels, change nothing of the names."""
    q = np.eye(3)
    assert cluster_error(Q_LABELLED, [5, 6, 7, 5], q, [6, 7, 5]) == 1.0


def test_shares_of_rows():
    assert usage(Q).tolist() == [3 / 5, 1 / 5, 1 / 5]
    assert usage(np.eye(4, 6)).tolist() == [1 / 4] * 4 + [0, 0]
    assert usage(Q).dtype == np.float64


def test_by_hand():
    clusters, y = [0, 0, 0, 1, 1, 4, 4], list("aabbbab")
    assert majority_error(clusters, y) == pytest.approx(2 / 7)
    assert majority_error(range(7), y) == 0.0
    assert majority_error([3] * 7, y) == pytest.approx(3 / 7)


def test_matched_one_to_one():
    pytest.importorskip("scipy", reason="SciPy matches clusters and labels: pip install scipy")
    clusters, y = [0, 0, 0, 1, 1, 4, 4], list("aabbbab")
    assert hungarian_error(clusters, y) == pytest.approx(3 / 7)
    assert hungarian_error([0, 0, 1, 1, 2], [1, 1, 1, 0, 0]) == pytest.approx(2 / 5)
    assert hungarian_error([0, 0, 1, 1, 2], [5, 5, 6, 5, -1]) == hungarian_error([0, 0, 1, 1], [5, 5, 6, 5])


@pytest.mark.parametrize("measure", [nmi, ari])
def test_the_ends_of_the_scales(measure):
    y = np.repeat([3, 1, 2], 50)
    assert measure(np.repeat([0, 9, 4], 50), y) == pytest.approx(1.0, abs=1e-15)
    assert measure(np.arange(150) % 2, y) == pytest.approx(0.0, abs=0.02)
    assert measure(np.zeros(150, int), y) == 0.0
    assert measure([0, 0], [1, 1]) == 1.0


@pytest.mark.parametrize("rows", [2, 3, 30, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(rows, seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn: pip install '.[sklearn]'")
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, rows)
    clusters = np.where(rng.random(rows) < 0.5, y, rng.integers(0, 7, rows))
    assert nmi(clusters, y) == pytest.approx(metrics.normalized_mutual_info_score(y, clusters), abs=1e-12)
    assert ari(clusters, y) == pytest.approx(metrics.adjusted_rand_score(y, clusters), abs=1e-12)


def test_rows_without_a_label_do_not_count():
    clusters, y = np.array([0, 0, 1, 1, 2]), np.array([5, 5, 6, 5, -1])
    for measure in (majority_error, nmi, ari):
        assert measure(clusters, y) == measure(clusters[:4], y[:4])


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"^hungarian_error needs SciPy, pip install scipy"):
        hungarian_error([0, 1], [0, 1])


@pytest.mark.parametrize("measure", [majority_error, hungarian_error, nmi, ari])
@pytest.mark.parametrize(
    ("clusters", "y", "message"),
    [
        ([0, 1], [0], r"^y: expected shape \(2,\), one label for each row, got shape \(1,\)"),
        ([0, -1], [0, 1], "^clusters: expected integers >= 0, got -1"),
        ([0, 1], [-1, -1], "^y: expected a label for at least one row, got none"),
        ([], [], "^y: expected a label for at least one row, got none"),
        ([0.5, 1], [0, 1], "^clusters: expected whole numbers"),
        (np.eye(2), [0, 1], r"^clusters: expected shape .*; of one-hot rows give clusters.argmax\(axis=1\)"),
    ],
)
def test_what_cannot_be_measured(measure, clusters, y, message):
    with pytest.raises(ValueError, match=message):
        measure(clusters, y)


def test_probabilities_that_do_not_fit():
    for arguments, message in (
        ((Q_LABELLED, [0, 1], Q, [0] * 5), r"^y_labelled: expected shape \(4,\), one label"),
        ((Q_LABELLED, [0] * 4, Q[:, :2], [0] * 5), r"^proba: expected 3 features \(columns\), got 2"),
        ((Q_LABELLED * np.nan, [0] * 4, Q, [0] * 5), "^proba_labelled: expected finite"),
        ((Q_LABELLED, [-1] * 4, Q, [0] * 5), "^y_labelled: expected a label for at least one row, got none"),
        ((Q_LABELLED, [0] * 4, Q, [-1] * 5), "^y: expected a label for at least one row, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            cluster_error(*arguments)
    with pytest.raises(TypeError, match=r"^y: expected labels of one kind in y and y_labelled, got integers and str"):
        cluster_error(Q_LABELLED, [0] * 4, Q, ["a"] * 5)


def test_public_names():
    assert set(aaecore.evaluation.__all__) >= {"cluster_error", "label_split", "leakage"}
    assert all(callable(getattr(aaecore.evaluation, name)) for name in aaecore.evaluation.__all__)
