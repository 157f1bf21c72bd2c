"""What lists of cases are made of: a case, and rows of them.

The lists themselves stand in `cases.py` and the files that it imports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from aaecore.core.ops import ACTIVATIONS

CHUNK = 8192  # elements of a task
MANY = 32 * CHUNK + 3  # elements: enough chunks and work for threads, and a tail for every vector
ACT = list(ACTIVATIONS.values())
BETA = [0, 1]


@dataclass(frozen=True)
class Case:
    """One launch: its dims and scalars, and what its buffers hold.

    fill: "normal", "zeros", "large" (inputs around +-1e4), "nan" (one NaN in every floating input), or "fresh" (the
    moments of an optimizer at zero).
    given: contents of some buffers, by name. parallel: enough work that every kernel shares it among threads.
    bench: a shape of the real networks, timed as well.
    """

    dims: Mapping[str, int] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    fill: str = "normal"
    given: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parallel: bool = False
    bench: bool = False


def case_id(case: Case) -> str:
    """For example ``B3-I5-O17-relu-beta1-nan``: unique within an op."""
    names = list(ACTIVATIONS)
    parts = [names[n] if k == "act" else f"{k}{n}" for k, n in case.dims.items()]
    parts += [case.fill] * (case.fill != "normal") + [case.note] * bool(case.note)
    return "-".join(parts) or "plain"


def around(*sizes: int) -> list[int]:
    return sorted({n + d for n in sizes for d in (-1, 0, 1)})


def cycled(cases: Sequence[Case], **choices: list[int]) -> list[Case]:
    """Gives the cases the listed dims in turn: 5 activations and 2 betas share no factor, so all pairs turn up."""
    turns = {k: cycle(v) for k, v in choices.items()}
    return [replace(c, dims={**c.dims, **{k: next(t) for k, t in turns.items()}}) for c in cases]


def rows(
    names: str, shapes: Sequence[tuple[int, ...]], scalars: Mapping[str, float] | None = None, **settings: Any
) -> list[Case]:
    """One case per row of dims, the columns named in one string."""
    return [Case(dict(zip(names.split(), s, strict=True)), scalars or {}, **settings) for s in shapes]


def times(case: Case, count: int) -> list[Case]:
    """The case once per combination that `cycled` will give it."""
    return [replace(case, note=f"{'parallel' if case.parallel else 'turn'}{i}") for i in range(count)]


LENGTHS = [1, 2, *around(4, 8, 16, 32), *around(CHUNK), 2 * CHUNK + 1]  # of an element-wise op


def flat(bench: int, fills: str = "", scalars: Mapping[str, float] | None = None, **choices: list[int]) -> list[Case]:
    """Cases of an element-wise op of N elements."""
    turns = math.prod(len(v) for v in choices.values())
    cases = [Case({"N": n}) for n in LENGTHS] + times(Case({"N": MANY}, parallel=True), min(turns, 5))
    for fill in fills.split():
        cases += times(Case({"N": 37}, fill=fill), turns)
    cases = cycled([*cases, Case({"N": bench}, bench=True)], **choices)
    return [replace(c, scalars=scalars or {}) for c in cases]
