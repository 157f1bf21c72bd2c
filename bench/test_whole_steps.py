"""One step of every model against PyTorch in float64, and what is compared, which needs no PyTorch."""

from __future__ import annotations

import pytest
import whole_steps
from alternate import versions
from whole_steps import CHECKED

SAME = 1e-9  # of float64: sums of some dozens of numbers in another order, amplified by Adam where gradients are small


@pytest.fixture(scope="module")
def server():
    if "torch" not in versions():
        pytest.skip("PyTorch is not installed; AAECORE_PEERS_PYTHON names a Python that has it")
    with whole_steps.pytorch() as server:
        yield server


@pytest.mark.parametrize("work", CHECKED, ids=str)
def test_a_step_is_pytorchs(work, server):
    for found in whole_steps.against(server, work, "reference"):
        assert max(found) < SAME
