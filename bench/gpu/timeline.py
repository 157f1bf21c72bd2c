"""Where the time of a recorded step goes: start, duration and wait of every node of its graph, seen by CUPTI.

    python -m gpu.timeline --seconds 30 --sizes a g --out FOLDER        needs PyTorch, whose profiler asks CUPTI

For each size and precision the graph of one step and the one of many, as training replays them: a line of JSON with its
sums, for the graph of one step also one for each node, and of the first ones a picture in FOLDER (if matplotlib is
there). To look at every node slows the graph down: "untraced us" is what a step takes when nobody looks. Everything is
profiled in one session, since a second one may see nothing, and what it saw lies in FOLDER too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.driver import Node
from aaecore.core.plan import Plan
from gpu.goals import GPU_SIZES, LARGE
from gpu.model import make_model, make_step, once
from gpu.trace import Event, Mismatch, Seen, events_of, key, node_rows, seen, summary

Row = dict[str, Any]
PRECISIONS = ("fp32", "bf16", "tf32")
REPLAYS = {True: 9, False: 3}  # of a graph of one step, of many
WARMING = 20  # products of a few milliseconds each
PICTURES = 2  # at most: all files of a run together are few
PREPARING = 0.6  # of the seconds; the rest is for the profiler
TRACED = 0.01  # seconds that are timed before the profiler looks


@dataclass(frozen=True)
class Case:
    """A graph to look at."""

    size: str
    precision: str
    steps: int
    nodes: list[Node]
    replay: Callable[[], None]
    untraced: float  # seconds of a step

    @property
    def labels(self) -> Row:
        return {"size": self.size, "precision": self.precision, "steps": self.steps}


def cases(size: str, precision: str) -> list[Case]:
    """The graph of one step on random numbers, and the one of many."""
    model = make_model(GPU_SIZES[size], precision, "cuda")
    backend = model.backend
    assert isinstance(backend, CudaBackend)
    plan = backend.capture(make_step(model, GPU_SIZES[size].batch)[0])
    return [_case(size, precision, backend, plan, steps) for steps in (1, backend.steps_per_graph)]


def _case(size: str, precision: str, backend: CudaBackend, plan: Plan, steps: int) -> Case:
    replay = partial(plan.replay, times=steps)
    untraced = once(backend, replay, TRACED) / steps
    return Case(size, precision, steps, backend.nodes(plan.calls, steps)[0], replay, untraced)


def profiled(made: Sequence[Case]) -> list[Event]:
    """Every kernel of some replays of each graph."""
    import cupy
    import torch
    from torch.profiler import ProfilerActivity, profile

    factor = torch.randn(4096, 4096, device="cuda")
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for case in made:
            for _ in range(WARMING):  # foreign work that the trace passes over: preparing left the GPU idle
                torch.mm(factor, factor)
            torch.cuda.synchronize()
            for _ in range(REPLAYS[case.steps == 1]):
                case.replay()
                cupy.cuda.Device().synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return events_of(json.loads(path.read_text("utf-8")))


Look = Callable[[Sequence[Case]], Sequence[Event]]


def timeline(
    sizes: Sequence[str], seconds: float, show: Callable[[Case, Seen], Iterator[Row]], look: Look
) -> Iterator[Row]:
    """Rows of every graph that can be prepared in time; `show` gets the first graphs of one step."""
    end = time.monotonic() + PREPARING * seconds
    made: list[Case] = []
    for precision, size in [(precision, size) for precision in PRECISIONS for size in sizes]:
        try:
            if time.monotonic() > end:
                raise TimeoutError("out of time")
            made += cases(size, precision)
        except Exception as error:  # the others go on
            yield {"left out": f"timeline of {size} {precision}", "why": str(error)}
    if not made:
        return
    events = look(made)
    pictures = [case for case in made if case.steps == 1][:PICTURES]
    for case in made:
        try:
            graph = seen(case.nodes, events)
        except Mismatch as reason:
            what = f"timeline of {case.size} {case.precision}, steps of the graph: {case.steps}"
            yield {"left out": what, "why": str(reason)}
            continue
        yield case.labels | summary(graph, case.steps) | {"untraced us": round(case.untraced * 1e6, 2)}
        if case.steps == 1:
            yield from (case.labels | row for row in node_rows(graph))
        if case in pictures:
            yield from show(case, graph)


def kept(folder: Path | None, made: Sequence[Case]) -> list[Event]:
    """What the profiler saw; written with the graphs too, so that it can be read another way without another GPU."""
    events = profiled(made)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = [case.labels | {"nodes": [(*key(node), node.after) for node in case.nodes]} for case in made]
        text = json.dumps({"graphs": graphs, "events": events}, separators=(",", ":"))
        (folder / "timeline.json").write_text(text, encoding="utf-8")
    return events


def draw(folder: Path | None, case: Case, graph: Seen) -> Iterator[Row]:
    """Writes a picture; says so where it cannot."""
    if folder is None:
        return
    name = f"timeline-{case.size}-{case.precision}.svg"
    if find_spec("matplotlib") is None:
        yield {"left out": name, "why": "matplotlib is not installed"}
        return
    from gpu import picture

    folder.mkdir(parents=True, exist_ok=True)
    picture.write(folder / name, graph, f"One step of {GPU_SIZES[case.size]}, {case.precision}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=["a", LARGE])
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if find_spec("torch") is None:
        print(json.dumps({"left out": "timeline", "why": "torch, whose profiler asks CUPTI, is not installed"}))
        return
    begin, out = time.monotonic(), options.out
    import torch  # noqa: F401 from a cold disk it takes long, which counts

    left = options.seconds - (time.monotonic() - begin)
    for row in timeline(options.sizes, left, partial(draw, out), partial(kept, out)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
