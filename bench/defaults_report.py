"""Writes the tables and pictures of docs/defaults.md from what bench/defaults.py measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from defaults import CASES, CODES

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- defaults: begin -->\n", "<!-- defaults: end -->\n"
SETTINGS = {"earlier": "earlier, Python", "slower": "earlier, command line", "now": "now"}
Rows = list[dict[str, str]]


def write(rows: Rows) -> None:
    """Replaces what lies between the markers, and draws the worst and the median case."""
    good = [row for row in rows if row["mmd"]]
    page = DOCS / "defaults.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + _summary(rows) + _pictures(good) + _matrix(good) + END + rest.split(END)[1])


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines]) + "\n\n"


def _summary(rows: Rows) -> str:
    lines = []
    for setting, title in SETTINGS.items():
        chosen = [row for row in rows if row["setting"] == setting and row["mmd"]]
        failed = sum(row["setting"] == setting and not row["mmd"] for row in rows)
        mmd, spread, relative = (np.array([float(row[k]) for row in chosen]) for k in ("mmd", "spread", "relative"))
        held = np.mean((mmd < 6) & (spread > 0.75) & (spread < 1.33))
        runs = f"{len(chosen)}" + (f", {failed} failed" if failed else "")
        within = f"{spread.min():.2f} to {spread.max():.2f}"
        rebuilt = f"{np.median(relative):.2f}, {relative.max():.2f}"
        lines.append([title, runs, f"{np.median(mmd):.1f}, {mmd.max():.0f}", within, rebuilt, f"{held:.0%}"])
    head = ["defaults", "runs", "discrepancy: median, worst", "spread", "reconstruction: median, worst", "held"]
    return _table(head, lines)


def _matrix(rows: Rows) -> str:
    """A line for each case: means over the seeds, and the worst of them."""
    lines = []
    for case in CASES:
        of_case = [row for row in rows if row["case"] == case.name]
        cells = [_cell([row for row in of_case if row["setting"] == setting]) for setting in SETTINGS]
        now = sorted((row for row in of_case if row["setting"] == "now"), key=lambda row: float(row["mmd"]))
        lines.append([case.name, *cells, _cell(now[-1:])])
    return _table(["case", *SETTINGS.values(), "now, worst seed"], lines)


def _cell(rows: Rows) -> str:
    if not rows:
        return ""
    spread, mmd, relative = (np.mean([float(row[k]) for row in rows]) for k in ("spread", "mmd", "relative"))
    return f"{spread:.2f}, {mmd:.1f}, {relative:.2f}"


def _pictures(rows: Rows) -> str:
    """The worst and the median case of today's defaults by discrepancy, with the earlier ones beside them."""
    import matplotlib

    matplotlib.use("Agg")
    now = sorted((r for r in rows if (r["setting"], r["seed"]) == ("now", "0")), key=lambda r: float(r["mmd"]))
    text = ""
    for title, row in (("worst", now[-1]), ("median", now[len(now) // 2])):
        _draw(DOCS / f"defaults-{title}.png", row["case"])
        text += f"![Codes of the {title} case](defaults-{title}.png)\n\n"
        text += f"*The {title} case by discrepancy, of seed 0: {row['case']}. The first two features of the code.*\n\n"
    return text


def _draw(path: Path, case: str) -> None:
    from matplotlib import pyplot as plt

    number = next(i for i, c in enumerate(CASES) if c.name == case)
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), sharex=True, sharey=True, layout="constrained")
    for axis, (setting, title) in zip(axes, SETTINGS.items(), strict=True):
        with np.load(CODES / f"{number}-{setting}-0.npz") as file:
            codes, prior = file["codes"], file["prior"]
        axis.plot(*prior[:1000, :2].T, ".", ms=2, color="0.75", label="prior")
        axis.plot(*codes[:1000, :2].T, ".", ms=2, color="C0", label="codes of held-out rows")
        reach = 1.5 * np.abs(prior[:, :2]).max()
        axis.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="code 1")
    axes[0].set_ylabel("code 2")
    axes[0].legend(loc="upper right", fontsize="small", markerscale=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
