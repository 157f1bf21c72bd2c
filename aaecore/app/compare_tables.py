"""The table of a comparison: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..evaluation.likelihood import FEW
from ..files import atomic

TABLE, NUMBERS = "table.md", "table.csv"
Row = Mapping[str, Any]
LEGEND = (
    "Likelihood: of the test rows by a Gaussian Parzen window on so many samples, in nats; mean over seeds ± their "
    "deviation (± the standard error of one estimate over rows). Squared: half the squared error of a reconstruction. "
    "Loss: the model's own. Seconds: of an epoch of training. Minutes: of all training, with what was trained before."
)


def _likelihood(row: Row) -> str:
    spread = "" if row["deviation"] is None else f" ± {row['deviation']:.1f}"
    return f"{row['likelihood']:.1f}{spread} (± {row['error']:.1f})"


def _sigma(row: Row) -> str:
    chosen = row.get("sigma_samples", FEW)
    return f"{row['sigma']:.3g}" + ("" if chosen == FEW else f" (by {chosen:,} samples)")


def _pair(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[f'{name}_mean']:.2f}, {row[f'{name}_std']:.2f}"


def _number(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,.{digits}f}"


COLUMNS: dict[str, tuple[str, Callable[[Row], str]]] = {  # heading -> the number that a row needs, and its cell
    "model": ("model", lambda row: str(row["model"])),
    "seeds": ("seeds", _number("seeds", 0)),
    "likelihood": ("likelihood", _likelihood),
    "paper": ("paper", _number("paper", 0)),
    "samples": ("samples", _number("samples", 0)),
    "sigma": ("sigma", _sigma),
    "squared": ("squared", _number("squared", 1)),
    "loss": ("loss", lambda row: f"{row['loss']:.1f} {row.get('reconstruction') or ''}".strip()),
    "codes: mean, std": ("code_std", _pair("code")),
    "prior: mean, std": ("prior_std", _pair("prior")),
    "s / epoch": ("seconds_per_epoch", lambda row: f"{row['seconds_per_epoch']:.3g}"),
    "parameters": ("parameters", _number("parameters", 0)),
    "epochs": ("epochs", lambda row: f"{row['epochs']:.4g}"),
    "minutes": ("seconds", lambda row: f"{row['seconds'] / 60:.1f}"),
}


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table as text, the headings first; without columns that no row has a number for."""
    shown = {title: column for title, column in COLUMNS.items() if any(_has(row, column[0]) for row in rows)}
    lines = [[cell(row) if _has(row, name) else "" for name, cell in shown.values()] for row in rows]
    return [list(shown), *lines]


def _has(row: Row, name: str) -> bool:
    return row.get(name) is not None


def write(out: str, rows: Sequence[Row]) -> None:
    """Writes table.md, for people, and table.csv, with all digits, into a folder."""
    head, *lines = cells(rows)
    rule = ["---", *(["---:"] * (len(head) - 1))]
    text = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
    atomic.write(os.path.join(out, TABLE), f"{text}\n\n{LEGEND}\n".encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic.write(os.path.join(out, NUMBERS), table.getvalue().encode())


def show(rows: Sequence[Row]) -> None:
    """Prints the table, a column for each model; below each other as many as the terminal is wide enough for."""
    from rich.console import Console
    from rich.table import Table

    headings, *models = cells(rows)
    console = Console()
    while models:
        n = _fitting([headings, *models], console.width)
        head, *lines = zip(headings, *models[:n], strict=True)
        table = Table()
        for i, title in enumerate(head):
            table.add_column(title, justify="right" if i else "left", overflow="fold")  # nothing is cut
        for line in lines:
            table.add_row(*line)
        console.print(table)
        models = models[n:]


def _fitting(columns: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit beside the first: one at least."""
    ends = accumulate(max(map(len, column)) + 3 for column in columns)  # with a line and blanks between two
    return max(1, sum(end < width for end in ends) - 1)
