"""Cases of energies: a bias with its activation, and products that are summed over rows or over everything."""

from __future__ import annotations

from collections.abc import Mapping

from case_kit import ACT, CHUNK, Case, around, cycled, rows, times

_WEIGHT = {"weight": -0.75}


def _by_column(scalars: Mapping[str, float], **choices: list[int]) -> list[Case]:
    """Sizes around the 8 chains of a sum, vectors, tasks of 64 columns, and a GPU's blocks of 32."""
    shapes = [(1, 1), (1, 7), (2, 1), (3, 5), (100, 3), *((n, 5) for n in around(8, 16, 24))]
    shapes += [(11, n) for n in around(4, 8, 16, 32, 64, 128)] + [(3, n) for n in around(CHUNK)]
    turns = len(ACT) if choices else 1
    cases = rows("B N", shapes, scalars) + times(Case({"B": 67, "N": 2003}, scalars, parallel=True), turns)
    cases += rows("B N", [(1031, 331)], scalars, parallel=True)
    cases += rows("B N", [(2, 32 * 1024 + 33)], scalars, parallel=True)  # more columns than a GPU takes in one turn
    for fill in ("zeros", "large", "nan"):
        cases += times(Case({"B": 5, "N": 19}, scalars, fill=fill), turns)
    return cycled([*cases, *rows("B N", [(100, 784), (100, 500)], scalars, bench=True)], **choices)


def _inner_product() -> list[Case]:
    shapes = [(1, 1), (1, 7), (3, 5), (7, 1), (2, 8), (5, 15), (3, 17), (9, 33), *((1, n) for n in around(CHUNK))]
    cases = rows("B N", shapes, _WEIGHT) + rows("B N", [(131, 2003), (131, 8011)], _WEIGHT, parallel=True)
    cases += [Case({"B": 5, "N": 19}, _WEIGHT, fill=fill) for fill in ("zeros", "large", "nan")]
    return [*cases, Case({"B": 100, "N": 784}, _WEIGHT, bench=True)]


ENERGY_CASES: dict[str, list[Case]] = {
    "add_bias": _by_column({"slope": 0.2}, act=ACT),
    "bias_product": _by_column(_WEIGHT),
    "inner_product": _inner_product(),
}
