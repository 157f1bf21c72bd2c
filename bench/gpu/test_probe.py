"""The machine's own kernels, without a machine."""

from __future__ import annotations

import numpy as np
import pytest

from gpu import probe
from gpu.harness_kit import need


def test_how_a_tensor_core_rounds_is_told_from_its_sums():
    a, b, d = probe.asked()
    nearest = probe.answers((a.astype(np.float64) @ b + d).astype(np.float32))
    assert probe.verdict(nearest) == "to nearest, with three or more extra bits of the addends"
    cut = dict.fromkeys(nearest, 0.0)
    assert probe.verdict(cut) == "toward zero, with no extra bits of the addends"
    assert probe.verdict(cut | {"two halves of an ulp to 1": 1.0}).startswith("toward zero, with one")


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_probes_compile(architecture):
    need("cupy")
    assert len(probe.cubin(architecture)) > 1000
