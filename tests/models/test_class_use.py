"""Models with a class and a style in use: what they give, what their files and history hold, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from class_models import KINDS, C, D, fit, make

from aaecore import ClusteringAAE, ReductionAAE, SemiSupervisedAAE, Trainer, priors
from aaecore.functions.tensor import Tensor

every_kind = pytest.mark.parametrize("kind", KINDS)


# --- what is done with a model ----------------------------------------------------------------------------------------


@every_kind
def test_probabilities_classes_and_codes(kind, x, y):
    model = fit(make(kind, "cpu"), x, y).model
    p = model.predict_proba(x)
    assert (p.shape, p.dtype) == ((130, C), np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(model.predict(x), p.argmax(axis=1))
    assert model.encode(x).shape == (130, model.latent_dim)
    r = model.reconstruct(x)
    assert r.shape == (130, D)
    each = model.evaluate(x, "none")
    assert model.evaluate(x) == pytest.approx(each.mean(), rel=1e-5)
    assert (model.sample(4).shape, model.sample(2, y=[0, 2]).shape) == ((4, D), (2, D))
    styles = np.zeros((C, model.latent_dim), np.float32)
    heads = model.decode(styles, np.arange(C))
    np.testing.assert_allclose(model.decode(styles, np.eye(C)), heads)
    assert not np.allclose(heads[0], heads[1])


def test_a_decoded_class_and_style_are_those_of_the_row(x, y):
    model = fit(make("semi-supervised", "cpu"), x, y).model
    again = model.decode(model.encode(x), model.predict_proba(x))
    np.testing.assert_allclose(again, model.reconstruct(x), atol=1e-5)


def test_labels_are_the_users_own(x, y):
    names, tens = np.array(["ant", "bee", "cat", ""])[y], np.where(y < 0, -1, 10 * y)
    by_name, by_number = (
        fit(make(kind, "cpu"), x, of_kind).model for kind, of_kind in (("phases", names), ("semi-supervised", tens))
    )
    assert set(by_name.predict(x)) <= {"ant", "bee", "cat"}
    assert by_name.score(x[y >= 0], names[y >= 0]) == np.mean(by_name.predict(x)[y >= 0] == names[y >= 0])
    assert set(by_number.predict(x)) <= {0, 10, 20}
    assert by_name.sample(2, y=["bee", "cat"]).shape == (2, D)


def test_a_reduction_has_one_size_under_two_names():
    for options in ({"dim": 3}, {"latent_dim": 3}, {"dim": 3, "latent_dim": 3}):
        model = ReductionAAE(D, hidden=(5,), **options)
        assert (model.dim, model.latent_dim, model.classes, model.heads.shape) == (3, 3, 10, (10, 3))


def test_labels_of_a_fit_that_failed_are_not_kept(x, y):
    """A misspelt one is not known ever after; those of an earlier fit stay."""
    model = make("semi-supervised", "cpu")
    names, wrong = (np.array([*three, ""])[y] for three in (("ant", "bee", "cat"), ("ant", "bee", "kat")))
    trainer = Trainer(model, 32)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^validation\[1\]: expected labels among \['ant', 'bee', 'kat'\]"):
            trainer.fit(x, 1, y=wrong, validation=(x, names), progress=False)
        assert model.labels is None
    trainer.fit(x, 1, y=names, validation=(x, names), progress=False)
    with pytest.raises(ValueError, match="expected labels among"):
        trainer.fit(x, 2, y=names, validation=(x, wrong), progress=False)
    assert model.labels == ("ant", "bee", "cat")


def test_names_are_no_labels_of_a_model_of_numbers(x, y):
    model = fit(make("semi-supervised", "cpu"), x, y).model
    with pytest.raises(ValueError, match=r"^y: expected labels among \[0, 1, 2\]"):
        model.decode(np.zeros((2, 2)), ["ant", "bee"])


def test_heads_of_clusters_and_of_reductions(x, y):
    clusters = fit(make("clustering", "cpu"), x, y).model
    assert clusters.cluster_heads().shape == (C, D)
    reduced = fit(make("reduction", "cpu"), x, y).model
    codes = reduced.predict_proba(x) @ reduced.heads
    near = np.linalg.norm(reduced.encode(x) - codes, axis=1)
    assert reduced.heads.shape == (C, 2)
    np.testing.assert_allclose(reduced.decode(reduced.encode(x)), reduced.reconstruct(x), atol=1e-5)
    styles = reduced.encode(x) - codes
    np.testing.assert_allclose(reduced.decode(styles, reduced.predict_proba(x)), reduced.reconstruct(x), atol=1e-4)
    assert near.max() < 100
    fixed = make("reduction, fixed", "cpu")
    assert np.array_equal(fixed.heads, 10 * np.eye(C))
    on_circle = fixed.projected(fixed.heads)
    np.testing.assert_allclose(np.linalg.norm(on_circle, axis=1), 10)
    np.testing.assert_allclose(on_circle.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(fit(fixed, x, y).model.heads, 10 * np.eye(C))


def test_heads_too_near_are_pushed_apart(x, y):
    model = make("reduction", "cpu", head_weight=5.0, head_distance=4.0)
    model.backend.upload(model.centres.table.buffer, np.array([[0, 0], [0.1, 0], [0, 0.1]], np.float32))
    fit(model, x, y, 60, lr=1e-2)
    apart = np.linalg.norm(model.heads[:, None] - model.heads, axis=2)[np.triu_indices(C, 1)]
    assert apart.min() > 3.5


def test_recomputed_statistics_are_those_of_the_rows(x, y):
    model = fit(make("settings", "cpu", batch_statistics="recomputed"), x, y).model
    raw = model.trunk.layers[0](model.seen(Tensor(model.backend.from_host(x)))).numpy().astype(np.float64)
    moments = model.backend.to_host(model.trunk.norms[0].moments)
    np.testing.assert_allclose(moments, [raw.mean(axis=0), raw.var(axis=0)], rtol=1e-4, atol=1e-5)
    running = fit(make("settings", "cpu", batch_statistics="running"), x, y).model
    kept = running.backend.to_host(running.trunk.norms[0].moments)
    assert not np.allclose(kept, moments, rtol=1e-3)
    assert np.abs(kept[0]).max() > 0.01  # ten steps have moved them from 0


def test_history_says_how_classes_are_used(x, y):
    row = fit(make("clustering", "cpu"), x, y).model.health(x)
    assert 1 <= row["classes_used"] <= C
    assert 1 / C <= row["confidence"] <= 1
    assert "code_mmd" in row
    labelled = fit(make("semi-supervised", "cpu"), x, y)
    error = np.mean(labelled.model.predict(x)[y >= 0] != y[y >= 0])
    assert labelled.history["error"][-1] == pytest.approx(error)
    early, late = {"step": 10, "classes_used": 1.0}, {"step": 10**6, "classes_used": 1.0}
    model = make("clustering", "cpu")
    assert "y uses 1.0 classes, by its entropy, where its prior has 3.0; try" in model.advice(late)
    assert model.advice(early) == ""
    assert make("clustering", "cpu", label_prior=priors.Categorical([98, 1, 1])).advice(late) == ""


@pytest.mark.parametrize("statistics", ["running", "recomputed"])
def test_an_average_has_the_moments_of_batch_norm_and_heads_of_its_own(statistics, x, y):
    """Running ones are those of the batches; recomputed ones those that its own weights make of the rows."""
    model = fit(make("reduction", "cpu", average=0.9, batch_norm="all", batch_statistics=statistics), x, y, 4).model
    kept, followed = (model.backend.to_host(net.norms[0].moments) for net in (model.trunk_average, model.trunk))
    if statistics == "running":
        assert np.array_equal(kept, followed)
    else:
        raw = model.trunk_average.layers[0](model.seen(Tensor(model.backend.from_host(x)))).numpy().astype(np.float64)
        np.testing.assert_allclose(kept, [raw.mean(axis=0), raw.var(axis=0)], rtol=1e-4, atol=1e-5)
    assert not np.array_equal(model.heads, model.centres.table.numpy())
    assert np.array_equal(model.heads, model.centres_average.table.numpy())
    codes = model.predict_proba(x) @ model.heads
    styles = model.encode(x) - codes
    np.testing.assert_allclose(model.decode(styles, model.predict_proba(x)), model.reconstruct(x), atol=1e-4)


def test_an_average_begins_as_a_mean_of_all_weights(x, y):
    model = make("clustering", "cpu", average=0.9)
    assert [model.dials()["average"](step) for step in (0, 1, 3, 9, 500)] == pytest.approx([1, 0.5, 0.25, 0.1, 0.1])
    seen = []
    trainer = Trainer(model, 32)
    for part in (x[:32], x[32:64]):
        trainer.step(part)
        seen.append(model.trunk.layers[0].weight.numpy())
    np.testing.assert_allclose(model.trunk_average.layers[0].weight.numpy(), (seen[0] + seen[1]) / 2, rtol=1e-5)


def test_a_state_without_moments_is_refused_and_one_without_units_taken_as_it_is(x, y):
    """Weights from elsewhere are for data as they are; with the moments of nothing they would be wrong everywhere."""
    model = fit(make("settings", "cpu"), x, y).model
    values = model.state_dict()
    moments, units = ({name: v for name, v in values.items() if part not in name} for part in ("moments", "inputs."))
    with pytest.raises(ValueError, match=r"^state_dict: missing \['decoder.0.norm.moments'"):
        model.load_state_dict(moments)
    model.load_state_dict({name: v for name, v in units.items() if not name.startswith("codes.")})
    assert model.state_dict()["inputs.scale"] == 1


def test_looks_at_the_weights_leave_no_moments_behind(x, y):
    trainer = fit(make("settings", "cpu"), x, y)
    before = trainer.model.state_dict()
    for _ in range(50):
        trainer._maker.check()
    assert len(trainer.model.trunk.norms[0]._seen) <= 1
    trainer.fit(x, 3, y=y, progress=False)
    assert any(not np.array_equal(v, before[k]) for k, v in trainer.model.state_dict().items())


# --- what is refused --------------------------------------------------------------------------------------------------


def test_options_that_do_not_go_together():
    semi, reduction = KINDS["semi-supervised"][1], {"classes": C}
    for cls, options, message in (
        (
            SemiSupervisedAAE,
            {**semi, "label_prior": priors.Normal()},
            r"^label_prior: expected a Categorical, got Normal",
        ),
        (
            SemiSupervisedAAE,
            {**semi, "label_prior": priors.Categorical([1, 2])},
            r"^label_prior: expected 3 weights",
        ),
        (SemiSupervisedAAE, {**semi, "consistency": "translation"}, r"^image_shape: expected height and width"),
        (
            SemiSupervisedAAE,
            {**semi, "consistency": "noise", "input_dropout": 0.0},
            r"^consistency: expected input_noise or input_dropout",
        ),
        (SemiSupervisedAAE, {**semi, "average": 1.0}, r"^average: expected a number"),
        (ClusteringAAE, {"clusters": 1}, r"^clusters: expected an integer >= 2, got 1"),
        (ReductionAAE, {**reduction, "fixed_heads": True}, r"^dim: expected as many features as classes, 3"),
        (ReductionAAE, {**reduction, "dim": 2, "latent_dim": 3}, r"^latent_dim: expected dim, 2, or None, got 3"),
        (ReductionAAE, {**reduction, "labelled": False, "labels": "abc"}, r"^labels: expected different"),
        (ReductionAAE, {**reduction, "labelled": False, "labels": ["a", "b", "c"]}, r"^labels: expected None beside"),
    ):
        with pytest.raises(ValueError, match=message):
            cls(D, hidden=(5,), **options)


def test_data_and_labels_that_do_not_fit(x, y):
    model = make("semi-supervised", "cpu")
    trainer = Trainer(model, 32)
    for of_rows, message in (
        (None, r"^y: expected a label for at least one row, since SemiSupervisedAAE learns from labels, got None"),
        (np.full(130, -1), r"^y: expected a label for at least one row.* got only -1"),
        (np.arange(130), r"^y: expected at most 3 different labels"),
        (y[:-1], r"^y: expected shape \(130,\)"),
        (y + 0.5, r"^y: expected whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.fit(x, 1, y=of_rows, progress=False)
    with pytest.raises(ValueError, match=r"^y: expected None, since ClusteringAAE takes no labels"):
        Trainer(make("clustering", "cpu"), 32).fit(x, 1, y=y, progress=False)
    for call, message in (
        (lambda: model.decode(np.zeros((2, 2)), [0, 3]), r"^y: expected classes from 0 to 2"),
        (lambda: model.decode(np.zeros((2, 2)), [0]), r"^y: expected shape \(2,\)"),
        (lambda: model.decode(np.zeros((2, 2)), [0, -1]), r"^y: expected a label for every row, got none at row 1"),
        (lambda: model.decode(np.zeros((2, 2))), r"^y: expected \(2,\) labels, or \(2, 3\) numbers, got None"),
        (lambda: model.decode(np.zeros((2, 2)), np.zeros((3, 3))), r"^y: expected shape \(2, 3\), got \(3, 3\)"),
        (lambda: model.score(x, y), r"^y: expected a label for every row"),
        (lambda: make("reduction, no labels", "cpu").score(x, y), r"^score: expected a model that learns labels"),
        (
            lambda: make("reduction", "cpu").projected(np.zeros((2, 3))),
            r"^projected: expected a model with fixed_heads",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert model.labels is None


def test_one_label_for_each_class_is_enough(x):
    """They come round as often as they are needed; a class that never occurs is no error either."""
    y = np.full(130, -1)
    y[:2] = 0, 2
    trainer = fit(make("semi-supervised", "cpu"), x, y)
    assert trainer.steps == 10
