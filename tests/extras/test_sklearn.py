"""The transformer of scikit-learn: its own checks of estimators, and what people do with one."""

import importlib
import pickle
import sys
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

import aaecore

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_breast_cancer, load_digits  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import r2_score, roc_auc_score  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from aaecore.extras.sklearn import AAETransformer  # noqa: E402

EXPECTED_TO_FAIL: dict[str, str] = {}  # a check and the reason; there is none
Small = partial(AAETransformer, hidden=(16,), max_iter=3, random_state=0)


@pytest.fixture(scope="module")
def x():
    """Two hidden numbers and a little noise in 6 columns, (300, 6)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 2)) @ rng.standard_normal((2, 6)) + 0.05 * rng.standard_normal((300, 6))


def test_what_it_needs_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "aaecore.extras.sklearn")
    with pytest.raises(ImportError, match=r"needs scikit-learn 1\.6 or later, pip install scikit-learn: "):
        importlib.import_module("aaecore.extras.sklearn")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"posterior": "universal", "prior": aaecore.priors.Uniform(), "hidden": ()}])
def test_scikit_learns_checks_of_estimators(options):
    results = check_estimator(
        AAETransformer(random_state=0, **options), expected_failed_checks=EXPECTED_TO_FAIL, on_fail=None, on_skip=None
    )
    assert len(results) > 40
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "xfail", "skipped")}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


def test_a_table_is_learned_with_the_defaults():
    """Of columns whose scales differ by a factor of 200000; codes of the right spread, and more than PCA explains."""
    table = load_breast_cancer().data
    coded = AAETransformer(8, random_state=0).fit(table)
    explained = r2_score(table, coded.inverse_transform(coded.transform(table)))
    alike = StandardScaler().fit_transform(table)
    assert explained > PCA(8).fit(alike).explained_variance_ratio_.sum()
    assert 0.5 < coded.transform(table).std() < 1.5
    apart = AAETransformer(8, random_state=0, standardize=False).fit(alike)
    assert np.array_equal(apart.transform(alike), coded.transform(table))


def test_codes_are_those_of_the_model(x):
    coded = Small().fit(x)
    assert np.array_equal(coded.transform(x), coded.model_.encode(StandardScaler().fit_transform(x)))
    plain = Small(standardize=False).fit(x)
    assert plain.scaler_ is None
    assert np.array_equal(plain.transform(x), plain.model_.encode(x))
    assert np.array_equal(coded.fit_transform(x), coded.transform(x))
    for dtype in (np.float32, np.float64):
        assert coded.transform(x.astype(dtype)).dtype == dtype
        assert coded.inverse_transform(coded.transform(x.astype(dtype))).dtype == dtype
    assert coded.inverse_transform(np.zeros((4, 2))).shape == (4, 6)
    assert coded.n_iter_ == len(coded.history_) == 3
    with pytest.raises(ValueError, match="z: expected 2 features"):
        coded.inverse_transform(np.zeros((4, 3)))


def test_names_come_out(x):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    frame = pandas.DataFrame(x, columns=list("abcdef"), index=range(7, 307))
    coded = Small().set_output(transform="pandas").fit(frame)
    codes = coded.transform(frame)
    assert list(codes.columns) == list(coded.get_feature_names_out()) == ["aaetransformer0", "aaetransformer1"]
    assert codes.index[0] == 7
    assert list(coded.feature_names_in_) == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        coded.transform(frame[list("bacdef")])


def test_part_by_part_is_epoch_by_epoch(x):
    whole, parts = Small(max_iter=3).fit(x), Small(max_iter=99)
    for _ in range(3):
        parts.partial_fit(x)
    assert np.array_equal(parts.transform(x), whole.transform(x))
    assert parts.n_iter_ == 3
    parts.partial_fit(x[:50])
    assert parts.n_iter_ == 4
    assert whole.partial_fit(x).n_iter_ == 4
    assert whole.fit(x).n_iter_ == 3
    with pytest.raises(ValueError, match="5 features"):
        parts.partial_fit(x[:, :5])


def test_scores_tell_what_was_not_trained_on(x):
    coded = Small(max_iter=60).fit(x)
    strange = np.concatenate([x[:100], 3 * np.random.default_rng(1).standard_normal((100, 6))])
    scores = coded.score_samples(strange)
    assert scores.shape == (200,)
    assert roc_auc_score(np.arange(200) < 100, scores) > 0.9
    assert coded.score(strange) == pytest.approx(scores.mean())
    by_codes = coded.score_samples(x, by="discriminator")
    assert np.array_equal(by_codes, coded.model_.score_samples(coded.scaler_.transform(x), by="discriminator"))


def test_equal_states_give_equal_results_and_none_draws_one(x):
    codes = [Small(random_state=state).fit_transform(x) for state in (3, 3, 4, None, None)]
    assert np.array_equal(codes[0], codes[1])
    assert all(not np.array_equal(a, b) for a, b in pairwise(codes[1:]))
    state = np.random.RandomState(5)
    assert not np.array_equal(*(Small(random_state=state).fit_transform(x) for _ in range(2)))


def test_in_a_pipeline_with_a_search_in_processes():
    digits = load_digits()
    x, y = digits.data[:300], digits.target[:300]
    steps = make_pipeline(
        MinMaxScaler(clip=True),
        Small(n_components=8, reconstruction="bce", max_iter=150),
        LogisticRegression(max_iter=2000),
    )
    search = GridSearchCV(steps, {"aaetransformer__n_components": [1, 8]}, cv=2, n_jobs=2, error_score="raise")
    search.fit(x, y)
    assert search.score(x, y) > 0.5
    kept = pickle.loads(pickle.dumps(search))
    assert np.array_equal(kept.predict(x), search.predict(x))


def test_its_own_score_chooses_among_its_parameters(x):
    search = GridSearchCV(Small(), {"max_iter": np.array([1, 40])}, cv=2, error_score="raise").fit(x)
    assert search.best_params_ == {"max_iter": 40}
    assert (cross_val_score(Small(), x, cv=2, error_score="raise") < 0).all()


def test_a_clone_has_the_arguments_and_nothing_else(x):
    prior = aaecore.priors.GaussianMixture.ring(3)
    fitted = Small(prior=prior, lr={"reconstruction": 3e-3}).fit(x)
    again = clone(fitted)
    assert not hasattr(again, "model_")
    assert again.get_params()["lr"] == {"reconstruction": 3e-3}
    assert np.array_equal(again.fit(x).transform(x), fitted.transform(x))
    assert again.set_params(n_components=2, lr=None, max_iter=1).fit(x).n_iter_ == 1
    kept = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(kept.partial_fit(x).transform(x), fitted.partial_fit(x).transform(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components: expected an integer >= 1, got 0"),
        ({"max_iter": 1.5}, r"max_iter: expected an integer >= 1, got 1\.5"),
        ({"batch_size": "auto"}, "batch_size: expected an integer >= 1, got 'auto'"),
        ({"hidden": 100}, "hidden: expected a sequence"),
        ({"posterior": "normal"}, "posterior: expected one of"),
        ({"reconstruction": "bce", "output": "linear"}, "output: reconstruction='bce'"),
        ({"standardize": "yes"}, "standardize: expected True, False or None"),
        ({"standardize": True, "reconstruction": "bce"}, "standardize: expected .* got True"),
        ({"reconstruction": "bce"}, r"x: expected values in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_named_as_they_were_given(options, message, x):
    with pytest.raises((ValueError, TypeError), match=message):
        AAETransformer(**options).fit(x)


def test_progress_is_shown_if_wanted(x, capsys):
    Small().fit(x)
    assert capsys.readouterr().err == ""
    Small(verbose=True).fit(x)
    assert capsys.readouterr().err.count("epoch") == 3
