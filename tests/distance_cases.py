"""Cases of the distances of all pairs of rows.

The sizes stand around vectors of 4, 8 and 16 floats, panels of 8, 16 and 32 columns, register tiles of 6, 8 and 14
rows, the 512 columns that a block of rows meets at a time, blocks of 112 rows or 131072 numbers of them, and a GPU's
tiles of 64 rows and columns.
"""

from __future__ import annotations

from dataclasses import replace

from case_kit import Case, around, rows

_WEIGHT = {"weight": 0.75}
_SHAPES = [  # (B, M, N, K), each of B, M and N crossing every boundary while the others are small
    (1, 1, 1, 1), (1, 1, 1, 2), (1, 2, 3, 1), (2, 1, 3, 1), (5, 3, 2, 9), (1, 257, 5, 2), (257, 1, 5, 2),
    *((n, 5, 3, 1) for n in around(6, 8, 14, 28, 64, 112)),
    *((3, n, 3, 2) for n in around(4, 8, 16, 32, 64, 96, 128, 512, 1024)),
    *((7, 9, n, 1) for n in around(4, 8, 16, 32, 64)),
    (29, 65, 33, 6), (65, 129, 68, 3), (130, 67, 20, 9), (15, 530, 7, 2),
]  # fmt: skip
_TALL = (9400, 3, 5, 1)  # so many rows that threads get blocks of them
_WIDE = (43, 37, 9001, 1)  # blocks of fewer rows than 112
_FAR = {"gammas": [3e-9, 1e-9]}  # of numbers around 1e4


def _pairs(scalars: dict[str, float], shared: list[tuple[int, ...]], bench: list[tuple[int, ...]]) -> list[Case]:
    names, few = "B M N K", Case({"B": 15, "M": 35, "N": 19, "K": 2}, scalars)
    cases = rows(names, _SHAPES, scalars) + rows(names, shared, scalars, parallel=True)
    cases += [replace(few, fill="large", given=_FAR), replace(few, fill="zeros"), replace(few, fill="nan")]
    return cases + rows(names, bench, scalars, bench=True)


def _mmd() -> list[Case]:
    equal = [[1.0, 2.0], [-3.0, 0.5], [1.0, 2.0]]
    few = Case({"B": 3, "M": 3, "N": 2, "K": 2}, _WEIGHT)
    return [
        replace(few, note="equal", given={"x": equal, "y": equal}),
        replace(few, note="far-apart", given={"x": equal, "y": [[1e3, 2e3], [-3e3, 0.5], [8, 900]]}),
        *_pairs(_WEIGHT, [(131, 67, 35, 3), (230, 331, 71, 2)], [(100, 100, 784, 6), (200, 200, 8, 6)]),
    ]


def _parzen() -> list[Case]:
    infinite, zero = [float("inf")] * 3, [[0.0, 0.0]] * 3
    few = Case({"B": 3, "M": 4, "N": 5, "K": 2})
    first = {"least": infinite, "sums": zero}
    nan_row = [[0.5, 1, 2, -1, 0], [float("nan"), 1, 2, 3, 4], [0, 0, 1, 1, 2]]
    return [
        replace(few, note="first", given=first),
        replace(few, note="nearer-before", given={"least": [0.0, 1e-3, 1e-5]}),
        replace(few, note="farther-before", given={"least": [1e5, 3e2, 40.0]}),
        replace(few, note="nan-row", given={**first, "x": nan_row}),
        replace(few, note="nan-before", given={"least": [float("nan"), 1.0, 9.0]}),
        *_pairs({}, [_TALL, _WIDE, (331, 1029, 35, 2)], [(1000, 1024, 784, 1), (1000, 1024, 784, 9)]),
    ]


DISTANCE_CASES: dict[str, list[Case]] = {"mmd": _mmd(), "parzen": _parzen()}
