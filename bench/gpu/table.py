"""What a run on a GPU found: a short table for the end of its output, and all of it as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alternate import parse_spec
from labels import name, number
from report import table

from gpu.goals import BEST, EAGER, EPOCH, GPU_SIZES, MODE, STEP, judged

Row = Mapping[str, Any]
Record = Mapping[str, Any]
PRECISIONS = ("fp32", "ffma", "tf32", "bf16")
MARKS = {True: "met", False: "MISSED", None: "not measured"}


def steps_of(record: Record) -> dict[tuple[str, str], Row]:
    """By size and competitor."""
    return {(r["size"], r["who"]): r for r in record["results"].get("steps", []) if "us" in r}


def ours(precision: str, mode: str = MODE) -> str:
    return f"aaecore:{mode}{'' if precision == 'fp32' else f':{precision}'}"


def ratios(record: Record) -> dict[tuple[str, str], float]:
    """(size, peer): how many times our step the peer's takes, the median of the rounds."""
    return {(r["size"], r["peer"]): r["ratio"] for r in record["results"].get("steps", []) if "ratio" in r}


def best(record: Record, size: str, precision: str) -> tuple[str, float] | None:
    """The fastest compiled peer of a size and precision, and its ratio."""
    found = [
        (who, ratio)
        for (at, who), ratio in ratios(record).items()
        if at == size and not who.startswith("torch:eager") and parse_spec(who).precision == precision
    ]
    return min(found, key=lambda pair: pair[1], default=None)


def goals(record: Record) -> list[dict[str, Any]]:
    """The table of goals."""
    steps, pairs = steps_of(record), ratios(record)
    rows = []
    for (size, precision), limit in STEP.items():
        us = steps.get((size, ours(precision)), {}).get("us")
        rows.append(judged(f"step {GPU_SIZES[size]}, {precision}, us", us, limit))
    for size, limit in EAGER.items():
        value = pairs.get((size, "torch:eager"))
        rows.append(judged(f"PyTorch eager / ours at {size}, fp32", value, limit, at_least=True))
    for size, limit in BEST.items():
        for precision in ("fp32", "tf32", "bf16"):
            found = best(record, size, precision)
            label = f"{name(found[0]) if found else 'compiled peers'} / ours at {size}, {precision}"
            rows.append(judged(label, found[1] if found else None, limit, at_least=True))
    for row in record["results"].get("epochs", []):
        if "epoch" in row and row.get("precision") in ("fp32", "bf16"):
            rows.append(judged(f"epoch of 60000 rows, {row['precision']}, s", row["epoch"], EPOCH))
    return rows


def _goal(row: Row) -> str:
    value = "-" if row["value"] is None else number(row["value"])
    limit = f"{'at least' if row['at_least'] else 'at most'} {number(row['goal'])}"
    return f"{row['goal of']:<58} {value:>7}  {limit:<14} {MARKS[row['met']]}"


def _phase(label: str, phase: Row, rows: Sequence[Row]) -> str:
    tests = " | ".join(str(r["summary"]) for r in rows if "summary" in r)
    note = phase["message"] if phase["status"] != "ok" else tests
    return f"{label:<10} {phase['status']:<12} {phase['seconds']:>6.1f} s  {note[:300]}"


def short(record: Record) -> str:
    """The table for the end of the output, about 25 lines."""
    machine = record["machine"]
    lines = [f"{machine.get('gpu', 'no GPU')}, {record['date']}, {record.get('seconds', '?')} s"]
    lines += [_phase(label, p, record["results"].get(label, [])) for label, p in record["phases"].items()]
    measured = any(record["results"].get(part) for part in ("steps", "epochs"))
    lines += [_goal(row) for row in goals(record)] if measured else []
    us = {key: number(row["us"]) for key, row in steps_of(record).items()}
    for size in dict.fromkeys(at for at, _ in us):
        modes = "/".join(us.get((size, ours("fp32", mode)), "-") for mode in ("eager", "replay", MODE))
        others = [f"{p} {us[size, ours(p)]}" for p in PRECISIONS[1:] if (size, ours(p)) in us]
        compiled = [f"best {p} {found[1]:.1f}x" for p in ("fp32", "bf16") if (found := best(record, size, p))]
        eager = [f"eager {ratio:.1f}x" for key, ratio in ratios(record).items() if key == (size, "torch:eager")]
        lines.append(f"us {size}: fp32 eager/graph/burst {modes}, {', '.join([*others, *eager, *compiled])}")
    for row in record["results"].get("epochs", []):
        if "same bits" in row and not row["same bits"]:
            lines.append(f"NOT THE SAME BITS: {row['what']}")
    return "\n".join(lines)


def markdown(record: Record) -> str:
    """All of it."""
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
    if steps_of(record):
        legend = "Microseconds of a step, medians of rounds in turn; ours eager, as a graph (replay), and in bursts."
        texts += ["## Steps", legend, _steps(record)]
    if results.get("ceilings"):
        columns = {"what": lambda r: r["what"], "value": lambda r: _engineer(r["value"]), "unit": lambda r: r["unit"]}
        texts += ["## The machine", table(columns, [r for r in results["ceilings"] if "value" in r])]
    texts += _kernels(results.get("kernels", []))
    left_out = [r for rows in results.values() for r in rows if "left out" in r]
    columns = {"what": lambda r: r["left out"], "why": lambda r: str(r["why"])}
    texts += ["## Left out", table(columns, left_out)] if left_out else []
    return "\n\n".join(texts)


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
                sorted(these, key=lambda r: -r["us"] * r["count"])[:20],
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
