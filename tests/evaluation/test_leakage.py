"""How well labels are read from codes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from aaecore.evaluation import Leakage, leakage
from aaecore.evaluation.leakage import _inverse

rng = np.random.default_rng(0)
Y, Z = rng.integers(0, 3, 600), rng.normal(size=(600, 4)).astype(np.float32)


def split(z, y):
    return z[:400], y[:400], z[400:], y[400:]


def test_codes_that_know_nothing():
    found = leakage(*split(Z, Y))
    assert isinstance(found, Leakage)
    assert abs(found.accuracy - 1 / 3) < 0.1
    assert found.majority == np.mean(Y[400:] == np.bincount(Y[:400]).argmax())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_codes_that_know_all(scale):
    z = Z.copy()
    z[:, 1] = 3 * np.eye(3)[Y, 0] + 5
    z[:, 3] = 3 * np.eye(3)[Y, 1] + 0.1 * z[:, 3]
    assert leakage(*split(scale * z, Y)).accuracy == 1.0


def test_a_logarithm_of_odds_is_found():
    """The optimum of a model whose labels are drawn by logits that are linear in z: near the best possible."""
    logits = Z.astype(np.float64) @ rng.normal(size=(4, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random((600, 1)) > p.cumsum(axis=1)).sum(axis=1)
    best = np.mean(logits[400:].argmax(axis=1) == y[400:])
    assert abs(leakage(*split(Z, y)).accuracy - best) < 0.05 < best - 0.4


def test_against_scikit_learn():
    models = pytest.importorskip("sklearn.linear_model", reason="compares with scikit-learn: pip install '.[sklearn]'")
    y = (Z[:, 0] + 0.5 * Z[:, 1] + 0.7 * rng.normal(size=600) > 0).astype(int) + (Z[:, 2] > 1)
    z, labels, z_test, wanted = split(Z, y)
    mean, std = z.mean(axis=0), z.std(axis=0)
    other = models.LogisticRegression(C=1e3 / len(z)).fit((z - mean) / std, labels)
    assert leakage(z, labels, z_test, wanted).accuracy == pytest.approx(
        other.score((z_test - mean) / std, wanted), abs=0.011
    )


@pytest.mark.parametrize("d", [1, 2, 200])
def test_an_inverse_without_blas(d):
    """As good as LAPACK's: its error and that of its product are roundings times the condition of the matrix."""
    x = np.random.default_rng(d).normal(size=(3 * d, d)) * np.geomspace(1, 0.01, d)
    matrix = x.T @ x / len(x) + 1e-3 * np.eye(d)
    before, wanted = matrix.copy(), np.linalg.inv(matrix)
    found, rounding = _inverse(matrix), np.linalg.cond(matrix) * np.finfo(np.float64).eps
    assert np.linalg.norm(found - wanted) <= 10 * rounding * np.linalg.norm(wanted)
    assert np.linalg.norm(found @ matrix - np.eye(d)) <= 10 * rounding * np.sqrt(d)
    assert np.array_equal(matrix, before)


FIT = """
import numpy as np
from aaecore.evaluation.leakage import _fit
rng = np.random.default_rng(0)
for d in (100, 200):
    x = rng.normal(size=(2 * d, d))
    print(_fit(x, rng.integers(0, 3, len(x)), 3).tobytes().hex())
"""


def test_bits_do_not_depend_on_the_threads_of_blas():
    def bits(threads):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", FIT]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    one = bits("1")
    assert len(one) > 1000
    assert bits("2") == one


def test_labels_of_any_kind_and_rows_without_one():
    z = Z.copy()
    z[:, 0] += 2.0 * Y
    plain = leakage(*split(z, Y))
    words = np.array(["c", "a", "b"])[Y]
    assert leakage(*split(z, words)) == pytest.approx(plain)
    z, y, z_test, y_test = split(z, Y)
    more = np.concatenate([np.full((9, 4), 1e5), z]), np.concatenate([np.full(9, -1), y])
    assert leakage(*more, z_test, y_test) == plain


def test_a_label_that_was_never_seen_is_not_read():
    z, y, z_test, y_test = split(Z, np.minimum(Y, 1))
    assert leakage(z, y, z_test, np.full(200, 9)) == (0.0, 0.0)
    assert leakage(z, y, z_test, y_test).majority > 0.5
    z[:, 2] = 1.0  # no variance
    assert leakage(z, y, z_test, y_test).accuracy > 0.4


def test_what_cannot_be_probed():
    z, y, z_test, y_test = split(Z, Y)
    for arguments, message in (
        ((z, y[:9], z_test, y_test), r"^y: expected shape \(400,\)"),
        ((z, y * 0, z_test, y_test), "^y: expected two or more different labels, got 1"),
        ((z, y, z_test[:, :3], y_test), "^z_test: expected 4 features"),
        ((z, y, z_test, y_test * 0 - 1), "^y_test: expected a label for at least one row, got none"),
        ((z * np.nan, y, z_test, y_test), "^z: expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            leakage(*arguments)
    with pytest.raises(TypeError, match=r"^y_test: expected labels of one kind"):
        leakage(z, y, z_test, ["a"] * 200)
