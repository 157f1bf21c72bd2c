"""Rows and labels that small models are trained on, unless a file has its own."""

import class_models
import pytest


@pytest.fixture
def x():
    return class_models.rows()


@pytest.fixture
def y():
    return class_models.labels()
