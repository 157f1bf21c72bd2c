"""A result as JSON, as Markdown tables and as pictures, and its blocks in the README and the docs.

A block stands between `<!-- bench: NAME -->` and `<!-- bench: end -->`; NAME is `summary`, `bf16` or `all`. No number
in a block is written by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import figures
from labels import LIBRARIES, name, number
from sizes import MEMORY_FORMULA, SIZES
from works import WORKS

Row = Mapping[str, Any]
Record = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]
BLOCK = re.compile(r"(<!-- bench: (summary|bf16|all) -->\n).*?(<!-- bench: end -->)", re.DOTALL)


def ratio(row: Row, key: str = "ratio", digits: int = 2) -> str:
    """The value, or that it was not decided; with the number of clean pairs."""
    value = f"{row[key]:.{digits}f}"
    text = value if row["decided"] else f"NOT DECIDED ({value})"
    return f"{text}, {row['clean']} of {row['pairs']}"


def goal(row: Row) -> str:
    """The goal and whether it was met; nothing where there is none."""
    if "goal" not in row:
        return ""
    return f"{number(row['goal'])}: {({True: 'met', False: 'MISSED', None: 'not decided'})[row['met']]}"


def table(columns: Columns, rows: Iterable[Row]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell(row) for cell in columns.values())} |" for row in rows)])


def _size(row: Row) -> str:
    known = {**SIZES, **WORKS}
    return f"{row['size']} {known[row['size']]}" if row["size"] in known else str(row["size"])


def _errors(row: Row) -> str:
    if "error" in row:
        return str(row["error"])
    sides = [
        " / ".join(f"{state[kind]:.0e}" for state in row[side]) for kind in (0, 1) for side in ("our errors", "errors")
    ]
    return f"update {sides[0]} ({sides[1]}), loss {sides[2]} ({sides[3]})"


def _memory(row: Row) -> str:
    m = row["memory"]
    return f"{m['measured'] / 1e6:.1f}, {m['formula'] / 1e6:.1f}{'' if m['met'] else ' MISSED'}"


def _apart(row: Row) -> str:
    least, middle, most = row.get("apart", (None, None, None))
    return "" if middle is None else f"{middle} ({least} to {most})"


def _minimum(row: Row) -> str:
    return goal(row).replace(":", " at least:", 1)


def _maximum(row: Row) -> str:
    return goal(row).replace(":", " at most:", 1)


SECTIONS: dict[str, tuple[str, str, Columns]] = {  # by part: heading, method, table
    "equal": (
        "Equal work",
        "One step from equal weights, moments and prior sample, at the initial state and after 5 and 20 steps: the "
        "relative error of the worst network's update and of the worst loss against the peer's float64, ours and in "
        "brackets the peer's. A peer whose step is not ours is not timed. The rule stands in `bench/equal.py`.",
        {
            "size": _size, "peer": lambda r: name(r["peer"]), "errors": _errors,
            "equal": lambda r: "yes" if r["equal"] else "NO",
        },
    ),
    "steps": (
        "A training step",
        "Live processes in turn; the median over the rounds of (the peer's best step / our best step in that round): "
        "above 1 aaecore is faster. Pairs during which other processes used more than a tenth of a core are dropped. "
        "Milliseconds are medians of the whole run, for orientation; MB is the peak of each process. Between cores is "
        "how long one thread takes to answer another, the median and its range: a virtual machine's cores may be moved "
        "apart, which small networks feel most.",
        {
            "size": _size, "peer": lambda r: name(r["peer"]), "ratio, clean pairs": ratio, "goal": _minimum,
            "ms, peer and ours": lambda r: f"{number(r['ms'])}, {number(r['our ms'])}",
            "MB, peer and ours": lambda r: f"{r['rss']}, {r['our rss']}", "ns between cores": _apart,
        },
    ),
    "models": (
        "A training step of the later models",
        "As above, of the semi-supervised model in the paper's phases and with one update of encoder and decoder for "
        "all losses, and of the clustering model at width 3000. Adam in every update, half squared errors; noise, "
        "dropout and samples of the priors are drawn in the step. Equal work was checked at a width of at most 1000.",
        {
            "model": _size, "peer": lambda r: name(r["peer"]), "ratio, clean pairs": ratio, "goal": _minimum,
            "ms, peer and ours": lambda r: f"{number(r['ms'])}, {number(r['our ms'])}",
            "MB, peer and ours": lambda r: f"{r['rss']}, {r['our rss']}", "ns between cores": _apart,
        },
    ),
    "normed": (
        "Batch norm and dropout",
        "Our step with batch norm in the encoder and dropout of x by the same step without both, in turn.",
        {"model": _size, "ratio, clean pairs": ratio, "goal": _maximum},
    ),
    "epochs": (
        "An epoch",
        "Of uint8 rows, shuffled anew, gathered, scaled and trained on, the smaller last batch included; ours through "
        "`Trainer.fit` with its guard. Ratios as above, of whole epochs.",
        {
            "size": _size, "peer": lambda r: name(r["peer"]), "ratio, clean pairs": ratio, "goal": _minimum,
            "ms per step, peer and ours": lambda r: f"{number(r['ms'])}, {number(r['our ms'])}",
            "ns between cores": _apart,
        },
    ),
    "one-thread": (
        "One thread against the machine's limit",
        "The median step's time by (operations of its matrix products / the rate of fused multiply-adds on registers, "
        "measured before and after each block in the same process). Rounds with foreign load, or whose two probes "
        "differ by more than 5 %, are dropped.",
        {
            "size": _size, "times the limit, clean rounds": ratio, "goal": _maximum, "ms": lambda r: number(r["ms"]),
            "GFLOP/s of the probe": lambda r: number(r["GFLOP/s of the probe"]),
        },
    ),
    "overhead": (
        "What `Trainer.fit` adds",
        "An epoch through fit by the same recorded steps replayed bare, gather included, in turn in one process.",
        {"size": _size, "ratio, clean pairs": ratio, "goal": _maximum},
    ),
    "cold": (
        "Cold start and memory",
        "Fresh processes in turn, files cached: seconds from the start of the process to the end of its first step "
        "(median), and the peak of its resident memory after some more steps.",
        {
            "size": _size, "who": lambda r: name(r["who"]), "seconds, clean starts": lambda r: ratio(r, "seconds"),
            "goal": _maximum, "MB": lambda r: number(r["rss"]),
            "our MB / these": lambda r: f"{r['our memory']['ratio']:.2f}, {_maximum(r['our memory'])}"
            if "our memory" in r else "",
        },
    ),
    "imports": (
        "Import",
        "Seconds that the import takes in a fresh process, dependencies included (median).",
        {
            "library": lambda r: r["library"], "seconds, clean starts": lambda r: ratio(r, "seconds", 3),
            "goal": _maximum,
        },
    ),
    "load": (
        "Beside a busy process",
        "The median step while one other process is busy by the median step alone, in turn.",
        {"size": _size, "who": lambda r: name(r["who"]), "ratio, clean pairs": ratio, "goal": _maximum},
    ),
    "growth": (
        "Growth",
        "As under one thread, with all threads. Goal: the times of the limit grow by at most a tenth over those of the "
        "smallest batch or network. Memory: the peak that a model and its recorded step add to the process, and "
        f"{MEMORY_FORMULA} bytes: E, D and C parameters of encoder, decoder and discriminator, B rows, I inputs, "
        "H hidden and Z latent features.",
        {
            "inputs-hidden-latent-batch": lambda r: r["size"], "ms": lambda r: number(r["ms"]),
            "us per sample": lambda r: number(r["us per sample"]), "times the limit, clean rounds": ratio,
            "goal": _maximum, "MB, measured and formula": _memory,
        },
    ),
    "wheel": (
        "Wheel",
        "The files that it ships, each compressed.",
        {"MB": lambda r: f"{r['bytes'] / 1e6:.2f}", "goal, bytes": _maximum},
    ),
}  # fmt: skip


def markdown(record: Record, level: int = 2) -> str:
    """All tables of a result."""
    machine, versions = record["machine"], record["versions"]
    head = (
        f"{machine['cores']} cores of {machine['cpu']}; {machine['instruction set']} kernels, "
        f"{record['settings']['threads']} threads. "
        f"{', '.join(f'{LIBRARIES.get(k, k)} {v}' for k, v in versions.items())}. Commit {machine['commit']}, "
        f"{record['date']}, {record.get('minutes', '?')} minutes. Goals are limits that the project has set itself."
    )
    texts = [head]
    for part, rows in record["results"].items():
        heading, method, columns = SECTIONS[part]
        if part in record.get("later", {}):
            method += " Commit {commit}, {date}.".format(**record["later"][part])
        texts += [f"{'#' * level} {heading}", method, table(columns, rows) if rows else "Nothing was measured."]
        texts += [f"![{heading}]({picture(record, part)})"] if rows and part in PICTURES else []
    return "\n\n".join(texts)


PICTURES = tuple(figures.DRAWN)


def picture(record: Record, part: str) -> str:
    return f"{record['machine']['slug']}-{part}.svg"


def summary(record: Record, *, bf16: bool = False) -> str:
    """What a step of each peer takes by ours, and on what: in float32 for the README, or with factors in bfloat16."""
    rows = [r for r in record["results"].get("steps", []) if r["peer"].endswith(":bf16") == bf16]
    machine = record["machine"]
    versions = ", ".join(f"{LIBRARIES[k]} {v}" for k, v in record["versions"].items() if k in LIBRARIES)
    legend = (
        f"How many times longer the peer's step takes, as the median of pair ratios, on {machine['cores']} cores of "
        f"{machine['cpu']} ({machine['slug']}); {versions}. A question mark: too few clean pairs."
    )
    return f"{_by_size(rows)}\n\n{legend}" if rows else "Nothing was measured."


def _by_size(rows: list[Row]) -> str:
    """Sizes down, peers across."""
    found = {(r["size"], r["peer"]): f"{number(r['ratio'])}{'' if r['decided'] else '?'}" for r in rows}
    columns: dict[str, Callable[[Row], str]] = {"networks, batch": lambda r: str(SIZES[r["size"]])}
    for peer in dict.fromkeys(r["peer"] for r in rows):
        columns[name(peer)] = lambda r, peer=peer: found.get((r["size"], peer), "-")
    return table(columns, [{"size": size} for size in dict.fromkeys(r["size"] for r in rows)])


def write(record: Record, folder: Path, *, pictures: bool = True) -> list[Path]:
    """Writes <machine>.json, <machine>.md and the pictures of what was measured; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = record["machine"]["slug"]
    texts = {f"{stem}.json": json.dumps(record, indent=1) + "\n", f"{stem}.md": f"# {stem}\n\n{markdown(record)}\n"}
    for file, text in texts.items():
        (folder / f"{file}.new").write_text(text, encoding="utf-8")
        os.replace(folder / f"{file}.new", folder / file)
    written = [folder / file for file in texts]
    for part in PICTURES if pictures else ():
        if record["results"].get(part):
            figures.draw(part, record, folder / picture(record, part))
            written.append(folder / picture(record, part))
    return written


def renew(path: Path, record: Record, folder: Path) -> None:
    """Renews the blocks of a file; pictures of `folder` are linked from where the file is.

    Raises:
        ValueError: the file has no block.
    """
    text = path.read_text(encoding="utf-8")
    prefix = os.path.relpath(folder, path.resolve().parent)
    made = {
        "summary": summary(record),
        "bf16": summary(record, bf16=True),
        "all": markdown(record, 3),
    }
    linked = {key: re.sub(r"\]\(([\w.-]+\.svg)\)", rf"]({prefix}/\1)", block) for key, block in made.items()}
    new, count = BLOCK.subn(lambda m: f"{m[1]}{linked[m[2]]}\n{m[3]}", text)
    if not count:
        raise ValueError(f"{path}: expected a block <!-- bench: NAME --> of summary, bf16 or all to renew")
    path.write_text(new, encoding="utf-8")
