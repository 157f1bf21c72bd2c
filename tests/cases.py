"""The one list of shapes: every op of the table with the sizes at which its kernels could go wrong.

`tests/backends/test_ops.py` runs all of them against the reference, the benchmarks time those marked `bench`. A new op
needs one row in `CASES`. The sizes stand around every boundary of the kernels: vectors of 4, 8 and 16 floats, weight
panels of 8, 16 and 32 columns, register tiles of 6, 8 and 14 rows, half a vector of inputs or outputs, blocks of 28, 56
and 112 rows, eight panels, and chunks of 8192 elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from case_kit import ACT, BETA, CHUNK, Case, around, cycled, flat, rows, times
from class_cases import CLASS_CASES
from distance_cases import DISTANCE_CASES
from energy_cases import ENERGY_CASES
from numpy.typing import NDArray
from random_cases import RANDOM_CASES

from aaecore.backends.reference import FUNCTIONS
from aaecore.core.ops import (
    BETA1,
    BETA2,
    EPS,
    GRAD_SCALE,
    LR,
    OPS,
    PRECISIONS,
    RELU,
    STATE_SIZE,
    STEP,
    Arg,
)

Array = NDArray[Any]


# --- sizes ------------------------------------------------------------------------------------------------------------

NETWORK = [  # (batch, inputs, outputs) of the networks that are benchmarked
    (100, 784, 1000), (100, 1000, 1000), (100, 1000, 8), (100, 8, 1000), (100, 1000, 784), (100, 1000, 1),
    (64, 128, 128), (32, 32, 32),
]  # fmt: skip

_EDGES = around(4, 6, 8, 14, 16, 28, 32, 56, 64, 112)
_EIGHT_PANELS = [n for columns in (8, 16, 32) for n in around(7 * columns)]
_SHARED = [  # work for threads; the last one is beyond every boundary in all three sizes
    (113, 33, 65), (29, 257, 65), (57, 65, 257), (225, 130, 129), (230, 59, 14), (117, 231, 259),
]  # fmt: skip


def _matrix_shapes() -> Iterator[tuple[int, int, int]]:
    """(B, I, O), each letter crossing every boundary while the other two are small and odd; then mixed sizes."""
    yield from [(1, 1, 1), (2, 2, 2), (1, 1, 257), (1, 257, 1), (257, 1, 1)]
    for n in _EDGES:
        yield from [(n, 5, 9), (7, n, 17), (3, 11, n)]
    for n in _EIGHT_PANELS:
        yield from [(29, n, 3), (29, 3, n)]
    for n in range(1, 9):  # layers narrow on one side, whose rows are taken in groups
        yield from [(35, 37, n), (35, n, 37), (n + 2, n, n)]
    for n in (1024, 1025, 2048, 2049, 4097):  # one to five blocks of the batch in a weight gradient, three in bfloat16
        yield from [(n, 3, 17), (n, 13, 33)]
    yield from [(1024, 64, 36), (2050, 68, 40), (4100, 36, 32)]  # weight gradients in parts, of whole quads
    for n in (1024, 1025, 2052):  # turns of a GPU's threads along the long side of a narrow layer
        yield from [(5, 7, n), (5, 8, n), (6, n, 7), (6, n, 8)]
    rng = np.random.default_rng(0)
    yield from map(tuple, rng.integers(1, 80, (12, 3)).tolist())


# --- lists of cases ---------------------------------------------------------------------------------------------------


def _matrix(fills: str, **choices: list[int]) -> list[Case]:
    """The shapes above, the special values, work for threads, and the real networks."""
    turns = int(np.prod([len(v) for v in choices.values()]))
    cases = rows("B I O", list(_matrix_shapes())) + times(Case({"B": 19, "I": 21, "O": 23}), turns)
    for fill in fills.split():
        cases += times(Case({"B": 15, "I": 9, "O": 33}, fill=fill), turns)
    cases += times(Case({"B": 113, "I": 33, "O": 65}, parallel=True), turns)
    cases = cycled([*cases, *rows("B I O", _SHARED, parallel=True)], **choices)
    usual = {k: v for k, v in {"act": RELU, "beta": 0}.items() if k in choices}
    cases += [replace(c, dims={**c.dims, **usual}) for c in rows("B I O", NETWORK, bench=True)]
    return [replace(c, scalars={"slope": 0.2} if "act" in choices else {}) for c in cases]


def _loss(scalars: Mapping[str, float], **choices: list[int]) -> list[Case]:
    shapes: list[tuple[int, ...]] = [
        (1, 1), (1, 7), (3, 5), (7, 1), (2, 8), (5, 15), (3, 17), (9, 33), (1, CHUNK - 1), (1, CHUNK), (2, CHUNK // 2),
        (1, CHUNK + 1), (3, 5462), (100, 83),
    ]  # fmt: skip
    turns = len(ACT) if choices else 1
    cases = rows("B N", shapes, scalars) + times(Case({"B": 131, "N": 2003}, scalars, parallel=True), turns)
    cases += rows("B N", [(131, 8011)], scalars, parallel=True)  # more than all threads of a GPU take in one turn
    for fill in ("zeros", "large", "nan"):
        cases += times(Case({"B": 5, "N": 19}, scalars, fill=fill), turns)
    return cycled([*cases, Case({"B": 100, "N": 784}, scalars, bench=True)], **choices)


def _adversarial() -> list[Case]:
    shapes: list[tuple[int, ...]] = [
        (1, 0), (1, 1), (2, 1), (5, 0), (5, 5), (7, 3), (8, 4), (9, 8), (16, 1), (17, 9), (33, 16),
        (CHUNK - 1, 5000), (CHUNK, 4096), (CHUNK + 1, CHUNK),
    ]  # fmt: skip
    cases = rows("B real", shapes, {"weight": 0.75})
    cases += [Case({"B": 20, "real": 9}, {"weight": 1.0}, fill=f) for f in ("zeros", "large", "nan")]
    cases += rows("B real", [(100_003, 50_000)], {"weight": 1.0}, parallel=True)
    return cases + rows("B real", [(200, 100), (100, 100)], {"weight": 1.0}, bench=True)


def _gaussian(**choices: list[int]) -> list[Case]:
    shapes: list[tuple[int, ...]] = [
        (1, 1), (1, 2), (3, 1), (5, 3), (4, 4), (7, 5), (9, 7), (3, 8), (2, 9), (5, 15), (6, 16), (3, 17), (257, 33),
    ]  # fmt: skip
    cases = rows("B Z", shapes) + times(Case({"B": 4099, "Z": 9}, parallel=True), 2)
    for fill in ("zeros", "nan"):
        cases += times(Case({"B": 5, "Z": 7}, fill=fill), 2)
    return cycled([*cases, Case({"B": 100, "Z": 8}, bench=True)], **choices)


_KL = {"mean": 0.5, "precision": 0.8, "offset": 0.1, "weight": 0.75}
_NEGATIVE_ENTROPY = {"mean": 0.0, "precision": 0.0, "offset": -0.919, "weight": 1.0}
_LARGE_POSTERIOR = [[[1e4, -3e3, 0], [80, -80, -200]], [[-1e4, 1e-3, 5], [-1e4, 0, 60]]]
_INFINITE_VARIANCE = [[[1, -1, 0], [1e3, 0.5, 1]], [[1, 2, 3], [0.1, 0.2, 0.3]]]


def _gaussian_kl() -> list[Case]:
    shapes: list[tuple[int, ...]] = [
        (1, 1), (1, 2), (3, 1), (4, 1), (5, 1), (5, 3), (7, 5), (9, 7), (3, 8), (2, 9), (5, 15), (6, 16), (3, 17),
        *((2, n) for n in around(512)), (1, 1023), (1, 1024), (1, 1025), *((b, 7) for b in around(1025)), (257, 33),
    ]  # fmt: skip
    wide = [(1031, 1021)]  # more than all threads of a GPU take in one turn
    cases = [Case({"B": 2, "Z": 3}, _KL, note="finite", fill="large", given={"params": _LARGE_POSTERIOR})]
    cases += [Case({"B": 2, "Z": 3}, _KL, note="infinite", fill="large", given={"params": _INFINITE_VARIANCE})]
    cases += rows("B Z", shapes, _KL) + rows("B Z", [(4099, 9), *wide], _KL, parallel=True)
    cases += rows("B Z", [(1, 1), (5, 7), (3, 33)], _NEGATIVE_ENTROPY, note="entropy")
    for scalars, note in ((_KL, ""), (_NEGATIVE_ENTROPY, "entropy")):
        cases += [Case({"B": 5, "Z": 7}, scalars, note=note, fill=f) for f in ("zeros", "nan")]
    return [*cases, Case({"B": 100, "Z": 8}, _KL, bench=True)]


def _mixture_nll() -> list[Case]:
    names, scalars, few = "B Z C", {"weight": 0.75}, {"B": 4, "Z": 2, "C": 3}
    nan_row = [[0.5, 1], [float("nan"), 2], [-1, 0.5], [1, 1]]
    far = [[3e9, 1e9], [-1, 2e8], [1e5, -1e4], [1, 1]]
    shapes = [(1, 1, 1), (1, 1, 2), (2, 3, 1), (3, 2, 5), *((n, 2, 3) for n in around(8, 16, 32, 64))]
    shapes += [(5, n, 4) for n in around(4, 8, 16, 32, 64)] + [(35, 3, n) for n in (8, 31, 64, 65)] + [(131, 7, 10)]
    cases = [
        Case(few, scalars, note="unused-components", given={"log_scales": [float("-inf"), -2, float("-inf")]}),
        Case(few, scalars, note="far", given={"z": far}),
        Case(few, scalars, note="nan-row", given={"z": nan_row}),
        *rows(names, shapes, scalars),
        *rows(names, [(CHUNK + 1, 3, 2), (331, 16, 24)], scalars, parallel=True),
        *rows(names, [(65537, 1, 2)], scalars, parallel=True),  # more than all threads of a GPU take in one turn
    ]
    cases += [Case({"B": 37, "Z": 5, "C": 3}, scalars, fill=f) for f in ("zeros", "large", "nan")]
    return [*cases, Case({"B": 100, "Z": 8, "C": 10}, scalars, bench=True)]


def _columns() -> list[Case]:
    names = "B cols src_cols src_at dst_cols dst_at beta"
    shapes: list[tuple[int, ...]] = [
        (1, 1, 1, 0, 1, 0, 0), (3, 2, 5, 1, 4, 2, 0), (3, 2, 5, 3, 4, 0, 1), (4, 7, 7, 0, 7, 0, 0),
        (4, 7, 7, 0, 9, 1, 1), (5, 8, 17, 9, 8, 0, 0), (6, 9, 9, 0, 33, 24, 1), (7, 16, 20, 3, 16, 0, 1),
        (2, 17, 18, 1, 40, 22, 0), (3, 33, 33, 0, 34, 0, 1),
    ]  # fmt: skip
    cases = rows(names, shapes) + rows(names, [(401, 509, 511, 1, 520, 3, b) for b in BETA], parallel=True)
    cases += rows(names, [(5, 6, 9, 1, 8, 2, b) for b in BETA], fill="nan")
    return cases + rows(names, [(100, 784, 784, 0, 794, 0, 0)], bench=True)


def _standardise() -> list[Case]:
    shapes = [(1, 1), (1, 7), (3, 5), (7, 1), (2, 8), (5, 15), (3, 17), (9, 33), (33, 8), (1, CHUNK + 1)]
    cases = rows("B N", shapes) + rows("B N", [(401, 509)], parallel=True)
    cases += [Case({"B": 5, "N": 19}, fill=fill) for fill in ("zeros", "large", "nan")]
    return cases + rows("B N", [(100, 784)], bench=True)


def _gather(scale: float, fills: str = "") -> list[Case]:
    names, scalars = "M N P B", {"scale": scale}
    shapes: list[tuple[int, ...]] = [
        (1, 1, 1, 1), (3, 1, 3, 2), (5, 3, 4, 4), (7, 4, 9, 1), (9, 5, 9, 9), (4, 7, 20, 13), (6, 8, 6, 3),
        (11, 9, 7, 7), (8, 15, 8, 5), (8, 16, 8, 6), (8, 17, 8, 7), (5, 33, 6, 6),
    ]  # fmt: skip
    cases = rows(names, shapes, scalars) + rows(names, [(60, 2003, 150, 149)], scalars, parallel=True)
    cases += [Case({"M": 5, "N": 9, "P": 6, "B": 4}, scalars, fill=f) for f in fills.split()]
    return cases + rows(names, [(500, 784, 500, 100)], scalars, bench=True)


def _table_rows() -> list[Case]:
    shapes: list[tuple[int, ...]] = [(1, 1, 0), (1, 3, 2), (7, 1, 0), (5, 3, 0), (200, 3, 1), (6, 4, 3)]
    names = "M N column"
    return [*rows(names, shapes), Case({"M": 5, "N": 3, "column": 1}, fill="nan")]


def _add_direction() -> list[Case]:
    lengths, few, scalars = [1, 2, *around(4, 8, 16, 32, 64), 255, 1000], {"B": 4, "N": 3}, {"length": 2.5}
    far_apart = [[1e-18, -2e-18, 0], [0, 0, 0], [3e25, 1e-25, -1e25], [0, -1e-30, 0]]
    cases = [Case(few, scalars, note="zeros-tiny-large", given={"d": far_apart})]
    cases += rows("B N", [(3, n) for n in lengths], scalars) + rows("B N", [(401, 509)], scalars, parallel=True)
    cases += [Case({"B": 5, "N": 37}, scalars, fill=fill) for fill in ("zeros", "large", "nan")]
    return [*cases, Case({"B": 100, "N": 784}, scalars, bench=True)]


CASES: dict[str, list[Case]] = {
    **{f"linear_forward{p}": _matrix("zeros large nan", act=ACT) for p in PRECISIONS.values()},
    **{f"linear_backward_input{p}": _matrix("zeros large nan", act=ACT, beta=BETA) for p in PRECISIONS.values()},
    **{f"linear_backward_weight{p}": _matrix("zeros large nan", beta=BETA) for p in PRECISIONS.values()},
    **{f"linear_backward_weight_adam{p}": _matrix("zeros large nan fresh") for p in PRECISIONS.values()},
    "activation_backward": flat(100_000, "zeros large nan", {"slope": 0.2}, act=ACT, beta=BETA),
    "half_squared_error": _loss({"slope": 0.2, "weight": 0.75}, act=ACT),
    "bce_logits": _loss({"weight": 0.75}),
    "adversarial_bce": _adversarial(),
    "gaussian_kl": _gaussian_kl(),
    "mixture_nll": _mixture_nll(),
    "gaussian_sample": _gaussian(),
    "gaussian_sample_backward": _gaussian(beta=BETA),
    **CLASS_CASES,
    **DISTANCE_CASES,
    **ENERGY_CASES,
    **RANDOM_CASES,
    "copy_columns": _columns(),
    "copy": flat(100_000, "zeros nan", beta=BETA),
    "fill": flat(100_000, scalars={"value": -1.5}),
    "scale": flat(100_000, "zeros nan", {"factor": 0.3}),
    "scale_by": flat(100_000, "zeros large nan"),
    "to_real": [Case({}, {"factor": 0.3}), *(Case({}, {"factor": 0.3}, fill=f) for f in ("zeros", "large", "nan"))],
    "standardise": _standardise(),
    "average": flat(1_000_000, "zeros large nan"),
    "add_direction": _add_direction(),
    "gather_rows_u8": _gather(1 / 255),
    "gather_rows": _gather(0.3, "nan"),
    "cursor_advance": [Case({"by": n}) for n in (100, 0, 7)],
    "log_value": _table_rows(),
    "take_rate": _table_rows(),
    "adam_advance": [
        Case(note=f"step{n}", given={"state": [n, 1e-3, 0.9, 0.999, 1e-8, 1, 7, 7]}) for n in (0, 1, 999, 10**6)
    ],
    "adam_step": flat(1_000_000, "zeros large nan fresh"),
    "sgd_advance": [Case()],
    "sgd_step": flat(1_000_000, "zeros large nan fresh"),
    "sum_squares": flat(1_048_579, "zeros large nan", beta=BETA),
    "clip_scale": [Case({}, {"max_norm": n}, note=f"max{n:g}") for n in (1e-3, 1.0, 1e3)]
    + [Case({}, {"max_norm": 1.0}, fill=f) for f in ("zeros", "nan")],
}  # fmt: skip


# --- buffers ----------------------------------------------------------------------------------------------------------


def _activated(x: Array, act: int) -> Array:
    """What a layer hands on: relu outputs with exact zeros, sigmoid outputs in (0, 1), and so on."""
    y = np.empty((x.size, 1))
    FUNCTIONS["linear_forward"](x.reshape(-1, 1), np.ones((1, 1)), np.zeros(1), y, x.size, 1, 1, act, 0.2)
    return y.reshape(x.shape)


def _shares(x: Array) -> Array:
    """Of a softmax: a row of zeros gives equal shares, large numbers one of 1."""
    p = np.empty(x.shape)
    FUNCTIONS["softmax"](x, p, *x.shape)
    return p


def _state() -> Array:
    """Adam's state after three steps. The rate is large, so that a wrong update shows beside the parameter."""
    state = np.zeros(STATE_SIZE)
    state[[STEP, LR, BETA1, BETA2, EPS, GRAD_SCALE]] = 2, 0.5, 0.9, 0.999, 1e-8, 0.7
    FUNCTIONS["adam_advance"](state)
    return state


def _cumulative(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    sums = rng.uniform(0.1, 1, shape).cumsum()
    return np.asarray(sums / sums[-1])  # the last is exactly 1


def _one_hot(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Rows of zeros with a 1 in one column, or in none."""
    return (rng.integers(-1, shape[1], (shape[0], 1)) == np.arange(shape[1])).astype(float)


_Maker = Callable[[tuple[int, ...], Mapping[str, int], np.random.Generator], Array]
_MAKERS: dict[str, _Maker] = {  # by argument name; what is not here is standard normal
    "weight": lambda shape, dims, rng: rng.standard_normal(shape) / np.sqrt(shape[-1]),
    "target": lambda shape, dims, rng: rng.uniform(0, 1, shape),
    "logits": lambda shape, dims, rng: 3 * rng.standard_normal(shape),
    "total": lambda shape, dims, rng: rng.uniform(1, 9, shape),
    "state": lambda shape, dims, rng: _state(),
    "probability": lambda shape, dims, rng: rng.uniform(-0.1, 1.1, shape),
    "cumulative": lambda shape, dims, rng: _cumulative(shape, rng),
    "factors": lambda shape, dims, rng: np.tril(rng.standard_normal(shape)),
    "whitening": lambda shape, dims, rng: np.tril(rng.standard_normal(shape)) / np.sqrt(shape[-1]),
    "moments": lambda shape, dims, rng: np.stack([rng.standard_normal(shape[1:]), rng.uniform(0.2, 3, shape[1:])]),
    "log_scales": lambda shape, dims, rng: rng.standard_normal(shape) - 4,  # so that no density is near 1, its log 0
    "gammas": lambda shape, dims, rng: rng.uniform(0.5, 4, shape) / dims["N"],  # two rows are about 2 N apart
    "least": lambda shape, dims, rng: 2 * dims["N"] * rng.uniform(0.3, 1.5, shape),
    "sums": lambda shape, dims, rng: rng.uniform(1, 9, shape),
    "rng": lambda shape, dims, rng: rng.integers(0, 2**64, shape, np.uint64),
    "like": lambda shape, dims, rng: _one_hot(shape, rng),
    "index": lambda shape, dims, rng: rng.integers(0, dims["M"], shape),
    "cursor": lambda shape, dims, rng: np.full(shape, rng.integers(0, dims.get("P", 50) - dims.get("B", 0) + 1)),
    "at": lambda shape, dims, rng: rng.integers(dims["M"] // 2, 2 * dims["M"], shape),  # some beyond the end
    # not near 0, where m is not: no gradients lead there, and m / sqrt(v) is ill-conditioned
    **dict.fromkeys(["v", "v_weight", "v_bias"], lambda shape, dims, rng: rng.uniform(0.2, 3, shape)),
}
_MOMENTS = {"m", "v", "velocity", "m_weight", "v_weight", "m_bias", "v_bias"}
_ACTIVATED = {
    *((f"linear_backward_input{p}", "x") for p in PRECISIONS.values()),
    ("activation_backward", "y"),
    ("half_squared_error", "y"),
}


def _make(op: str, arg: Arg, case: Case, rng: np.random.Generator) -> Array:
    shape = tuple(case.dims[d] if isinstance(d, str) else d for d in arg.shape)
    floating = arg.kind in ("real", "weight") or arg.name == "total"
    reads = arg.role == "in" or all(a.role != "in" for a in OPS[op].args)
    if arg.name in case.given:
        return np.array(case.given[arg.name], np.float64 if floating else arg.kind)
    if arg.kind == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    maker = _MAKERS.get(arg.name, lambda shape, dims, rng: rng.standard_normal(shape))
    array = maker(shape, case.dims, rng)
    if floating and (case.fill == "zeros" or (case.fill == "fresh" and arg.name in _MOMENTS)):
        array = np.zeros(shape)
    if floating and case.fill == "large" and reads:
        array *= 1e4
    if (op, arg.name) in _ACTIVATED:
        array = _activated(array, case.dims["act"])
    if (op, arg.name) == ("softmax_backward", "p"):
        array = _shares(array)
    if floating and case.fill == "nan" and reads:
        array.reshape(-1)[rng.integers(array.size)] = np.nan
    return array.astype(np.float32).astype(np.float64) if arg.kind in ("real", "weight") else array.astype(arg.kind)


def make_buffers(op: str, case: Case, rng: np.random.Generator) -> list[Array]:
    """Contents of all buffers of the op in table order: float64 (weights too), or the integer kind.

    The values of kinds real and weight are exact in float32, so that every backend computes from the same numbers.
    """
    return [_make(op, arg, case, rng) for arg in OPS[op].args]
