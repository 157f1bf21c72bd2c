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


def test_what_float32_cannot_hold() -> None:
    for value in (10**400, -(10**400), 10**5000, 1e39, float("nan"), float("inf"), 1e-39, 5e-324, np.float16("inf")):
        with pytest.raises(ValueError, match=r"^std: expected a number > 0, got "):
            priors.Normal(std=value)


def test_integers_that_nothing_can_count() -> None:
    model = AAE(3, 2, (4,), device="reference")
    for value in (2**63, 10**400, 10**5000):
        with pytest.raises(ValueError, match=r"^n: expected an integer >= 1 and < 2\^63, got "):
            model.sample(value)
        with pytest.raises(ValueError, match=r"^milestones: expected an integer >= 1 and < "):
            schedules.StepWise([value])
        with pytest.raises(ValueError, match=r"^seed: expected an integer from 0 to 2\^63 - 1, got"):
            AAE(3, 2, (4,), device="reference", seed=value)


def test_sizes_that_no_memory_has() -> None:
    """One error, whether the system refuses them or NumPy would not even count them."""
    model = AAE(3, 2, (4,))
    for value in (2**63 - 1, 2**62, 2**60, 2**55):
        for use in (
            model.sample, model.sample_prior, priors.Normal().sample, lambda n: AAE(3, 2, (n,)),
            lambda n: AAE(n, 2, (4,)),
        ):  # fmt: skip
            with pytest.raises(MemoryError):
                use(value)
    for bad in (-1, 1.5, "3", None, 2**63):
        with pytest.raises(ValueError, match=r"^n: expected an integer >= 1"):
            priors.Normal().sample(bad)  # type: ignore[arg-type]


def test_a_message_is_short_whatever_came() -> None:
    class Mine:
        def __repr__(self) -> str:
            raise KeyError

    assert arguments.shown([1, "a"]) == "[1, 'a']"
    assert arguments.shown(Mine()) == "one of Mine"
    assert arguments.shown(10**5000) == "one of int"
    assert arguments.shown("x" * 10**6) == f"'{'x' * 199}... (1000002 characters)"
    for make in (
        lambda: AAE([1] * 10**6, 2, (4,)),  # type: ignore[arg-type]
        lambda: AAE(3, 2, "4" * 10**6),
        lambda: AAE(3, 2, (4,), posterior="x" * 10**6),
        lambda: AAE(3, 2, (4,), device="x" * 10**6),
        lambda: schedules.Cosine(5, "x" * 10**6),  # type: ignore[arg-type]
        lambda: priors.Categorical([-1.0] * 10**6),
    ):
        with pytest.raises((ValueError, TypeError)) as info:
            make()
        assert len(str(info.value)) < 500


def test_a_step_wise_schedule_whose_factors_no_float_holds() -> None:
    assert schedules.StepWise([1, 2], 1e18)(5) == 1e36
    assert schedules.StepWise(iter([2, 1]))(1) == 0.1
    for milestones, factor in (([1, 2], 1e20), (range(1, 1000), 1.1)):
        with pytest.raises(ValueError, match=r"^factor: expected a number whose power of .* float32 can hold, got "):
            schedules.StepWise(milestones, factor)
    for value in (5, "12", None):
        with pytest.raises(TypeError, match=r"^milestones: expected integers >= 1, got "):
            schedules.StepWise(value)  # type: ignore[arg-type]


def test_a_thousand_layers_are_enough() -> None:
    with pytest.raises(ValueError, match=r"^hidden: expected at most 1000 integers, got 1001$"):
        AAE(3, 2, [1] * 1001, device="reference")
