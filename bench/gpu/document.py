"""All that a run on a GPU found, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from labels import name, number
from report import table

from gpu.goals import GPU_SIZES
from gpu.table import SUMS, Record, Row, graphs_of, rows_of, short, steps_of

CALLS = 20  # of a step, those that take longest


def document(record: Record) -> str:
    """Of a dry run no times."""
    machine, results = record["machine"], record["results"]
    known = ("torch", "jax", "cupy", "NVRTC", "numpy", "python")
    versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items() if k in known)
    texts = [
        f"{machine.get('gpu', 'no GPU')}: {machine.get('multiprocessors', '?')} multiprocessors, capability "
        f"{'.'.join(map(str, machine.get('capability', '?')))}, {machine.get('L2 MB', '?')} MB of L2, "
        f"{machine['cores']} cores beside it; {versions}. {record['date']}. "
        "Goals are limits that the project has set itself.",
        "```\n" + short(record) + "\n```",
    ]
    texts += [] if record.get("dry") else [*_measured(record)]
    left_out = [r for rows in results.values() for r in rows if "left out" in r]
    columns = {"what": lambda r: r["left out"], "why": lambda r: str(r["why"])}
    texts += ["## Left out", table(columns, left_out)] if left_out else []
    return "\n\n".join(texts)


def _measured(record: Record) -> list[str]:
    texts = []
    if steps_of(record):
        legend = (
            "Microseconds of a step, medians of rounds in turn; ours eager, as a graph (replay), and in bursts. "
            "PyTorch graph is a whole step as one CUDA graph, its losses compiled; PyTorch compile is torch.compile "
            "in its mode reduce-overhead, with a CUDA graph for each loss and each gradient."
        )
        texts += ["## Steps", legend, _steps(record)]
    simple = {
        "own": ("## Our steps alone", ("size", "precision", "mode", "us")),
        "switches": ("## Switches", ("size", "precision", "switch", "us", "base us", "ratio")),
        "ceilings": ("## The machine", ("what", "value", "unit")),
        "ncu": ("## Counters", ("kernel", "metric", "value", "unit")),
    }
    for phase, (title, keys) in simple.items():
        if rows := rows_of(record, phase, keys[-1]):
            texts += [title, _plain(keys, rows)]
    texts += _timeline(record)
    return texts + _kernels(record["results"].get("kernels", []))


def _plain(keys: Sequence[str], rows: Sequence[Row]) -> str:
    return table({key: lambda r, key=key: _engineer(r.get(key, "")) for key in keys}, rows)


def _timeline(record: Record) -> list[str]:
    """The sums of every graph, and the nodes of those of one step."""
    sums = rows_of(record, "timeline", "step us")
    columns = ("size", "precision", "steps", "untraced us", *SUMS, "overlap us", "ambiguous", "replays")
    texts = ["## Timelines, of one step of each graph", _plain(columns, sums)] if sums else []
    for graph in graphs_of(record):
        nodes = [r for r in rows_of(record, "timeline", "node") if all(r[k] == graph[k] for k in ("size", "precision"))]
        head = ", ".join(
            f"{key} {_engineer(value)}" for key, value in graph.items() if key not in ("size", "precision")
        )
        columns = ("node", "kernel", "grid", "start", "us", "wait", "chain")
        texts += [f"## Timeline of {graph['size']}, {graph['precision']}: {head}", _plain(columns, nodes)]
    return texts


def _steps(record: Record) -> str:
    found = steps_of(record)
    sizes = list(dict.fromkeys(size for size, _ in found))
    columns: dict[str, Any] = {"who": lambda r: name(r["who"]) if not r["who"].startswith("aae") else r["who"]}
    for size in sizes:
        columns[f"{size} {GPU_SIZES[size]}" if size in GPU_SIZES else size] = lambda r, size=size: (
            number(found[size, r["who"]]["us"]) if (size, r["who"]) in found else "-"
        )
    return table(columns, [{"who": who} for who in dict.fromkeys(who for _, who in found)])


def _kernels(rows: Sequence[Row]) -> list[str]:
    texts = []
    measured = [r for r in rows if "us" in r]
    for key in dict.fromkeys((r["size"], r["precision"]) for r in measured):
        these = [r for r in measured if (r["size"], r["precision"]) == key]
        total = sum(r["us"] * r["count"] for r in these)
        texts += [
            f"## Calls of a step at {key[0]}, {key[1]}: {total:.0f} us one after the other",
            *(_graphs(r) for r in rows if "step us" in r and (r["size"], r["precision"]) == key),
            table(
                {
                    "kernel": lambda r: r["kernel"], "dims": lambda r: r["dims"], "times": lambda r: str(r["count"]),
                    "us": lambda r: number(r["us"]), "bound, us": lambda r: number(r["bound us"]),
                    "bound / time": lambda r: f"{r['fraction']:.2f}",
                },
                sorted(these, key=lambda r: -r["us"] * r["count"])[:CALLS],
            ),
        ]  # fmt: skip
    return texts


def _graphs(row: Row) -> str:
    fused, single = number(row["step us"]), number(row["one by one us"])
    return f"The step's graph takes {fused} us, {single} with a kernel for each call."


def _engineer(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value:
        return str(value)
    power = min(12, max(-9, 3 * math.floor(math.log10(abs(value)) / 3)))
    return f"{value / 10**power:.3g}{f'e{power}' if power else ''}"
