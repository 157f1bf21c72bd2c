"""The short table that ends a run on a GPU, 60 lines of 160 characters at most, and the numbers that it is made of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alternate import parse_spec
from labels import name, number

from gpu.goals import BEST, EAGER, EPOCH, GPU_SIZES, MODE, STEP, Machine, judged, machine_of, step_limit

Row = Mapping[str, Any]
Record = Mapping[str, Any]
PRECISIONS = ("fp32", "ffma", "tf32", "bf16")
MODES = ("eager", "replay", MODE)
MARKS = {True: "met", False: "MISSED", None: "not measured"}
WIDTH = 160  # characters of a line
LINES = 60
# Lines of each part; the ceilings have what is left.
MOST = {"tests": 8, "goals": 13, "own": 5, "timeline": 8, "switches": 3, "steps": 3}
UNITS = {"B/s": (1e12, "TB/s"), "FLOP/s": (1e12, "TFLOP/s"), "s": (1e-6, "us")}  # of ceilings: bounds, then gaps
SUMS = ("step us", "chain us", "gaps us", "longest gap us", "kernel us")  # of a timeline
TOLD = 5  # gaps and kernels of a timeline


def rows_of(record: Record, phase: str, key: str) -> list[Row]:
    """The rows of a phase that have a key."""
    return [row for row in record["results"].get(phase, []) if key in row]


def steps_of(record: Record) -> dict[tuple[str, str], Row]:
    """By size and competitor."""
    return {(r["size"], r["who"]): r for r in rows_of(record, "steps", "us")}


def graphs_of(record: Record) -> list[Row]:
    """The graphs of one step that have a timeline."""
    return [row for row in rows_of(record, "timeline", "step us") if row.get("steps", 1) == 1]


def ours(precision: str, mode: str = MODE) -> str:
    return f"aaecore:{mode}{'' if precision == 'fp32' else f':{precision}'}"


def ratios(record: Record) -> dict[tuple[str, str], float]:
    """(size, peer): how many times our step the peer's takes, the median of the rounds."""
    return {(r["size"], r["peer"]): r["ratio"] for r in rows_of(record, "steps", "ratio")}


def best(record: Record, size: str, precision: str) -> tuple[str, float] | None:
    """The fastest compiled peer of a size and precision, and its ratio."""
    found = [
        (who, ratio)
        for (at, who), ratio in ratios(record).items()
        if at == size and not who.startswith("torch:eager") and parse_spec(who).precision == precision
    ]
    return min(found, key=lambda pair: pair[1], default=None)


def machine(record: Record) -> tuple[Machine, list[str]]:
    """What the ceilings of this run say of the GPU, and which of them are missing."""
    return machine_of({r["what"]: r["value"] for r in rows_of(record, "ceilings", "value")})


def our_step(record: Record, size: str, precision: str) -> float | None:
    """Microseconds: those measured beside the peers, or else those measured alone."""
    beside = steps_of(record).get((size, ours(precision)), {}).get("us")
    alone = {(r["size"], r["precision"], r["mode"]): r["us"] for r in rows_of(record, "own", "us")}
    return beside if beside is not None else alone.get((size, precision, MODE))


def goals(record: Record) -> list[dict[str, Any]]:
    """The table of goals."""
    pairs, (here, _), rows = ratios(record), machine(record), []
    for size, precision in STEP:
        label = f"step {GPU_SIZES[size]}, {precision}, us"
        rows.append(judged(label, our_step(record, size, precision), step_limit(size, precision, here)))
    for size, limit in EAGER.items():
        value = pairs.get((size, "torch:eager"))
        rows.append(judged(f"PyTorch eager / ours at {size}, fp32", value, limit, at_least=True))
    for (size, precision), limits in BEST.items():
        found = best(record, size, precision)
        label = f"{name(found[0]) if found else 'best peer'} / ours at {size}, {precision}"
        rows += [judged(label, found[1] if found else None, limit, at_least=True) for limit in limits]
    for row in rows_of(record, "epochs", "epoch"):
        if row.get("precision") in ("fp32", "bf16"):
            rows.append(judged(f"epoch of 60000 rows, {row['precision']}, s", row["epoch"], EPOCH))
    return rows


def _goal(row: Row) -> str:
    value = "-" if row["value"] is None else number(row["value"])
    limit = f"{'at least' if row['at_least'] else 'at most'} {number(row['goal'])}"
    return f"{row['goal of']:<58} {value:>7}  {limit:<14} {MARKS[row['met']]}"


def built(row: Row) -> str:
    """What the build says of a part: where it is from, and why it is not from the pack."""
    text = {"extension": row.get("from", "MISSING"), "kernels": f"{row.get('from the pack', 0)} from the pack"}
    compiled = f", {row['compiled']} compiled" if row.get("compiled") else ""
    why = f" ({row['why']})" if row.get("why") else ""
    return f"{row['part']}: {text[row['part']]}{compiled}{why}"


def _phase(label: str, phase: Row, rows: Sequence[Row]) -> str:
    """Of tests their last line; of a phase that failed, why."""
    tests = [str(r["summary"]) for r in rows if "summary" in r] if phase["status"] != "left out" else []
    note = " | ".join([*filter(None, [phase["message"]]), *tests])
    return f"{label:<10} {phase['status']:<12} {phase['seconds']:>6.1f} s  {note or f'{len(rows)} rows'}"


def _head(record: Record) -> Iterator[str]:
    here = record["machine"]
    taken = f"{record.get('seconds', '?')} s of {record.get('budget', '?')}"
    yield f"{here.get('gpu', 'no GPU')}, {record['date']}, {taken}"
    notes = ["DRY RUN on the emulator: it says nothing of speed"] if record.get("dry") else []
    notes += [f"no {part}: {why}" for part, why in record.get("lacking", {}).items()]
    notes += [*record.get("wheels", [])]
    notes += [f"beside the phases: {record['background']}"] if "background" in record else []
    timed = not record.get("dry") and (rows_of(record, "own", "us") or rows_of(record, "steps", "us"))
    missing = machine(record)[1] if timed else []
    notes += [f"not measured, so limits of steps are for an H200's {' and '.join(missing)}"] if missing else []
    yield "; ".join(notes)


def _own(record: Record) -> Iterator[str]:
    rows = rows_of(record, "own", "us")
    us = {(r["size"], r["precision"], r["mode"]): number(r["us"]) for r in rows}
    for size in dict.fromkeys(r["size"] for r in rows):
        found = [p for p in PRECISIONS if any((size, p, mode) in us for mode in MODES)]
        parts = [f"{p} {'/'.join(us.get((size, p, mode), '-') for mode in MODES)}" for p in found]
        yield f"own {size}, us {'/'.join(MODES)}: {', '.join(parts)}"


def _timeline(record: Record) -> Iterator[str]:
    """A line for each graph, and of the first one where its time goes."""
    graphs, nodes = graphs_of(record), rows_of(record, "timeline", "node")
    for row in graphs[: MOST["timeline"] - TOLD]:
        parts = [f"{key} {number(row[key])}" for key in ("untraced us", *SUMS) if key in row]
        parts += [f"{row['nodes']} nodes, {row['chain nodes']} on the chain"]
        yield f"timeline {row['size']} {row['precision']}: {', '.join(parts)}"
    first = [n for n in nodes if graphs and all(n[k] == graphs[0][k] for k in ("size", "precision"))]
    # What waits for nothing may begin at any time: gaps of the chain come first.
    waits = sorted(first, key=lambda n: (not n["chain"], -n["wait"]))[:TOLD]
    longest = sorted(first, key=lambda n: -n["us"])[:TOLD]
    for gap, node in zip(waits, longest, strict=True):
        before = f"gap {gap['wait']:.1f} before {gap['node']} {gap['kernel']}{' (chain)' if gap['chain'] else ''}"
        yield f"  {before:<70} {node['us']:.1f} us {node['node']} {node['kernel']}{' (chain)' if node['chain'] else ''}"


def _joined(label: str, parts: Sequence[str]) -> list[str]:
    return textwrap.wrap("; ".join(parts), WIDTH, initial_indent=f"{label}: ") if parts else []


def _ceilings(record: Record) -> list[str]:
    rows = rows_of(record, "ceilings", "value")
    chosen = [(r, *scale) for unit, scale in UNITS.items() for r in rows if r["unit"] == unit]
    return _joined("ceilings", [f"{r['what']} {number(r['value'] / scale)} {unit}" for r, scale, unit in chosen])


def _switches(record: Record) -> list[str]:
    rows = rows_of(record, "switches", "ratio")
    parts = [f"{r['size']} {r['precision']} {r['switch']} {r['ratio']:.3f}" for r in rows]
    return _joined("switches, time by usual", parts)


def _steps(record: Record) -> Iterator[str]:
    us = {key: number(row["us"]) for key, row in steps_of(record).items()}
    for size in dict.fromkeys(at for at, _ in us):
        modes = "/".join(us.get((size, ours("fp32", mode)), "-") for mode in MODES)
        others = [f"{p} {us[size, ours(p)]}" for p in PRECISIONS[1:] if (size, ours(p)) in us]
        compiled = [f"best {p} {found[1]:.1f}x" for p in ("fp32", "bf16") if (found := best(record, size, p))]
        eager = [f"eager {ratio:.1f}x" for key, ratio in ratios(record).items() if key == (size, "torch:eager")]
        yield f"us {size}: fp32 eager/graph/burst {modes}, {', '.join([*others, *eager, *compiled])}"


def short(record: Record) -> str:
    """The table for the end of the output; of a dry run without any time."""
    lines = [*_head(record)]
    lines += [_phase(label, p, record["results"].get(label, [])) for label, p in record["phases"].items()]
    lines += [f"  {r['not passed']}" for r in rows_of(record, "tests", "not passed")][: MOST["tests"]]
    compared = [*rows_of(record, "epochs", "same bits"), *rows_of(record, "switches", "same bits")]
    different = [str(r.get("what") or f"{r['switch']}, {r['precision']}") for r in compared if not r["same bits"]]
    lines += [f"NOT THE SAME BITS: {', '.join(different)}"] if different else []
    if not record.get("dry"):
        measured = any(record["results"].get(part) for part in ("own", "steps", "epochs"))
        parts = {
            "goals": [_goal(row) for row in goals(record)] if measured else [], "own": _own(record),
            "timeline": _timeline(record), "switches": _switches(record), "steps": _steps(record),
        }  # fmt: skip
        lines += [line for part, made in parts.items() for line in list(made)[: MOST[part]]]
        lines += _ceilings(record)[: LINES - len(lines)]
    return "\n".join(line[:WIDTH] for line in lines if line)
