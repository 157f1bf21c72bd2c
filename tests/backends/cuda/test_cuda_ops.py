"""Every op of the CUDA backend against the reference, on all shapes of cases.py, with every arithmetic and tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cuda_devices
import numpy as np
import pytest
from case_kit import case_id
from cases import CASES, make_buffers
from op_checks import check, poison

from aaecore.backends import cpu
from aaecore.backends.cuda import kernels
from aaecore.backends.cuda.kernels import Chip
from aaecore.core.ops import OPS

pytestmark = cuda_devices.needs_device
KERNELS = Path(__file__).parents[3] / "kernels" / "cuda"
LINEAR = [op for op in OPS if op.startswith("linear_")]
CHIP = Chip(132, "tf32x3")


def chips_of(op: str, dims: Mapping[str, int]) -> dict[str, Chip]:
    """Every way to make a case of the op, by what it is called."""
    if op in kernels.CHAINS:
        tiles = ("medium", "large") if op == "parzen" else ("medium",)
        made = {f"tf32x3-{tile}": replace(CHIP, tiles=(tile,)) for tile in tiles}
        return made | {"ffma": replace(CHIP, fp32="ffma")}
    if op not in LINEAR:
        return {"": CHIP}
    if kernels.fan(op, dims):
        return {"one row": CHIP, "rows": replace(CHIP, multiprocessors=1)}
    made = {f"tf32x3-{tile}": replace(CHIP, tiles=(tile,)) for tile in kernels.TILES}
    return made if op.endswith(("_tf32", "_bf16")) else made | {"ffma": replace(CHIP, fp32="ffma")}


def _all_cases() -> list[Any]:
    return [
        pytest.param(op, index, chip, id="-".join([op, case_id(case), *filter(None, [name])]))
        for op, cases in CASES.items()
        for index, case in enumerate(cases)
        for name, chip in chips_of(op, case.dims).items()
    ]


def rounding_of_tensor_cores(op: str, dims: dict[str, int]) -> float:
    """How far a sum may be off by the tensor core that makes it of TF32 or bfloat16 products.

    It may round each partial sum of 8 or 16 toward zero: one unit of float32 in the magnitude of the whole, so often.
    float32 from three TF32 products is added outside.
    """
    products = {"_tf32": 8, "_bf16": 16}.get(op[-5:])
    if op not in LINEAR or products is None:
        return 0.0
    depth = dims[{"linear_forward": "I", "linear_backward_input": "O"}.get(op[:-5], "B")]
    return -(-depth // products) * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(("op", "index", "chip"), _all_cases())
def test_op_agrees_with_the_reference(op: str, index: int, chip: Chip) -> None:
    more = rounding_of_tensor_cores(op, dict(CASES[op][index].dims))
    check(cuda_devices.backend(chip), op, index, tight=cuda_devices.SEES_EVERY_ACCESS, more=more)


@pytest.mark.parametrize("op", [op for op in OPS if op not in (*LINEAR, *kernels.CHAINS, "sum_squares")])
def test_what_is_not_a_sum_has_the_bits_of_the_cpu(op: str) -> None:
    """Sums are matrix products, `loss` and `total`, whose order differs. The CPU is one that fuses multiply-adds."""
    fusing = [isa for isa in cpu.compiled.supported() if isa not in ("v2", "generic")]
    if op == "adam_step" and not fusing:
        pytest.skip("this CPU has no fused multiply-add, which Adam uses: run it on one of level x86-64-v3 or arm64")
    backends = cuda_devices.backend(), cpu.CpuBackend(fusing[0] if fusing else None)
    for index, case in enumerate(CASES[op]):
        arrays = poison(op, case, make_buffers(op, case, np.random.default_rng(index)))
        results = []
        for backend in backends:
            buffers = [backend.from_host(a, arg.kind) for arg, a in zip(OPS[op].args, arrays, strict=True)]
            backend.launch(op, buffers, list(case.dims.values()), list(case.scalars.values()))
            results.append([backend.to_host(b) for b in buffers])
        for arg, ours, theirs in zip(OPS[op].args, *results, strict=True):
            if arg.name != "loss":
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{case_id(case)}: {arg.name}")
