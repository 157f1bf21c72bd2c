"""Rows and labels that small models are trained on, unless a file has its own, and how many threads train them."""

import class_models
import pytest

from aaecore import get_num_threads, set_num_threads


@pytest.fixture
def x():
    return class_models.rows()


@pytest.fixture
def y():
    return class_models.labels()


@pytest.fixture
def threads():
    """Sets how many the process has, for a test."""
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)
