"""The picture of a graph as it ran: a bar for every node, in as few lanes as it takes for none to cover another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from figures import COLOURS
from matplotlib.figure import Figure

from aaecore.backends.cuda.kernels import FUSED
from gpu.trace import Seen, Times

FAMILIES = ("products", "few inputs or outputs", "weight gradients and Adam", "losses", "others")


def family(kernel: str) -> str:
    """What a kernel is, of `FAMILIES`."""
    if "fan_" in kernel or kernel.startswith(FUSED):
        return FAMILIES[1]
    if "backward_weight" in kernel:
        return FAMILIES[2]
    if kernel.startswith("linear_"):
        return FAMILIES[0]
    return FAMILIES[3] if "bce" in kernel or "error" in kernel else FAMILIES[4]


def lanes(times: Sequence[Times]) -> list[int]:
    """A lane for each node: the first that is free when it begins."""
    free: list[float] = []  # when each lane is
    chosen = [0] * len(times)
    for number in sorted(range(len(times)), key=lambda n: times[n].start):
        lane = next((i for i, end in enumerate(free) if end <= times[number].start), len(free))
        free[lane : lane + 1] = [times[number].end]
        chosen[number] = lane
    return chosen


def write(path: Path, graph: Seen, title: str) -> None:
    """An SVG file; nodes of the longest path by time have an edge."""
    chain, chosen = set(graph.chain()), lanes(graph.times)
    figure = Figure(figsize=(12, 1.2 + 0.3 * (max(chosen) + 1)), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(FAMILIES, COLOURS, strict=False))
    for number, (times, lane) in enumerate(zip(graph.times, chosen, strict=True)):
        edge = {"edgecolor": "black", "linewidth": 1.2} if number in chain else {}
        kind = family(graph.nodes[number].launch.kernel)
        axes.barh(lane, times.us, left=times.start, height=0.8, color=colours[kind], label=kind, **edge)
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    axes.legend(named.values(), named.keys(), fontsize=7, ncols=len(named), loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlabel="microseconds", yticks=[])
    figure.suptitle(f"{title}: the longest path by time has a black edge", fontsize=9)
    with matplotlib.rc_context({"svg.hashsalt": "aaecore"}):
        figure.savefig(path, metadata={"Date": None})
