"""Looks at the codes while a model trains: they are repeatable, and what is said of them fits."""

from __future__ import annotations

import numpy as np
import pytest
from trained import DEFAULT, D, StopAt, model, rows

from aaecore import Trainer
from aaecore.models import health
from aaecore.models.health import EARLY, LEAST_SPREAD, MMD, MOST_MMD, MOST_OFFSET, MOST_SPREAD, NAMES, OFFSET, SPREAD


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def often(monkeypatch):
    """A look after every other epoch of five steps."""
    monkeypatch.setattr(health, "MOST_APART", 10)


def trainer(**options):
    return Trainer(model(posterior="gaussian", **DEFAULT, **options), 32)


def test_two_looks_see_the_same(x):
    """Though a Gaussian posterior draws its codes, and others draw in between."""
    made = trainer().model
    first = made.health(x)
    made.sample(7)
    made.encode(x, sample=True)
    assert made.health(x) == first
    assert first.keys() == set(NAMES)
    assert trainer(seed=2).model.health(x) != first


def test_looks_change_no_numbers(x):
    looked, alone = trainer(), trainer()
    for made in (looked, alone):
        made.fit(x, 1, progress=False)
    looked.model.health(x)
    for made in (looked, alone):
        made.fit(x, 2, progress=False)
    assert looked.history.rows == alone.history.rows
    assert np.array_equal(looked.model.sample(5), alone.model.sample(5))


@pytest.mark.parametrize("stop", [5, 13], ids=["between epochs", "within one"])
def test_a_resume_sees_what_the_whole_run_saw(stop, often, x, tmp_path):
    whole, part = trainer(), trainer()
    whole.fit(x, 6, progress=False)
    part.fit(x, 6, callbacks=[StopAt(stop)], progress=False)
    part.save(tmp_path / "part.h5")
    resumed = Trainer.resume(tmp_path / "part.h5")
    resumed.fit(x, 6, progress=False)
    assert [SPREAD in row for row in whole.history.rows] == [False, True] * 3
    assert resumed.history.rows == whole.history.rows


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_rows_of_a_device_give_the_same(device, kind):
    """More of them than are looked at."""
    made = trainer(device=device).model
    x = np.random.default_rng(0).integers(0, 256, (700, D)).astype(kind)
    if kind == np.float32:
        x /= 255
    buffer = made.backend.from_host(x, "uint8" if kind == np.uint8 else "real")
    assert made.health(buffer) == made.health(x)


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.fixture
def measured():
    return health.Health(*np.random.default_rng(0).normal(2, 3, (5, 256, 4)))


def codes(**changed):
    """A fresh sample of the prior above, but for a feature."""
    z = np.random.default_rng(7).normal(0, 1, (256, 4))
    z[:, 2] = changed.get("scale", 1) * z[:, 2] + changed.get("shift", 0)
    return (3 * z + 2).astype(np.float32)


def test_a_fresh_sample_is_near_the_best(measured):
    found = measured.measure(codes())
    assert found[OFFSET] < 0.2
    assert found[SPREAD] == pytest.approx(1, abs=0.15)
    assert 0.3 < found[MMD] < 3


@pytest.mark.parametrize("scale", [0.2, 4.0])
def test_the_spread_is_of_the_feature_furthest_from_one(scale, measured):
    assert measured.measure(codes(scale=scale))[SPREAD] == pytest.approx(scale, rel=0.15)


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_the_offset_is_in_standard_deviations_of_the_prior(shift, measured):
    assert measured.measure(codes(shift=shift))[OFFSET] == pytest.approx(2, abs=0.2)


def test_the_discrepancy_sees_what_moments_do_not(measured):
    """Two corners of a cube, whose features have the prior's mean and spread."""
    corners = 3 * np.repeat([[-1.0], [1.0]], 128, 0) * np.ones((1, 4)) + 2
    found = measured.measure(corners)
    assert found[OFFSET] < 0.2
    assert found[SPREAD] == pytest.approx(1, abs=0.1)
    assert found[MMD] > 3 * MOST_MMD


# --- when, and in what words ------------------------------------------------------------------------------------------


def test_when_a_look_is_due():
    """A run of small steps looks every 300 steps; of large ones as often as costs little; never twice for nothing."""
    assert [health.due(steps, steps - 50, 1000, 10) for steps in range(50, 701, 50)] == [
        steps in (300, 600) for steps in range(50, 701, 50)
    ]
    assert health.due(1000, 250, 1000, 10), "an epoch of many steps"
    assert not health.due(299, 0, 1000, 10)
    assert not health.due(600, 600, 1000, 10)
    large = round(health.WORK / (6 * 40)), 1  # a look after 40 steps
    assert health.due(40, 39, *large)
    assert not health.due(39, 0, *large)
    assert health.due(1, 0, 10**9, 10**3), "after every step at the most"


HELD = {"step": EARLY, OFFSET: MOST_OFFSET, SPREAD: 1.0, MMD: MOST_MMD}


@pytest.mark.parametrize(
    ("trouble", "said", "remedies"),
    [
        ({SPREAD: 0.5}, "in a feature they spread 0.50 times", ["epochs", "larger generator_weight", "fewer features"]),
        ({SPREAD: 2.0}, "in a feature they spread 2.00 times", ["epochs", "larger generator_weight"]),
        ({OFFSET: 0.75}, "their mean lies 0.75 of its standard deviations", ["epochs", "lower learning rate"]),
        ({MMD: 12.4}, "their discrepancy is 12 times", ["epochs", "larger generator_weight", "fewer features"]),
        ({SPREAD: 0.5, OFFSET: 9.0, MMD: 99.0}, "in a feature they spread 0.50 times", []),
    ],
    ids=["narrow", "wide", "beside", "of another shape", "the first of several"],
)
def test_each_trouble_has_its_words(trouble, said, remedies):
    words = model().advice({**HELD, **trouble})
    assert words.startswith(f"the codes do not hold the prior: {said}")
    assert all(remedy in words.split("; try ")[1] for remedy in remedies)


@pytest.mark.parametrize(
    "row",
    [
        HELD,
        {**HELD, SPREAD: LEAST_SPREAD},
        {**HELD, SPREAD: MOST_SPREAD},
        {**HELD, SPREAD: 0.1, "step": EARLY - 1},
        {"step": 9 * EARLY},
        {**HELD, SPREAD: 0.1, MMD: None},
    ],
    ids=["held", "still not narrow", "still not wide", "early", "without a look", "without a measure"],
)
def test_nothing_is_said_where_nothing_is_wrong(row):
    assert model().advice(row) == ""
