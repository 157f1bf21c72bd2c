"""What every backend's test of an op shares: what is expected of a case, and buffers between guards.

A kernel may err by twice the error of a plain NumPy float32 implementation (the reference functions on float32 arrays)
plus a floor of four units of float32 rounding of the natural magnitude of its result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from case_kit import Case
from cases import CASES, make_buffers
from numpy.typing import NDArray

from aaecore.backends import reference
from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer
from aaecore.core.ops import IDENTITY, OPS, PRECISIONS, SIGMOID, Arg

Array = NDArray[Any]
Launch = Callable[[str, Sequence[Buffer], Sequence[int], Sequence[float]], None]


def ops_of(backend: Backend) -> list[str]:
    """The ops that a backend has: those of its precisions, and all that have none."""
    others = {suffix for precision, suffix in PRECISIONS.items() if precision not in backend.precisions}
    return [op for op in OPS if not (op.startswith("linear_") and op.endswith(tuple(others)))]


# Results of one correctly rounded operation: they must equal NumPy's float32, not only come near.
EXACT = {
    "copy_columns", "copy", "fill", "scale", "scale_by", "to_real", "gather_rows_u8", "gather_rows", "log_value",
    "take_rate", "random_categorical", "random_bernoulli", "translate",
}  # fmt: skip
SUMS = ("bias_product", "inner_product")  # of products with either sign
OF_FLOATS = {("parzen", "sums")}  # buffers in float64 whose terms are made in float32
FLOOR_REAL = 4 * float(np.finfo(np.float32).eps)
# Buffers that are float64 on every device: powers by repeated squaring and sums of 10^6 terms lose up to three digits.
FLOOR_DOUBLE = 4096 * float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float32).tiny)  # below it results may be flushed to 0

GUARD = np.uint32(0xFFE5A5A5)  # as a float a NaN: what is read beyond an end spoils the result
GUARD_BYTES = 512


# --- what is expected -------------------------------------------------------------------------------------------------


def written(arg: Arg) -> bool:
    return arg.role != "in"


def poison(op: str, case: Case, arrays: list[Array]) -> list[Array]:
    """NaN wherever the op must not read: outputs, and what beta 0 overwrites."""
    for arg, array in zip(OPS[op].args, arrays, strict=True):
        if arg.role == "out" or (arg.role == "beta" and not case.dims["beta"]):
            array[...] = np.nan
        if op == "copy_columns" and arg.name == "dst" and not case.dims["beta"]:
            at = case.dims["dst_at"]
            array[:, at : at + case.dims["cols"]] = np.nan
    return arrays


def _run_reference(op: str, case: Case, arrays: list[Array], real: type, **dims: int) -> list[Array]:
    floating = [arg.kind in ("real", "weight") for arg in OPS[op].args]
    arrays = [a.astype(real) if f else a.copy() for a, f in zip(arrays, floating, strict=True)]
    with np.errstate(all="ignore"):
        reference.FUNCTIONS[op](*arrays, *{**case.dims, **dims}.values(), *case.scalars.values())
    return arrays


def _of_distances(op: str, case: Case, arrays: list[Array], sizes: list[Array]) -> list[Array]:
    """Magnitudes where |x|^2 + |y|^2 - 2 x y cancels, and exp(-gamma d) makes its error gamma times as large."""
    x, y, gammas = (np.nan_to_num(a) for a in arrays[:3])
    squares = float((x * x).sum(axis=1).max() + (y * y).sum(axis=1).max())
    forgiven = 1 + float(gammas.max()) * squares
    if op == "parzen":
        return [*sizes[:3], sizes[3] + squares, sizes[4] * forgiven]
    means, pulls = np.zeros(1), np.zeros(x.shape)
    for other, count in ((x, case.dims["B"]), (y, case.dims["M"])):
        away = ((x[:, None] - other) ** 2).sum(axis=2)[:, :, None]
        terms = np.exp(-gammas * away)
        means += 2 * terms.sum() / (case.dims["B"] * count)
        pulls += (gammas * terms).sum(axis=2) @ np.abs(other) / count + (gammas * terms).sum(axis=(1, 2))[
            :, None
        ] * np.abs(x) / count
    weight = case.scalars["weight"]
    return [*sizes[:3], sizes[3] + 4 * weight / case.dims["B"] * pulls * forgiven, sizes[4] + weight * means * forgiven]


def _magnitudes(op: str, case: Case, arrays: list[Array], exact: list[Array]) -> list[Array]:
    """The natural magnitude of each result: its own, that of its neighbours, and for a sum of products theirs."""
    sizes = [np.abs(e) + np.mean(np.abs(e), where=np.isfinite(e)) if np.isfinite(e).any() else np.abs(e) for e in exact]
    if op in ("mmd", "parzen"):
        return _of_distances(op, case, arrays, sizes)
    if op.startswith("linear") or op in SUMS:
        absolute = [np.abs(a) for a in arrays]
        linear = {"act": IDENTITY} if "act" in case.dims else {}
        sums = [np.abs(a) for a in _run_reference(op, case, absolute, np.float64, **linear)]
        if (
            op.startswith("linear_forward") and case.dims["act"] >= SIGMOID
        ):  # where it saturates, it forgives the sum's error
            y, act = exact[-1], case.dims["act"]
            reference.FUNCTIONS["activation_backward"](sums[-1].copy(), y, sums[-1], y.size, act, 0, 0.0)
        sizes = [size + total for size, total in zip(sizes, sums, strict=True)]
    return sizes


@lru_cache(maxsize=2)  # the devices of a case follow each other
def _expected(op: str, index: int) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """(buffers before, float64 results, float32 results, magnitudes) of a case."""
    case = CASES[op][index]
    arrays = make_buffers(op, case, np.random.default_rng(index))
    poisoned = poison(op, case, [a.copy() for a in arrays])
    exact = _run_reference(op, case, poisoned, np.float64)
    plain = _run_reference(op, case, poisoned, np.float32)
    return poisoned, exact, plain, _magnitudes(op, case, arrays, exact)


def _compare(
    what: str, kind: str, got: Array, exact: Array, plain: Array, magnitude: Array, equal: bool, more: float
) -> None:
    if equal or kind not in ("real", "weight", "float64"):
        np.testing.assert_array_equal(got, plain, err_msg=what)
        return
    assert np.array_equal(np.isnan(got), np.isnan(exact)), f"{what}: NaN in the wrong places"
    finite = np.isfinite(exact)
    got, exact, plain, magnitude = (a[finite].astype(np.float64) for a in (got, exact, plain, magnitude))
    yardstick = np.max(np.abs(plain - exact) / (magnitude + TINY), initial=0)
    assert yardstick < 1e-4, f"{what}: a poor case, float32 itself is off by {yardstick:.1e}"
    floor = FLOOR_DOUBLE if kind == "float64" else FLOOR_REAL + more
    allowed = magnitude * (2 * yardstick + floor) + TINY
    error = np.abs(got - exact)
    if not (error <= allowed).all():
        worst = np.argmax(error / allowed)
        raise AssertionError(
            f"{what}: expected {exact[worst]!r}, got {got[worst]!r}, error {error[worst]:.2e} of {allowed[worst]:.2e} "
            f"allowed, {(error > allowed).sum()} of {error.size} wrong, the first at {np.argmax(error > allowed)}"
        )


# --- launching between guards -----------------------------------------------------------------------------------------


def storage_on_host(backend: Backend, storage: Any) -> Array:
    """A copy of device memory as it lies."""
    driver = getattr(backend, "driver", None)
    return np.array(storage) if driver is None else driver.download(storage)


class Guarded:
    """A buffer between guard words, at the worst alignment that its kind allows, with a copy of what it held.

    `tight` leaves the words out: a device that sees every access itself sees one beyond the end of its memory.
    """

    def __init__(self, backend: Backend, arg: Arg, array: Array, tight: bool = False) -> None:
        packed = backend.from_host(array, arg.kind).storage
        lying = storage_on_host(backend, packed)
        if written(arg) and arg.kind == "weight" and np.isnan(array).all():
            lying[...] = np.nan  # the padding as well
        self.backend = backend
        self.inside, total = self._place(arg, lying, tight)
        self.before = np.empty(total, np.uint8)
        self.before[: total // 4 * 4].view(np.uint32)[:] = GUARD
        self.before[self.inside] = lying.view(np.uint8)
        self._memory = backend.empty((total,), "uint8")
        self.refill()
        self.buffer = Buffer(backend, array.shape, arg.kind, self._memory.storage[self.inside].view(lying.dtype))

    @staticmethod
    def _place(arg: Arg, lying: Array, tight: bool) -> tuple[slice, int]:
        """Where the buffer lies in its memory, and how large that is."""
        offset = 0 if arg.kind == "weight" else lying.itemsize  # weights are 64-byte aligned
        if tight:
            return slice(offset, offset + lying.nbytes), offset + lying.nbytes
        offset += GUARD_BYTES
        return slice(offset, offset + lying.nbytes), 2 * GUARD_BYTES + -(-lying.nbytes // 64) * 64

    def refill(self) -> None:
        """Sets everything to what it was at first."""
        self.backend.upload(self._memory, self.before)

    @property
    def raw(self) -> Array:
        """All bytes, guards included."""
        return storage_on_host(self.backend, self._memory.storage)

    def check_guards(self, what: str) -> None:
        raw = self.raw
        for side, outside in (("before", slice(None, self.inside.start)), ("after", slice(self.inside.stop, None))):
            untouched = np.array_equal(raw[outside], self.before[outside])
            assert untouched, f"{what}: written out of bounds, {side} the buffer"

    def check_unchanged(self, what: str) -> None:
        assert np.array_equal(self.raw, self.before), f"{what}: an input was changed"

    def check_padding(self, what: str) -> None:
        again = self.backend.from_host(self.backend.to_host(self.buffer), self.buffer.kind)
        now, then = (storage_on_host(self.backend, b.storage) for b in (self.buffer, again))
        assert np.array_equal(now, then, equal_nan=True), f"{what}: the padding must hold zeros"


def check(
    backend: Backend, op: str, index: int, launch: Launch | None = None, tight: bool = False, more: float = 0.0
) -> None:
    """Runs case `index` of the op and checks everything that one launch can show.

    `more` is added to the floor, for arithmetic that is known to be less exact than float32.
    """
    case = CASES[op][index]
    arrays, exact, plain, magnitudes = _expected(op, index)
    guarded = [Guarded(backend, arg, a, tight) for arg, a in zip(OPS[op].args, arrays, strict=True)]
    launch = launch or backend.launch
    launch(op, [g.buffer for g in guarded], list(case.dims.values()), list(case.scalars.values()))
    for i, (arg, g) in enumerate(zip(OPS[op].args, guarded, strict=True)):
        what = f"{op} {arg.name}"
        g.check_guards(what)
        if not written(arg):
            g.check_unchanged(what)
            continue
        kind = "real" if (op, arg.name) in OF_FLOATS else arg.kind
        _compare(what, kind, backend.to_host(g.buffer), exact[i], plain[i], magnitudes[i], op in EXACT, more)
        if arg.kind == "weight" and case.fill != "nan":  # 0 * NaN in the padding harms nobody: the sums are NaN anyway
            g.check_padding(what)
