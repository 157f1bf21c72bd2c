"""Models with labels, batch norm, dropout and averages on the CUDA backend: as on the CPU, and replayed as launched."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from class_models import KINDS, fit, labels, make, rows
from trained import same, state

from aaecore import Trainer

pytestmark = [cuda_devices.needs_device, pytest.mark.usefixtures("cuda_device")]
KEPT = {"average": 0.9, "batch_statistics": "recomputed"}
CONSISTENT = {
    "translation": {"consistency": "translation", "image_shape": (3, 4), "most_shift": 1},
    "adversarial": {"consistency": "adversarial", "radius": 1.0, "batch_norm": "encoder"},
}


def trained(kind, device, *, record=True, epochs=1, **options):
    """In full batches: the rows that are left make variances of next to nothing, which batch norm divides by."""
    return fit(make(kind, device, **{**KEPT, **options}), rows()[:128], labels()[:128], epochs, record=record)


@pytest.mark.parametrize("kind", KINDS)
def test_models_agree_with_the_cpu_and_replay_what_they_launch(kind):
    ours, eager, theirs = trained(kind, "cuda"), trained(kind, "cuda", record=False), trained(kind, "cpu")
    assert same(ours, eager)
    plain = ours.model.batch_norm == "none"  # it takes biases away again, so that Adam makes steps of their rounding
    for name in ours.names:
        rtol = 1e-4 if plain else 1e-3
        np.testing.assert_allclose(ours.history[name], theirs.history[name], rtol=rtol, err_msg=name)
    p, q = (t.model.predict_proba(rows()) for t in (ours, theirs))
    np.testing.assert_allclose(p, q, atol=2e-3)
    if plain:
        for a, b in zip(state(ours), state(theirs), strict=True):
            assert np.linalg.norm(a - b) < 2e-3 * (np.linalg.norm(b) + 0.1)


@pytest.mark.parametrize("name", CONSISTENT)
def test_consistency_agrees_with_the_cpu(name):
    ours, theirs = (trained("semi-supervised", device, **CONSISTENT[name]) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(ours.model.predict_proba(rows()), theirs.model.predict_proba(rows()), atol=2e-3)


def test_a_resume_in_bf16(tmp_path):
    whole, half = (trained("settings", "cuda", epochs=n, precision="bf16") for n in (2, 1))
    half.save(tmp_path / "half.h5")
    resumed = Trainer.resume(tmp_path / "half.h5", device="cuda")
    resumed.fit(rows()[:128], 2, y=labels()[:128], validation=(rows()[:128], labels()[:128]), progress=False)
    assert same(whole, resumed)
