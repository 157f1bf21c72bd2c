"""Cases of random numbers, and of what is made with them: noise, dropout, moved images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from case_kit import BETA, CHUNK, LENGTHS, MANY, Case, flat, rows


def _flat_draws(*scalars: Mapping[str, float]) -> list[Case]:
    streams = cycle([0, 1, 7, 2**32 - 1])
    cases = [Case({"N": n, "stream": s}, scalars[0]) for n, s in zip(LENGTHS, streams, strict=False)]
    cases += [Case({"N": 19, "stream": 2}, s, note=f"scalars{i}") for i, s in enumerate(scalars)]
    cases += [Case({"N": MANY, "stream": 3}, scalars[0], parallel=True)]
    return [*cases, Case({"N": 800, "stream": 0}, scalars[0], bench=True)]


def _row_draws(names: str, tails: Sequence[tuple[int, ...]], scalars: Mapping[str, float] | None = None) -> list[Case]:
    """The first tail of dims with many row counts, the others with nine, the last with work for threads."""
    shapes = [(b, *tails[0]) for b in (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33)] + [(9, *t) for t in tails]
    cases = rows(names, shapes, scalars)
    cases += rows(names, [(CHUNK + 1, *tails[0]), (20011, *tails[-1])], scalars, parallel=True)
    return cases + rows(names, [(100, *tails[-1])], scalars, bench=True)


def _translate() -> list[Case]:
    names = "B N height width most stream"
    shapes: list[tuple[int, ...]] = [
        (1, 1, 1, 1, 0, 0), (2, 6, 2, 3, 0, 1), (9, 6, 2, 3, 5, 2), (17, 7, 1, 7, 2, 3), (17, 8, 8, 1, 2, 4),
        (5, 60, 5, 4, 1, 5), (33, 35, 5, 7, 2, 6), (7, 64, 8, 8, 3, 2**32 - 1), (15, 63, 7, 9, 4, 8),
    ]  # fmt: skip
    cases = rows(names, shapes) + rows(names, [(1031, 300, 10, 10, 3, 9)], parallel=True)
    cases += [Case(dict(zip(names.split(), shapes[5], strict=True)), fill=fill) for fill in ("zeros", "large", "nan")]
    return cases + rows(names, [(100, 784, 28, 28, 2, 0)], bench=True)


_STREAMS = [0, 7, 2**32 - 1]
_TURNS = {"turns_from": 0.25, "turns_to": 2.25, "radius": 5.0, "noise": 0.1}
_UNSURE = {"like": [[float("nan"), 1, 0], [0.5, 0.5, 0.6], [0.75, 1, 1], [0.5, 0, float("nan")]]}
_UNUSED_COMPONENTS = {"cumulative": [0.0, 0.25, 0.25, 1.0, 1.0]}

RANDOM_CASES: dict[str, list[Case]] = {
    "random_uniform": _flat_draws({"low": 0.0, "high": 1.0}, {"low": -3.0, "high": 2.0}),
    "random_normal": _flat_draws({"mean": 0.0, "std": 1.0}, {"mean": 2.0, "std": 5.0}),
    "random_mixture": [
        Case({"B": 99, "Z": 2, "C": 5, "stream": 9}, note="unused-components", given=_UNUSED_COMPONENTS),
        *_row_draws("B Z C stream", [(3, 2, 1), (1, 1, 0), (2, 10, 1), (4, 3, 2), (5, 4, 3), (7, 1, 4), (8, 5, 5),
                                     (9, 40, 6), (2, 10, 7)]),
    ],
    "random_swiss_roll": _row_draws("B stream", [(1,), (0,)], _TURNS),
    "random_hypersphere": _row_draws(
        "B Z stream", [(3, 1), (1, 0), (2, 1), (4, 2), (5, 3), (9, 5), (33, 6), (8, 7)], {"radius": 2.5}
    ),
    "random_categorical": [
        Case({"B": 99, "C": 5, "stream": 9}, note="unused-classes", given=_UNUSED_COMPONENTS),
        *_row_draws("B C stream", [(5, 1), (1, 0), (2, 1), (3, 2), (33, 3), (10, 7)]),
    ],
    "random_mixture_of": [
        Case({"B": 9, "Z": 2, "C": 3, "K": 0, "classes": 3, "stream": 5}, note="unlabelled"),
        Case({"B": 4, "Z": 2, "C": 2, "K": 3, "classes": 2, "stream": 5}, note="unsure", given=_UNSURE),
        *_row_draws("B Z C K classes stream", [
            (3, 2, 3, 2, 1), (1, 1, 1, 1, 0), (2, 10, 11, 10, 1), (4, 3, 2, 2, 2), (5, 4, 9, 3, 3), (7, 1, 2, 1, 4),
            (9, 40, 40, 33, 6), (2, 10, 11, 10, 7),
        ]),
    ],
    "random_swiss_roll_of": [
        Case({"B": 9, "K": 0, "parts": 3, "stream": 5}, _TURNS, note="unlabelled"),
        Case({"B": 4, "K": 3, "parts": 2, "stream": 5}, _TURNS, note="unsure", given=_UNSURE),
        *_row_draws("B K parts stream", [(4, 3, 1), (1, 1, 0), (2, 7, 2), (9, 2, 3), (11, 10, 0)], _TURNS),
    ],
    "random_bernoulli": [
        Case({"N": 4, "stream": 2}, note="sure", given={"probability": [0, 1, float("inf"), -1]}),
        *flat(78_400, "zeros large nan", stream=_STREAMS),
    ],
    "add_noise": flat(78_400, "zeros large nan", {"std": 0.3}, stream=_STREAMS),
    "dropout": [
        *[Case({"N": 19, "stream": 2, "beta": b}, {"rate": r}, f"rate{r:g}") for r in (0, 0.5, 0.99) for b in BETA],
        *flat(78_400, "zeros large nan", {"rate": 0.2}, stream=_STREAMS, beta=BETA),
    ],
    "translate": _translate(),
    "rng_advance": [
        Case(note=k, given={"rng": [7, n]}) for k, n in {"middle": 41, "carry": 2**32 - 1, "wrap": 2**64 - 1}.items()
    ],
}  # fmt: skip
