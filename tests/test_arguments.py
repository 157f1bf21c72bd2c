"""Checks of arguments: what is taken, what is refused, and that all places agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from aaecore import AAE, Trainer, arguments, callbacks, get_num_threads, priors, schedules, set_num_threads

INTEGERS: dict[str, Callable[[object], object]] = {  # by the name of the argument
    "input_dim": lambda n: AAE(n, 2, (4,), device="reference"),
    "batch_size": lambda n: Trainer(AAE(3, 2, (4,), device="reference"), n),
    "patience": lambda n: callbacks.EarlyStopping(patience=n),
    "components": lambda n: priors.GaussianMixture.ring(n),
    "steps": lambda n: schedules.Cosine(n),
    "milestones": lambda n: schedules.StepWise([n]),
    "n": lambda n: set_num_threads(n),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("name", INTEGERS)
def test_every_count_takes_numpys_integers_and_refuses_the_same_values(name: str) -> None:
    INTEGERS[name](np.int64(1))
    for value in (True, 0, -1, 1.0, "3", None, np.float32(2)):
        with pytest.raises(ValueError, match=rf"{name}: expected an integer (>= 1|from 1 to 256), got "):
            INTEGERS[name](value)


def test_a_schedule_holds_numbers_that_a_file_takes() -> None:
    made = schedules.config(schedules.Cosine(np.int64(5), np.float32(0.5)))
    assert made == {"type": "Cosine", "steps": 5, "floor": 0.5}
    assert [type(value) for value in made.values()] == [str, int, float]
    milestones = schedules.config(schedules.StepWise(np.array([7, 3])))["milestones"]
    assert milestones == (3, 7)
    assert {type(value) for value in milestones} == {int}


def test_numbers() -> None:
    assert arguments.number("x", np.float32(0.5), 0.0) == 0.5
    for value in (-0.1, 1.0, float("nan"), 1e39):
        with pytest.raises(ValueError, match="x: expected a number >= 0 and < 1, got"):
            arguments.number("x", value, 0.0, 1.0)
    with pytest.raises(ValueError, match="x: expected a number > 0, got 0"):
        arguments.number("x", 0, 0.0, open_low=True)
    for other in (True, "1", None):
        with pytest.raises(TypeError, match="x: expected a number >= 0, got"):
            arguments.number("x", other, 0.0)


def test_seeds() -> None:
    assert arguments.seed(np.uint64(2**63 - 1)) == 2**63 - 1
    for value in (-1, 2**63, True, 1.0):
        with pytest.raises(ValueError, match=r"seed: expected an integer from 0 to 2\^63 - 1, got"):
            arguments.seed(value)


def test_what_no_float_can_hold() -> None:
    for value in (10**400, -(10**400), float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"^std: expected a number > 0, got "):
            priors.Normal(std=value)


def test_a_thousand_layers_are_enough() -> None:
    with pytest.raises(ValueError, match=r"^hidden: expected at most 1000 integers, got 1001$"):
        AAE(3, 2, [1] * 1001, device="reference")
