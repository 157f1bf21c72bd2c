"""What the hardware counts in every different kernel of a step, by Nsight Compute (ncu): rates, traffic, occupancy.

    python -m gpu.ncu --seconds 40 --out FOLDER

A process of its own under ncu records a step at size a, runs it, and launches each different kernel once, the largest
grids first; ncu repeats a launch until it has all counters. Caches stay as they are, since a step finds its weights in
L2, and so do the clocks. A line of JSON for each number; what ncu printed lies in FOLDER.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.driver import Launch, Node
from gpu.goals import GPU_SIZES
from gpu.model import make_model, make_step
from gpu.processes import environment, module

Row = dict[str, Any]
SIZE, PRECISIONS = "a", ("fp32", "bf16")
PEAK = "pct_of_peak_sustained"
METRICS = {  # by ncu's name
    "gpu__time_duration.sum": "duration",
    "dram__bytes.sum": "bytes of memory",
    f"dram__throughput.avg.{PEAK}_elapsed": "memory, of its peak",
    "lts__t_bytes.sum": "bytes of L2",
    f"lts__throughput.avg.{PEAK}_elapsed": "L2, of its peak",
    f"sm__throughput.avg.{PEAK}_elapsed": "multiprocessors, of their peak",
    f"sm__pipe_tensor_cycles_active.avg.{PEAK}_active": "tensor cores, of their peak",
    f"sm__warps_active.avg.{PEAK}_active": "warps, of the most",
    "launch__registers_per_thread": "registers of a thread",
    "launch__shared_mem_per_block": "shared memory of a block",
}
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats")
ASKED = (  # the second where this version of ncu does not know a name of the first
    ("--metrics", ",".join(METRICS)),
    tuple(word for name in SECTIONS for word in ("--section", name)),
)
STARTING, ENDING = 10.0, 4.0  # seconds of a process before its first launch and after its last one


def parse(text: str) -> Iterator[Row]:
    """The numbers of METRICS in what ncu prints as CSV of raw numbers: a line of names, one of units, then launches."""
    lines = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    for values in lines[2:]:
        row, units = (dict(zip(lines[0], each, strict=True)) for each in (values, lines[1]))
        grid = "x".join(row["Grid Size"].strip("()").replace(" ", "").split(",")[:2])
        for name in METRICS:
            try:
                value = float(row[name].replace(",", ""))
            except (KeyError, ValueError):  # ncu did not collect it, or has no number
                continue
            labels = {"kernel": row["Kernel Name"], "grid": grid, "metric": METRICS[name]}
            yield labels | {"value": value, "unit": units[name]}


def command(ncu: str, asked: Sequence[str], size: str, precision: str, until: float) -> list[str]:
    line = [ncu, "--csv", "--page", "raw", "--print-units", "base", "--profile-from-start", "off"]
    line += ["--clock-control", "none", "--cache-control", "none", *asked]
    return [*line, *module("ncu", "--launches", precision, "--sizes", size, "--until", f"{until:.1f}")]


def printed(line: Sequence[str], seconds: float) -> tuple[str, str]:
    """Standard output and error of a command, which is ended, with all that it started, after so many seconds."""
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(LC_ALL="C"),
        start_new_session=True,
    )  # fmt: skip
    try:
        return process.communicate(timeout=seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=ENDING)


def measured(ncu: str, size: str, precision: str, seconds: float, out: Path | None) -> list[Row]:
    """RuntimeError: there are no numbers; the message has what ncu says."""
    end, said = time.monotonic() + seconds, "nothing"
    for asked in ASKED:
        left = end - time.monotonic()
        try:
            text, errors = printed(command(ncu, asked, size, precision, end - ENDING), left)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {seconds:.0f} s") from None
        text = text.replace(platform.node(), "host")  # a column of ncu's
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            with (out / "ncu.csv").open("a", encoding="utf-8") as file:
                file.write(f"{size}, {precision}\n{text}\n")
        if rows := list(parse(text)):
            return rows
        said = " ".join([line for line in (text + errors).splitlines() if line.strip()][-3:])
        if end - time.monotonic() < STARTING:
            break
    raise RuntimeError(f"ncu said: {said[-300:]}")


def profiled(sizes: Sequence[str], seconds: float, out: Path | None) -> Iterator[Row]:
    """The rows of every size and precision, each of which has its share of the time."""
    end, ncu = time.monotonic() + seconds, shutil.which("ncu")
    asked = [(size, precision) for size in sizes for precision in PRECISIONS]
    for number, (size, precision) in enumerate(asked):
        share = (end - time.monotonic()) / (len(asked) - number)
        labels = {"size": size, "precision": precision}
        try:
            if ncu is None:
                raise RuntimeError("ncu is not on the PATH")
            if share < STARTING:
                raise RuntimeError("out of time")
            yield from (labels | row for row in measured(ncu, size, precision, share, out))
        except RuntimeError as reason:
            yield {"left out": f"counters at {size}, {precision}", "why": str(reason)}


def different(nodes: Sequence[Node]) -> list[Launch]:
    """Each kernel once for each grid that it has, those with the most threads first."""
    found = {(node.launch.kernel, node.launch.grid): node.launch for node in reversed(nodes)}
    return sorted(found.values(), key=lambda a: -a.grid[0] * a.grid[1] * a.threads)


def launches(size: str, precision: str, until: float) -> None:
    """What ncu watches. No launch is begun after `until`, by the clock that all processes share: ncu prints nothing
    before the last one is done."""
    import cupy

    model = make_model(GPU_SIZES[size], precision, "cuda")
    backend = model.backend
    assert isinstance(backend, CudaBackend)
    plan = backend.capture(make_step(model, GPU_SIZES[size].batch)[0])
    plan.replay()  # so that all that kernels read was written
    runtime = cupy.cuda.runtime
    runtime.deviceSynchronize()
    runtime.profilerStart()
    nodes, _kept = backend.nodes(plan.calls)
    for launch in different(nodes):
        if time.monotonic() < until:
            backend.driver.launch(launch)
            runtime.deviceSynchronize()
    runtime.profilerStop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=[SIZE])
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--launches", metavar="PRECISION", help="what ncu watches")
    parser.add_argument("--until", type=float, default=inf, help="by the monotonic clock")
    options = parser.parse_args()
    if options.launches:
        return launches(options.sizes[0], options.launches, options.until)
    for row in profiled(options.sizes, options.seconds, options.out):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
