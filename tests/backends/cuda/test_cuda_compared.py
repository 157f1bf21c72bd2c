"""GAN, GMMN, WAE and denoising autoencoders on the CUDA backend: as on the CPU, and replayed as launched."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from compared_models import CODED, KINDS, coder, fit, make, rows
from trained import same, state

from aaecore import Trainer

pytestmark = [cuda_devices.needs_device, pytest.mark.usefixtures("cuda_device")]


@pytest.mark.parametrize("kind", KINDS)
def test_models_agree_with_the_cpu_and_replay_what_they_launch(kind):
    """In full batches: the rows that are left make variances of next to nothing, which batch norm divides by."""
    given = {"autoencoder": coder("cpu")} if kind in CODED else {}
    ours, eager, theirs = (
        fit(make(kind, device, **given), rows()[:128], 1, record=record)
        for device, record in (("cuda", True), ("cuda", False), ("cpu", True))
    )
    assert same(ours, eager)
    for name in ours.names:
        np.testing.assert_allclose(ours.history[name], theirs.history[name], rtol=1e-3, atol=1e-6, err_msg=name)
    if getattr(ours.model, "batch_norm", "none") == "none":
        for a, b in zip(state(ours), state(theirs), strict=True):
            assert np.linalg.norm(a - b) < 2e-3 * (np.linalg.norm(b) + 0.1)
    assert np.array_equal(ours.model.sample(5), eager.model.sample(5))
    assert ours.model.sample(5, on_device=True).shape == (5, 12)


@pytest.mark.parametrize("kind", ["GAN", "GMMN, codes", "WAE", "DenoisingAE"])
def test_a_resume_in_bf16(kind, tmp_path):
    whole, half = (fit(make(kind, "cuda", precision="bf16"), rows()[:64], n) for n in (2, 1))
    half.save(tmp_path / "half.h5")
    resumed = Trainer.resume(tmp_path / "half.h5", device="cuda")
    resumed.fit(rows()[:64], 2, progress=False)
    assert same(whole, resumed)
