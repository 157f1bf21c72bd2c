"""Cases of classes, clusters and batch norm.

The sizes stand around vectors of 4, 8 and 16 floats, the 8 chains of a sum, tasks of 64 columns or 1024 numbers, and a
GPU's blocks of 32 rows or columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from case_kit import ACT, BETA, Case, around, cycled, rows, times

from aaecore.core.ops import RELU

_NAN = float("nan")
_FAR = [[1e4, 0, -1e4], [-2e4, -2e4, -3e4], [5, 5, 5], [-1, -90, -200]]  # shares of exactly 0 and 1
_NAN_ROWS = [[0, 1, _NAN], [1, 2, 3], [_NAN, 0, 1], [3, 2, 1]]
_ONE_HOT = [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]  # one row without a class
_WEIGHT = {"weight": 0.75}


def _by_row(scalars: Mapping[str, float], **choices: list[int]) -> list[Case]:
    """Of B rows of C classes."""
    shapes = [(1, 1), (1, 2), (3, 1), (1025, 1), (2, 7), (3, 8), (5, 9), (4, 15), (3, 16), (2, 17), (7, 33), (5, 100)]
    shapes += [(n, 10) for n in around(32, 102)]  # 102 rows of 10 are a task
    shapes += [(2, n) for n in around(512, 1024)]
    turns = 2 if choices else 1
    cases = rows("B C", shapes, scalars) + times(Case({"B": 8209, "C": 10}, scalars, parallel=True), turns)
    cases += rows("B C", [(2003, 101)], scalars, parallel=True)
    for fill in ("zeros", "large", "nan"):
        cases += times(Case({"B": 5, "C": 9}, scalars, fill=fill), turns)
    return cycled([*cases, *rows("B C", [(100, 10), (200, 10)], scalars, bench=True)], **choices)


def _logits(scalars: Mapping[str, float], **given: list[list[int]]) -> list[Case]:
    few = Case({"B": 4, "C": 3}, scalars)
    special = {"far": _FAR, "nan-rows": _NAN_ROWS}
    cases = [replace(few, note=note, given={"logits": logits, **given}) for note, logits in special.items()]
    return cases + _by_row(scalars)


def _batch_norm(scalars: Mapping[str, float], **choices: list[int]) -> list[Case]:
    shapes = [(1, 1), (1, 7), (2, 1), (3, 5), (100, 3)]
    shapes += [(n, 5) for n in around(8, 16, 24)] + [(11, n) for n in around(4, 8, 16, 32, 64, 128)]
    turns = len(ACT) if choices else 1
    cases = [Case({"B": 3, "F": 2}, scalars, note="constant", given={"x": [[2, -1], [2, 3], [2, 1]]})]
    cases += rows("B F", shapes, scalars) + times(Case({"B": 67, "F": 2003}, scalars, parallel=True), turns)
    cases += rows("B F", [(1031, 331)], scalars, parallel=True)
    for fill in ("zeros", "large", "nan"):
        cases += times(Case({"B": 5, "F": 19}, scalars, fill=fill), turns)
    cases = cycled(cases, **choices)
    bench = rows("B F", [(100, 1000), (200, 1000), (100, 3000)], scalars, bench=True)
    return cases + [replace(c, dims={**c.dims, **dict.fromkeys(choices, RELU)}) for c in bench]


def _heads(**choices: list[int]) -> list[Case]:
    shapes = [(1, 1, 1), (3, 2, 2), (5, 10, 3), (4, 5, 8), (2, 3, 16), (3, 4, 17), (33, 20, 33), (257, 7, 5)]
    shapes += [(n, 10, 6) for n in around(8, 16)] + [(6, n, 3) for n in around(4, 8, 16, 32)]
    turns = 2 if choices else 1
    cases = rows("B C Z", shapes) + times(Case({"B": 20011, "C": 11, "Z": 9}, parallel=True), turns)
    for fill in ("zeros", "large", "nan"):
        cases += times(Case({"B": 5, "C": 9, "Z": 7}, fill=fill), turns)
    return cycled([*cases, *rows("B C Z", [(100, 10, 10), (100, 20, 10)], bench=True)], **choices)


def _hinge() -> list[Case]:
    """In two dimensions most are nearer than 4, in ten few are."""
    scalars = {"least": 4.0, "weight": 0.75}
    exact = Case({"C": 3, "Z": 2}, {"least": 5.0, "weight": 0.75})
    shapes = [(1, 1), (2, 1), (2, 2), (3, 2), (5, 3), (7, 4), (8, 5), (9, 8), (16, 10), (17, 9), (33, 17), (50, 10)]
    return [
        replace(exact, note="at-least", given={"heads": [[0, 0], [3, 4], [0, 1]]}),
        replace(exact, note="coinciding", given={"heads": [[1, 2], [1, 2], [0, 1]]}),
        *rows("C Z", shapes, scalars),
        *rows("C Z", [(150, 7)], scalars, parallel=True),
        *(Case({"C": 5, "Z": 3}, scalars, fill=fill) for fill in ("zeros", "large", "nan")),
        Case({"C": 1, "Z": 3}, scalars, fill="nan"),
        *rows("C Z", [(10, 10)], scalars, bench=True),
    ]


CLASS_CASES: dict[str, list[Case]] = {
    "softmax": _logits({}),
    "softmax_backward": _by_row({}, beta=BETA),
    "softmax_cross_entropy": _logits(_WEIGHT, target=_ONE_HOT),
    "batch_norm_forward": _batch_norm({"slope": 0.2, "eps": 1e-5}, act=ACT),
    "batch_norm_apply": _batch_norm({"slope": 0.2, "eps": 1e-5}, act=ACT),
    "batch_norm_backward": _batch_norm({"eps": 1e-5}),
    "add_product": _heads(),
    "add_product_backward": _heads(beta=BETA),
    "add_product_backward_heads": _heads(beta=BETA),
    "head_hinge": _hinge(),
}
