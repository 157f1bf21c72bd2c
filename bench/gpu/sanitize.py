"""Every kernel at two of its shapes and some recorded steps, for compute-sanitizer to watch.

    compute-sanitizer --tool memcheck python -m gpu.sanitize --seconds 20

On a GPU every buffer is an allocation of its own, exactly as large as it must be, so that one element beyond its end is
beyond the memory. Results of single ops are checked against the reference as well. Prints a line of JSON for each part:
how much of it ran; before these what to think of when memcheck reports something.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "backends" / "cuda"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import cuda_devices
from cases import CASES
from fused_steps import Sizes, Step
from op_checks import check
from sizes import SIZES
from steps import PAPER, make_step
from test_cuda_ops import CHIP, chips_of, rounding_of_tensor_cores

from aaecore import AAE, Trainer
from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.fusion import Fused, fuse
from aaecore.backends.cuda.kernels import FUSED, LEAST_PART_ROWS, ROWS, Chip, fan
from aaecore.core.ops import PRECISIONS
from gpu.model import is_gpu

Case = tuple[str, int, Chip]
NOTE = (
    "at ragged edges kernels issue cp.async of 0 bytes, which fills with zeros and reads nothing, from addresses beyond"
    " the buffer: memcheck may report these as invalid reads; a report of any other instruction is an error of ours"
)
RAGGED_AND_WIDE = (Sizes(5, 1029, 7, 1029, beta=1), Sizes(5, 1032, 8, 1032, beta=1))


def chosen() -> list[Case]:
    """(op, case, chip): the smallest cases of every kernel first, then one beyond all boundaries or the last."""
    rounds: list[list[Case]] = [[], []]
    for op, cases in CASES.items():
        usual = [i for i, case in enumerate(cases) if not case.bench and case.fill == "normal"]
        beyond = [i for i in usual if [cases[i].dims.get(d) for d in "BIO"] == [117, 231, 259]]
        many_rows = [i for i in reversed(usual) if op.startswith("linear_") and cases[i].dims["B"] > ROWS]
        skinny = {fan(op, cases[i].dims): i for i in many_rows}  # the smallest of each shape
        weight = op.startswith("linear_backward_weight")
        batches = {cases[i].dims["B"] // LEAST_PART_ROWS: i for i in many_rows if weight}  # long ones
        in_parts = [batches[parts] for parts in (2, 4, 8) if parts in batches]
        for turn, indices in enumerate(({usual[0], *skinny.values(), *in_parts}, {(beyond or usual)[-1]})):
            rounds[turn] += [(op, i, chip) for i in sorted(indices) for chip in chips_of(op, cases[i].dims).values()]
    return [case for turn in rounds for case in turn]


class Exact:
    """In place of the driver's arena."""

    def __init__(self, allocate: Any) -> None:
        self._allocate = allocate

    def take(self, nbytes: int) -> Any:
        return self._allocate(max(nbytes, 1))[:nbytes]


def give_exact_memory() -> None:
    """Neither CuPy's pool nor the driver's arena: both hand out parts of larger allocations."""
    import cupy

    cupy.cuda.set_allocator(None)
    driver: Any = cuda_devices.driver()
    driver._arena = Exact(driver._from_cupy)


def several_calls(pattern: str, suffix: str, sizes: Sizes) -> None:
    """A kernel of several calls."""
    step = Step(cuda_devices.backend(CHIP), pattern, suffix, sizes)
    plan = step.backend.capture(step)
    assert any(isinstance(call, Fused) for call in fuse(plan.calls, CHIP)), "it would be no kernel of several calls"
    plan.replay()
    assert all(np.isfinite(result).all() for result in step.results())


def small_network(precision: str, **options: float) -> AAE:
    size = SIZES["e"]
    return AAE(size.inputs, size.latent, (size.hidden,), seed=0, device="cuda", precision=precision, **options)


def recorded(precision: str) -> None:
    """A small network, in graphs of one and of many steps."""
    model, batch = small_network(precision, **PAPER), SIZES["e"].batch
    launches, x, losses = make_step(model, batch)
    plan = model.backend.capture(launches)
    model.backend.upload(x, np.random.default_rng(0).random(x.shape, np.float32))
    plan.replay(times=cuda.CudaBackend.steps_per_graph + 1)
    assert np.isfinite(model.backend.to_host(losses)).all()


def fit() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (100, SIZES["e"].inputs), np.uint8)
    Trainer(small_network("fp32"), batch_size=SIZES["e"].batch).fit(rows, 2, progress=False)


def compared(case: Case) -> None:
    op, index, chip = case
    more = rounding_of_tensor_cores(op, dict(CASES[op][index].dims))
    check(cuda_devices.backend(chip), op, index, tight=True, more=more)


def parts() -> list[tuple[str, list[Callable[[], None]]]]:
    """By name, what is to be watched."""
    suffixes = PRECISIONS.values()
    return [
        (
            "kernels of several calls",
            [partial(several_calls, *each) for each in product(FUSED, suffixes, RAGGED_AND_WIDE)],
        ),
        ("cases", [partial(compared, case) for case in chosen()]),
        ("recorded steps", [partial(recorded, precision) for precision in PRECISIONS]),
        ("fit", [fit]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    end, wrong = time.monotonic() + options.seconds, 0
    cuda.make_driver = lambda device: cuda_devices.driver()  # the one device, with its memory
    if is_gpu(cuda_devices.backend()):
        give_exact_memory()
    print(json.dumps({"note": NOTE}), flush=True)
    for what, runs in parts():
        row: dict[str, Any] = {"what": what, "run": 0, "of": len(runs)}
        for run in runs:
            if time.monotonic() > end:
                break
            try:
                run()
            except AssertionError as error:  # a wrong result: the sanitizer goes on
                row["wrong"] = [*row.get("wrong", []), str(error)[:200]]
            row["run"] += 1
        wrong += len(row.get("wrong", []))
        print(json.dumps(row), flush=True)
    raise SystemExit(f"wrong results: {wrong}" if wrong else 0)


if __name__ == "__main__":
    main()
