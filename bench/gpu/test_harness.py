"""What can be tried of the measurements of `make gpu` without a GPU: timing on the emulated device."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cuda_devices
import equal
import numpy as np
import pytest
from cases import CASES
from sizes import Size

from aaecore import cuda
from aaecore.geometry import KERNELS, kernels_of
from aaecore.ops import OPS
from gpu import ceilings, epoch, model, probe, profile, sanitize

HERE = Path(__file__).resolve().parent
TINY = Size(12, 9, 2, 7)


def test_every_kernel_is_given_to_the_sanitizer():
    cases = sanitize.chosen()
    assert {op for op, *_ in cases} == set(CASES) == set(OPS)
    kernels = {kernel for op, i, chip in cases for kernel, _ in kernels_of(op, CASES[op][i].dims, chip)}
    runs = dict(sanitize.parts())["kernels of several calls"]
    kernels |= {f"{pattern}{suffix or '_ffma'}" for pattern, suffix, _ in (run.args for run in runs)}
    assert kernels == set(KERNELS)


# --- measuring, on the emulated device --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "ffma", "tf32", "bf16"])
@pytest.mark.parametrize("variant", ["eager", "replay", "burst", "trainer"])
def test_a_step_is_timed_on_the_device(variant, precision, emulated, monkeypatch):
    monkeypatch.syspath_prepend(HERE.parent / "peers")
    import aaecore_peer
    import peer

    options = peer.Options(TINY, variant, precision, 1, "cuda")
    timed = aaecore_peer.step(options, [np.full((7, 12), 0.5, np.float32)] * 2)
    assert timed.steps == (aaecore_peer.BURST if variant == "burst" else 1)
    assert all(ms > 0 for ms in peer._timings(timed, 0.0, 1))


def test_ceilings_and_kernels_are_measured_on_the_device(emulated, monkeypatch):
    backend = cuda_devices.backend()
    rows = [
        *ceilings.memory(backend, 1 << 12, 1 << 12), *ceilings.memcpy(backend, 1 << 12),
        *ceilings.nodes(backend, 4), *ceilings.launches(backend, 4),
        *ceilings.products_round(lambda fp32: cuda.CudaBackend(backend.driver, fp32), 9, 40),
    ]  # fmt: skip
    assert all(np.isfinite(row["value"]) for row in rows)
    assert max(abs(row["value"]) for row in rows if row["unit"] == "2^-24") < 10
    monkeypatch.setattr(profile, "LAUNCHES", 2)
    monkeypatch.setitem(profile.GPU_SIZES, "tiny", TINY)
    known = {"mma bf16 on registers": 1e9, "copy within the cache": 1e9}
    whole, *kernels = profile.profile("tiny", "bf16", "cuda", known, 1e-4)
    assert whole["step us"] > 0
    assert whole["one by one us"] > 0
    assert {row["op"] for row in kernels} >= {"linear_forward_bf16", "bce_logits", "adam_advance", "rng_advance"}
    assert all(row["us"] > 0 and row["kernel"] for row in kernels)


def test_the_bound_of_a_launch():
    call = SimpleNamespace(name="linear_forward", dims=(100, 1000, 1000, 1), scalars=(0.0,))
    known = {"mma tf32 on registers": 3e14, "copy within the cache": 1e13}
    assert profile.bound(call, "fp32", known) == pytest.approx(3 * 2e8 / 3e14)
    assert profile.bound(call, "tf32", known) == pytest.approx(2e8 / 3e14, rel=0.3)
    assert profile.bound(call, "fp32", {}) == 0.0


def test_epochs_and_equal_bits_on_the_device(emulated):
    row = epoch.epochs(TINY, "tf32", "cuda", rows=20, count=2)
    assert 0 < row["epoch"] < 60
    assert [r["same bits"] for r in epoch.same_bits(TINY, "bf16", "cuda", steps=3, runs=2)] == [True, True]


def test_ffma_is_another_arithmetic_and_leaves_the_environment_alone(emulated, monkeypatch):
    monkeypatch.setenv("AAECORE_CUDA_FP32", "tf32x3")
    chosen = [model.make_model(TINY, p, "cuda").backend.chip.fp32 for p in ("fp32", model.FFMA)]
    assert chosen == ["tf32x3", "ffma"]
    assert model.os.environ["AAECORE_CUDA_FP32"] == "tf32x3"


def test_our_step_on_the_device_is_that_of_the_cpu(emulated, tmp_path):
    for device in ("cuda", "cpu"):
        (tmp_path / device).mkdir()
    made = {d: equal.our_steps(model.make_model(TINY, "fp32", d), TINY, tmp_path / d) for d in ("cuda", "cpu")}
    for (_, here), (_, there) in zip(made["cuda"], made["cpu"], strict=True):
        np.testing.assert_allclose(here.losses, there.losses, rtol=1e-4)


# --- the machine's own kernels ----------------------------------------------------------------------------------------


def test_how_a_tensor_core_rounds_is_told_from_its_sums():
    a, b, d = probe.asked()
    nearest = probe.answers((a.astype(np.float64) @ b + d).astype(np.float32))
    assert probe.verdict(nearest) == "to nearest, with three or more extra bits of the addends"
    cut = dict.fromkeys(nearest, 0.0)
    assert probe.verdict(cut) == "toward zero, with no extra bits of the addends"
    assert probe.verdict(cut | {"two halves of an ulp to 1": 1.0}).startswith("toward zero, with one")


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_probes_compile(architecture):
    pytest.importorskip("cupy", reason="needs CuPy and NVRTC: pip install 'aaecore[cuda13x]'")
    assert len(probe.cubin(architecture)) > 1000
