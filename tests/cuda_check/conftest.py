"""These checks take minutes and need more than the tests do: AAECORE_REQUIRE_CUDA_CHECK=1 asks for them."""

from __future__ import annotations

import os

import pytest

ASKED = os.environ.get("AAECORE_REQUIRE_CUDA_CHECK") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="part of `make cuda-check`, which sets AAECORE_REQUIRE_CUDA_CHECK=1")
    for item in items:
        if not ASKED and "cuda_check" in item.path.parts:
            item.add_marker(skip)
