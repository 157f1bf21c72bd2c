"""Every call of a step by itself: how long it takes, and what part of the machine's bound that is.

    python -m gpu.profile --seconds 25 --record gpu-running.json

A graph of 50 launches of the same op on the same buffers, each of which waits for the one before; what lies in the
cache stays there. Kernels that make several calls of a step are timed the same way, in rows of their own ("fused us").
The bound is the larger of (operations of the product / the measured rate) and (bytes of the op table, or that a kernel
of several calls touches / the measured copy, within the cache where all of it fits). The record brings the ceilings
measured in the same run. What a step reads was written before: x by the host, the rest by the step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.driver import Node
from aaecore.backends.cuda.fusion import Fused, fuse
from aaecore.backends.cuda.kernels import kernels_of
from aaecore.core.backend import Backend
from aaecore.core.ops import OPS, PRECISIONS
from aaecore.core.plan import Call, Plan
from gpu import goals
from gpu.goals import GPU_SIZES
from gpu.model import make_model, make_step, once

Row = dict[str, Any]
LAUNCHES = 50
FITS = 24 << 20  # bytes that surely stay in the cache of any GPU for training
# Operations a second by precision: the ceiling's name, and how many products of it make one.
RATES = {
    "fp32": ("mma tf32 on registers", 3), "ffma": ("ffma on registers", 1),
    "tf32": ("mma tf32 on registers", 1), "bf16": ("mma bf16 on registers", 1),
}  # fmt: skip


def ceilings(path: Path | None) -> dict[str, float]:
    """By name; none where none were measured."""
    rows = json.loads(path.read_text())["results"].get("ceilings", []) if path and path.exists() else []
    return {r["what"]: r["value"] for r in rows if isinstance(r.get("value"), int | float)}


def arithmetic(call: Call, precision: str, known: Mapping[str, float]) -> float:
    """Seconds that the operations of a call take at least; 0 where the ceiling is not known."""
    op = OPS[call.name]
    name, times = RATES[precision if call.name.startswith("linear") else "ffma"]
    rate = known.get(name, 0.0)
    return times * op.flops(dict(zip(op.dims, call.dims, strict=True))) / rate if rate else 0.0


def traffic(nbytes: int, known: Mapping[str, float]) -> float:
    """Seconds that so many bytes take at least; 0 where the ceiling is not known."""
    names = ["copy within the cache"] if nbytes <= FITS else goals.MEASURED[0]
    speed = max(known.get(name, 0.0) for name in names)
    return nbytes / speed if speed else 0.0


def bound(call: Call, precision: str, known: Mapping[str, float]) -> float:
    """Seconds that a launch takes at least."""
    op = OPS[call.name]
    nbytes = op.bytes(dict(zip(op.dims, call.dims, strict=True)))
    return max(arithmetic(call, precision, known), traffic(nbytes, known))


def bound_of_several(made: Fused, precision: str, known: Mapping[str, float]) -> float:
    """The same of a kernel of several calls, which hands over on the chip what lies between them."""
    nbytes = sum(access.stop - access.start for access in made.touched)
    return max(sum(arithmetic(call, precision, known) for call in made.calls), traffic(nbytes, known))


def kernel_of(backend: Backend, call: Call) -> str:
    """The kernels that a launch makes, and their grids."""
    if not isinstance(backend, CudaBackend):
        return call.name
    made = kernels_of(call.name, dict(zip(OPS[call.name].dims, call.dims, strict=True)), backend.chip)
    return " + ".join(f"{kernel} {x}x{y}" for kernel, (x, y) in made) or call.name


def profile(size: str, precision: str, device: str, known: Mapping[str, float], seconds: float = 0.02) -> Iterator[Row]:
    """A row for the step's graph, with and without kernels of several calls, and one for every different call of it."""
    model = make_model(GPU_SIZES[size], precision, device)
    backend, labels = model.backend, {"size": size, "precision": precision}
    step, _ = make_step(model, GPU_SIZES[size].batch)
    plan = backend.capture(step)
    yield labels | {
        "step us": round(once(backend, plan.replay, seconds) * 1e6, 3),
        "one by one us": round(once(backend, _one_by_one(backend, step).replay, seconds) * 1e6, 3),
    }
    counts = Counter((c.name, c.dims) for c in plan.calls)
    for (name, dims), count in counts.items():
        call = next(c for c in plan.calls if (c.name, c.dims) == (name, dims))
        alone = backend.capture(lambda call=call: _repeat(backend, call))
        took = once(backend, alone.replay, seconds) / LAUNCHES
        yield {
            **labels, "kernel": kernel_of(backend, call), "op": name, "dims": _dims(call), "count": count,
            "us": round(took * 1e6, 3), **_by_bound(took, bound(call, precision, known)),
        }  # fmt: skip
    if isinstance(backend, CudaBackend):
        for row in several(backend, plan, precision, known, seconds):
            yield labels | row


def several(
    backend: CudaBackend, plan: Plan, precision: str, known: Mapping[str, float], seconds: float
) -> Iterator[Row]:
    """A row for every different kernel of several calls."""
    made = [each for each in fuse(plan.calls, backend.chip) if isinstance(each, Fused)]
    alike = {(each.kernel, tuple(c.dims for c in each.calls)): each for each in made}
    counts = Counter((each.kernel, tuple(c.dims for c in each.calls)) for each in made)
    for key, each in alike.items():
        nodes, _kept = backend.nodes(each.calls)
        launch = next(n.launch for n in nodes if n.launch.kernel == each.kernel)
        chain = [Node(launch, (i - 1,) if i else ()) for i in range(LAUNCHES)]
        took = once(backend, backend.driver.graph(chain), seconds) / LAUNCHES
        yield {
            "fused": "{} {}x{}".format(each.kernel, *launch.grid), "ops": " + ".join(c.name for c in each.calls),
            "dims": _dims(each.calls[0]), "count": counts[key], "fused us": round(took * 1e6, 3),
            **_by_bound(took, bound_of_several(each, precision, known)),
        }  # fmt: skip


def _dims(call: Call) -> str:
    return " ".join(f"{k}{v}" for k, v in zip(OPS[call.name].dims, call.dims, strict=True) if k in "BION")


def _by_bound(took: float, least: float) -> Row:
    return {"bound us": round(least * 1e6, 3), "fraction": round(least / took, 4)}


def _one_by_one(backend: Backend, step: Callable[[], None]) -> Plan:
    """The step with a launch for each call."""
    if not isinstance(backend, CudaBackend):
        return backend.capture(step)
    before, backend.fuses = backend.fuses, False
    try:
        return backend.capture(step)
    finally:
        backend.fuses = before


def _repeat(backend: Backend, call: Call) -> None:
    for _ in range(LAUNCHES):
        backend.launch(call.name, call.buffers, call.dims, call.scalars)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=["a", "g"])
    options = parser.parse_args()
    end, known = time.monotonic() + options.seconds, ceilings(options.record)
    for size in options.sizes:
        for precision in ("fp32", *(p for p in PRECISIONS if p != "fp32"), "ffma"):
            try:
                if time.monotonic() > end:
                    raise TimeoutError("out of time")
                for row in profile(size, precision, options.device, known):
                    print(json.dumps(row), flush=True)
            except Exception as error:  # the others go on
                print(json.dumps({"left out": f"kernels of {size} {precision}", "why": str(error)}), flush=True)


if __name__ == "__main__":
    main()
