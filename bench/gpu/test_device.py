"""Our steps on the emulated device: timed, in any arithmetic, as on the CPU, and what the sanitizer is given."""

from __future__ import annotations

from pathlib import Path

import equal
import numpy as np
import pytest
from cases import CASES
from sizes import Size

from aaecore.backends.cuda.kernels import KERNELS, kernels_of
from aaecore.core.ops import OPS
from gpu import model, sanitize

HERE = Path(__file__).resolve().parent
TINY = Size(12, 9, 2, 7)


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


@pytest.mark.parametrize(("seconds", "calls"), [(0.3, [1, 1, 1]), (1e-3, [1, 5, 5, 5])])
def test_a_long_call_is_made_no_oftener_than_asked(seconds, calls, monkeypatch):
    """On a GPU a call may be 64 steps of 4 ms."""
    monkeypatch.syspath_prepend(HERE.parent / "peers")
    import peer

    made = []
    timed = peer.Timed(lambda: None, 64, lambda times: made.append(times) or times * seconds)
    assert peer._timings(timed, 0.0, 3) == pytest.approx([seconds * 1e3 / 64] * 3)
    assert made == calls


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


def test_every_kernel_is_given_to_the_sanitizer():
    cases = sanitize.chosen()
    assert {op for op, *_ in cases} == set(CASES) == set(OPS)
    kernels = {kernel for op, i, chip in cases for kernel, _ in kernels_of(op, CASES[op][i].dims, chip)}
    runs = dict(sanitize.parts())["kernels of several calls"]
    kernels |= {f"{pattern}{suffix or '_ffma'}" for pattern, suffix, _ in (run.args for run in runs)}
    assert kernels == set(KERNELS)
