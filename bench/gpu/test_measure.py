"""Ceilings, kernels one by one and epochs, timed on the emulated device."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import cuda_devices
import numpy as np
import pytest
import steps
from sizes import Size

from aaecore import Trainer
from aaecore.backends.cuda import backend as cuda
from aaecore.training.stepper import Stepper
from gpu import ceilings, epoch, profile, sanitize

TINY = Size(12, 9, 2, 7)
KNOWN = {"mma bf16 on registers": 1e9, "mma tf32 on registers": 1e9, "copy within the cache": 1e9}


def test_ceilings_are_measured_on_the_device(emulated):
    backend = cuda_devices.backend()
    rows = [
        *ceilings.memory(backend, 1 << 12, 1 << 12), *ceilings.memcpy(backend, 1 << 12),
        *ceilings.nodes(backend, 4), *ceilings.launches(backend, 4),
        *ceilings.products_round(lambda fp32: cuda.CudaBackend(backend.driver, fp32), 9, 40),
    ]  # fmt: skip
    assert all(np.isfinite(row["value"]) for row in rows)
    assert max(abs(row["value"]) for row in rows if row["unit"] == "2^-24") < 10


@pytest.fixture
def profiled(emulated, tiny, monkeypatch):
    """The rows of a small step, and its x when it was timed."""
    kept = []

    def make_step(*arguments):
        kept.append(original(*arguments))
        return kept[-1]

    original = steps.make_step
    monkeypatch.setattr(steps, "make_step", make_step)
    monkeypatch.setattr(profile, "LAUNCHES", 2)
    rows = list(profile.profile(tiny, "bf16", "cuda", KNOWN, 1e-4))
    return rows, kept[0][1]


def test_kernels_are_timed_on_the_device(profiled):
    whole, *rows = profiled[0]
    assert whole["step us"] > 0
    assert whole["one by one us"] > 0
    kernels = [row for row in rows if "us" in row]
    assert {row["op"] for row in kernels} >= {"linear_forward_bf16", "bce_logits", "adam_advance", "rng_advance"}
    assert all(row["us"] > 0 and row["kernel"] for row in kernels)


def test_kernels_of_several_calls_are_timed_too(profiled):
    rows = [row for row in profiled[0] if "fused" in row]
    assert {row["fused"]: row["count"] for row in rows} == {
        "forward_forward_bf16 7x1": 1, "forward_copy_bf16 7x1": 1, "backward_backward_bf16 7x1": 2,
        "forward_loss_backward_bf16 14x1": 1, "forward_loss_backward_bf16 7x1": 1,
    }  # fmt: skip
    assert all(row["fused us"] > 0 and row["bound us"] > 0 for row in rows)
    assert rows[-1]["ops"] == "linear_forward_bf16 + adversarial_bce + linear_backward_input_bf16"


def test_what_is_timed_works_on_numbers(profiled):
    """The emulator's memory is NaN until somebody writes it, a GPU's is anything."""
    x = profiled[1]
    made = x.backend.to_host(x)
    assert np.isfinite(made).all()
    assert made.std() > 0.1


def test_the_bound_of_a_launch():
    call = SimpleNamespace(name="linear_forward", dims=(100, 1000, 1000, 1), scalars=(0.0,))
    known = {"mma tf32 on registers": 3e14, "copy within the cache": 1e13}
    assert profile.bound(call, "fp32", known) == pytest.approx(3 * 2e8 / 3e14)
    assert profile.bound(call, "tf32", known) == pytest.approx(2e8 / 3e14, rel=0.3)
    assert profile.bound(call, "fp32", {}) == 0.0


def test_the_bound_of_a_long_copy_is_by_the_better_of_two():
    """Else a kernel may seem faster than it can be."""
    known = {"copy beyond the cache": 2.4e12, "driver's copy beyond the cache": 3e12, "copy within the cache": 2.5e12}
    assert profile.traffic(30 << 20, known) == pytest.approx((30 << 20) / 3e12)
    assert profile.traffic(20 << 20, known) == pytest.approx((20 << 20) / 2.5e12)


def test_epochs_and_equal_bits_on_the_device(emulated):
    row = epoch.epochs(TINY, "tf32", "cuda", rows=20, count=2)
    assert 0 < row["epoch"] < 60
    assert [r["same bits"] for r in epoch.same_bits(TINY, "bf16", "cuda", steps=3, runs=2)] == [True, True]


def test_epochs_are_those_of_one_fit(monkeypatch):
    """Each fit uploads all rows and records the steps anew, which takes longer on a GPU than an epoch may."""
    bound, trained = [], []
    original, step = Stepper.bind, Trainer._end_epoch
    monkeypatch.setattr(Stepper, "bind", lambda self, table: (bound.append(len(table)), original(self, table))[1])
    monkeypatch.setattr(Trainer, "_end_epoch", lambda self, *data: (trained.append(0), step(self, *data))[1])
    clock = iter([0.0, 9.0, 11.0, 12.0, 16.0])
    monkeypatch.setattr(epoch, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    row = epoch.epochs(TINY, "fp32", "cpu", rows=20, count=4)
    assert bound == [20]
    assert len(trained) == 4
    assert (row["first"], row["epoch"], row["median"]) == (9.0, 1.0, 2.0)


def test_the_sanitizer_says_which_reports_may_be_false(emulated, monkeypatch, capsys):
    monkeypatch.setattr(sanitize, "parts", list)
    monkeypatch.setattr("sys.argv", ["sanitize"])
    monkeypatch.setattr(cuda, "make_driver", cuda.make_driver)  # to be put back
    with pytest.raises(SystemExit, match="0"):
        sanitize.main()
    assert "cp.async of 0 bytes" in json.loads(capsys.readouterr().out)["note"]


@pytest.mark.parametrize(("module", "row"), [(profile, "op"), (epoch, "same bits")])
def test_what_fails_is_left_out_and_the_rest_is_not(module, row, monkeypatch, capsys):
    """The CPU has no TF32."""
    size = ["--size", "e", "--rows", "64"] if module is epoch else ["--sizes", "e"]
    monkeypatch.setattr("sys.argv", ["", "--device", "cpu", *size])
    with pytest.raises(SystemExit, match="0") if module is epoch else nullcontext():  # what is left out is no failure
        module.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("tf32" in made.get("left out", "") for made in rows)
    assert row in rows[-1] or row in rows[-2]
