"""Pictures of a result: ratios of the steps, and growth of time and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels import name, number
from sizes import SIZES, Size, matrix_flops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
COLOURS = ("#332288", "#117733", "#88ccee", "#ddcc77", "#cc6677", "#882255", "#44aa99", "#999933", "#aa4499", "#000000")


def steps(record: Record, figure: Figure) -> None:
    """A bar for every peer at every size; pale where nothing was decided."""
    rows = record["results"]["steps"]
    sizes, peers = (list(dict.fromkeys(r[k] for r in rows)) for k in ("size", "peer"))
    axes, width = figure.subplots(), 0.8 / max(1, len(peers))
    for i, (peer, colour) in enumerate(zip(peers, cycle(COLOURS), strict=False)):
        bars = [r for r in rows if r["peer"] == peer]
        places = [sizes.index(r["size"]) + (i - (len(peers) - 1) / 2) * width for r in bars]
        heights = [r["ratio"] - 1 for r in bars]
        drawn = axes.bar(places, heights, width * 0.92, bottom=1, color=colour, label=name(peer))
        for row, place, bar in zip(bars, places, drawn, strict=True):
            bar.set_alpha(1.0 if row["decided"] else 0.35)
            side = "bottom" if row["ratio"] >= 1 else "top"
            axes.annotate(number(row["ratio"]), (place, row["ratio"]), ha="center", va=side, fontsize=6)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.set_xticks(range(len(sizes)), [f"{s}\n{str(SIZES[s]).replace(', ', chr(10))}" for s in sizes], fontsize=7)
    axes.set_ylabel("the peer's step / ours")
    title = f"How many times longer a training step takes than aaecore's ({record['machine']['slug']})"
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7)


def _limit(row: Mapping[str, Any], threads: int) -> float:
    """Microseconds per sample at the rate of the probe on every thread."""
    size = Size(*(row[field] for field in Size._fields))
    return matrix_flops(size) / (row["GFLOP/s of the probe"] * 1e9 * threads) / size.batch * 1e6


def growth(record: Record, figure: Figure) -> None:
    """Time per sample by the batch, time per operation by the network, memory by the formula."""
    rows = record["results"]["growth"]
    series = {along: [r for r in rows if r["along"] == along] for along in ("batch", "hidden")}
    time, efficiency, memory = figure.subplots(1, 3)
    for colour, (along, points) in zip(COLOURS, series.items(), strict=False):
        style = {"marker": "o", "color": colour, "markersize": 4}
        limit = [_limit(r, record["settings"]["threads"]) for r in points]
        x = [r[along] for r in points]
        time.plot(x, [r["us per sample"] for r in points], label=f"by {along}", **style)
        time.plot(x, limit, ":", color=colour, label="the machine's limit")
        efficiency.plot(x, [r["ratio"] for r in points], label=f"by {along}", **style)
        sizes = [r["memory"]["formula"] / 1e6 for r in points]
        memory.plot(sizes, [r["memory"]["measured"] / 1e6 for r in points], "o", color=colour, label=f"by {along}")
    for axes, title in ((time, "us per sample"), (efficiency, "step time / the machine's limit")):
        axes.set_xscale("log")
        axes.set_xticks(record["settings"]["growth"], record["settings"]["growth"], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("batch or hidden features", fontsize=8)
        axes.set_title(title, fontsize=9)
    time.set_yscale("log")
    efficiency.set_ylim(bottom=0)
    memory.set_xscale("log")
    memory.set_yscale("log")
    memory.set_xlabel("formula, MB", fontsize=8)
    memory.set_title("memory measured, MB", fontsize=9)
    ends = [pick(r["memory"]["formula"] for r in rows) / 1e6 for pick in (min, max)]
    memory.plot(ends, ends, color="black", linewidth=0.8)
    for axes in (time, efficiency, memory):
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)


DRAWN: dict[str, tuple[Callable[[Record, Figure], None], tuple[float, float]]] = {
    "steps": (steps, (9.0, 4.2)), "growth": (growth, (10.0, 3.4)),
}  # fmt: skip


def draw(part: str, record: Record, path: Path) -> None:
    """Draws a part that has results; the same numbers give the same file."""
    import matplotlib
    from matplotlib.figure import Figure

    function, inches = DRAWN[part]
    with matplotlib.rc_context({"svg.hashsalt": part}):
        figure = Figure(figsize=inches, layout="constrained", facecolor="white")
        function(record, figure)
        figure.savefig(path, metadata={"Date": None})
