"""The transformer of scikit-learn: its own checks of estimators, and what people do with one."""

import importlib
import inspect
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
from sklearn.exceptions import NotFittedError  # noqa: E402
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


FAILURES = {
    "an argument of the model": ({"posterior": "normal"}, 1.0, ValueError),
    "an argument of the trainer": ({"batch_size": 0}, 1.0, ValueError),
    "an argument of fit": ({"max_iter": 0}, 1.0, ValueError),
    "data out of range": ({"reconstruction": "bce"}, 1.0, ValueError),
    "a loss that is not finite": ({"lr": 1e30}, 1.0, FloatingPointError),
    "no numbers": ({}, np.nan, ValueError),
}


@pytest.mark.parametrize(
    ("why", "method"),
    [
        (why, method)
        for why in FAILURES
        for method in ("fit", "partial_fit")
        if (why, method) != ("an argument of fit", "partial_fit")
    ],
)
def test_a_first_fit_that_fails_leaves_nothing(why, method, x):
    options, factor, error = FAILURES[why]
    coded = Small(**options)
    with np.errstate(all="ignore"), pytest.raises(error):
        getattr(coded, method)(factor * x)
    for use in (coded.transform, coded.score_samples, coded.inverse_transform):
        with pytest.raises(NotFittedError):
            use(x)
    assert not [name for name in vars(coded) if name.endswith("_")]


@pytest.mark.parametrize("why", FAILURES)
def test_a_refit_that_fails_leaves_the_old_one(why, x):
    options, factor, error = FAILURES[why]
    coded = Small().fit(x)
    before, there = coded.transform(x), vars(coded).copy()
    wider = np.concatenate([5 + 9 * x, x], axis=1)
    with np.errstate(all="ignore"), pytest.raises(error):
        coded.set_params(**options).fit(factor * wider)
    assert coded.n_features_in_ == 6
    assert np.array_equal(coded.transform(x), before)
    assert {name: value for name, value in vars(coded).items() if name not in options} == {
        name: value for name, value in there.items() if name not in options
    }
    coded.set_params(**{name: there[name] for name in options}).partial_fit(x)
    assert coded.n_iter_ == 4


def test_part_by_part_heeds_another_rate_and_batch_size(x):
    parts = Small(lr=1e-3).partial_fit(x)
    suggested = dict(aaecore.Trainer(parts.model_).lr)
    rates = {**suggested, "discriminator": 2e-4}
    for lr, expected in (({"discriminator": 2e-4}, rates), (None, suggested)):
        steps = parts.trainer_.steps
        parts.set_params(lr=lr, batch_size=50).partial_fit(x)
        assert dict(parts.trainer_.lr) == expected
        assert parts.trainer_.steps == steps + 6
    still = parts.transform(x)
    parts.set_params(lr=0.0).partial_fit(x)
    assert np.array_equal(parts.transform(x), still)
    for options in ({"lr": "fast"}, {"lr": {"no": 1.0}}, {"batch_size": 0}):
        before = parts.get_params()
        for _ in range(2):
            with pytest.raises((ValueError, TypeError), match=f"^{next(iter(options))}: expected "):
                parts.set_params(**options).partial_fit(x)
        parts.set_params(**before)
    assert parts.n_iter_ == 4
    parts.trainer_.lr = 5e-4  # by hand, which stays
    assert parts.partial_fit(x).trainer_.lr["reconstruction"] == 5e-4


def test_part_by_part_refuses_what_only_a_new_fit_can_heed(x):
    others = {
        "n_components": 3, "hidden": (16, 16), "posterior": "gaussian", "prior": aaecore.priors.Uniform(),
        "reconstruction": "bce", "output": "sigmoid", "standardize": False, "activation": "tanh",
        "generator_weight": 0.5, "gradient_penalty": 0.0, "device": "reference", "random_state": 1,
    }  # fmt: skip
    heeded = {"lr": 1e-3, "batch_size": 99, "max_iter": 9, "verbose": 0}
    assert {*others, *heeded} == {*Small().get_params()}
    parts = Small().partial_fit(x)
    before, weights = parts.get_params(), parts.model_.state_dict()
    for name, value in others.items():
        with pytest.raises(
            ValueError, match=rf"^{name}: expected .*, which the model was made with \(only fit .* got "
        ):
            parts.set_params(**{name: value}).partial_fit(x)
        parts.set_params(**before)
    assert all(np.array_equal(value, weights[name]) for name, value in parts.model_.state_dict().items())
    same = {"hidden": np.array([16]), "prior": None, "n_components": np.int64(2)}
    assert pickle.loads(pickle.dumps(parts)).set_params(**same, **heeded).partial_fit(x).n_iter_ == 2
    assert parts.set_params(**others).set_params(reconstruction="mse", output=None).fit(x).model_.latent_dim == 3


def test_what_is_not_said_is_as_the_model_has_it(x):
    ours, own = (inspect.signature(kind).parameters for kind in (AAETransformer, aaecore.AAE))
    for name in ("generator_weight", "gradient_penalty"):
        assert ours[name].default == own[name].default
    made = Small(generator_weight=0.25, gradient_penalty=1.5).fit(x).model_
    assert (made.generator_weight, made.gradient_penalty) == (0.25, 1.5)


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
        ({"generator_weight": -1.0}, "generator_weight: expected a number >= 0, got -1"),
        ({"gradient_penalty": "no"}, "gradient_penalty: expected a number >= 0, got 'no'"),
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
