"""The updates of a training step, and what a model may say of them and of its data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..arguments import choice
from ..data.table import LABEL, Column, Stream

TAKEN = {"", "epoch", "step", "validation"}  # columns of a history that are no phase


@dataclass(frozen=True)
class Phase:
    """One update of a training step.

    Args:
        name: under which its losses and rates are found.
        moves: the networks that it moves, by the names of the model's attributes; none where it only says a loss.
        equilibrium: its loss where it cannot get better, if that is known: of a game, where nobody wins.
        rate: the learning rate that training begins with.
        game: whether it is played against another phase; Adam has a shorter memory there.
    """

    name: str
    moves: tuple[str, ...]
    equilibrium: float | None = None
    rate: float = 1e-3
    game: bool = False


def check_phases(
    phases: Sequence[Phase], networks: Collection[str], between: Mapping[str, Sequence[str]], factors: Collection[str]
) -> None:  # fmt: skip
    """ValueError for phases that training would stumble over.

    `between` are the phases of ratios of rates by name, `factors` those whose rates have factors.
    """
    names = [phase.name for phase in phases]
    if not names or len(set(names)) < len(names) or TAKEN & set(names) or any("/" in name for name in names):
        expected = f"one or more, each with a name of its own, none of them {', '.join(sorted(TAKEN - {''}))}"
        raise ValueError(f"phases: expected {expected}, got {', '.join(names) or 'none'}")
    for phase in phases:
        for name in phase.moves:
            choice(f"phase {phase.name!r}: moves", name, list(networks))
    for dial, others in between.items():
        for name in others:
            choice(f"ratio {dial!r}: phase", name, names)
    for name in factors:
        choice("rate_factors: phase", name, names)


def check_columns(columns: Mapping[str, Column], streams: Mapping[str, Stream]) -> None:
    """ValueError for columns of the data and streams of their rows that training would stumble over."""
    if "x" not in columns or any((name == LABEL) != (c.kind == "label") for name, c in columns.items()):
        raise ValueError(f"columns: expected x, and labels in {LABEL} if there are some, got {columns}")
    if next(iter(streams)) != "":
        raise ValueError(f"streams: expected '', all rows, as the first, got {', '.join(map(repr, streams))}")
    if unknown := set(columns) - {"x", LABEL}:
        raise ValueError(f"columns: expected x and {LABEL}, got {', '.join(sorted(unknown))} besides")
    for stream, rows in streams.items():
        for name in rows.columns:
            choice(f"stream {stream!r}: columns", name, list(columns))
