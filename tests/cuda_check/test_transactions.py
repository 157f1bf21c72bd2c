"""Memory transactions of the CUDA kernels at aligned shapes, counted by the emulator line by line.

A transaction is a sector of 32 bytes of global memory, or a pass over the banks of shared memory. Each line has to make
as few as its words allow: accesses are coalesced and no two lanes meet in a bank, but for the exceptions below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from case_kit import Case
from cases import make_buffers
from emulator.emulator import EmulatedDriver, Line, unavailable
from fused_steps import Sizes, Step

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.kernels import ALONG, FUSED, TILES, Chip, kernels_of
from aaecore.core.ops import OPS, PRECISIONS

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

SIDE = 128  # of the products: whole tiles of every size
SQUARE = tuple(dict.fromkeys("BIO", SIDE).items())
SECTOR = 32
SIZES = {
    "adam_step": {"N": 4096},
    "sgd_step": {"N": 2048},
    "bce_logits": {"B": 16, "N": 256},
    "half_squared_error": {"B": 16, "N": 256},
    "activation_backward": {"N": 2048},
    "copy": {"N": 2048},
    "copy_columns": {"B": 16, "cols": 64, "src_cols": 64, "src_at": 0, "dst_cols": 128, "dst_at": 64},
    "gather_rows": {"M": 50, "N": 256, "P": 40, "B": 32},
    "gather_rows_u8": {"M": 50, "N": 256, "P": 40, "B": 32},
    "batch_norm_forward": {"B": 16, "F": 128},
    "batch_norm_apply": {"B": 16, "F": 128},
    "batch_norm_backward": {"B": 16, "F": 128},
    "random_normal": {"N": 4096},
    "random_uniform": {"N": 4096},
    "add_noise": {"N": 4096},
    "dropout": {"N": 4096},
    "average": {"N": 2048},
    "add_direction": {"B": 16, "N": 256},
}
SKEWED = ("linear_forward", "linear_backward_input")
ONCE = ("adam_step", "sgd_step", "copy", "activation_backward")  # what they are given is read and written once
# Layers from many to 8 and from 8 to many, one row for each block and four.
SKINNY = [(kind, {"B": 8, "I": i, "O": o}) for kind in SKEWED for i, o in ((1024, 8), (8, 1024))]


@dataclass(frozen=True)
class Exception_:
    """Lines of a kernel that may make more transactions: the name of the kernel, file, space, access and bytes."""

    kernel: str
    line: tuple[str, str, str, int]
    ratio: float
    why: str


EXCEPTIONS = (
    Exception_(
        r"linear_\w+_ffma_medium", ("math.cuh", "shared", "write", 4), 2,
        "half a warp has a row of the sums: once for a tile, whose lines suit the tensor cores' fragments",
    ),
    Exception_(
        r"(linear_forward_\w+_fan_out|linear_backward_input_\w+_fan_in)4?|(forward_forward|backward_backward)_ffma",
        ("quad.cuh", "global", "read", 16), 2,
        "a thread reads a row of 8 weights, half of it at a time; the other half is in L1 then",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """An op, the options of its backend, and the kernel that they choose."""

    op: str
    sizes: tuple[tuple[str, int], ...]
    fp32: str = "tf32x3"
    tile: str = "medium"
    multiprocessors: int = 132

    @property
    def dims(self) -> dict[str, int]:
        given = dict(self.sizes)
        return {d: given.get(d, 1) for d in OPS[self.op].dims}  # act 1, beta 1

    @property
    def kernel(self) -> str:
        return kernels_of(self.op, self.dims, self.chip)[0][0]

    @property
    def chip(self) -> Chip:
        return Chip(self.multiprocessors, self.fp32, (self.tile,))


@cache
def _backend(chip: Chip) -> CudaBackend:
    backend = CudaBackend(_driver())
    backend.chip = chip
    return backend


@cache
def _driver() -> EmulatedDriver:
    return EmulatedDriver("check")


def _all_launched() -> list[Launched]:
    made = [Launched(op, tuple(sizes.items())) for op, sizes in SIZES.items()]
    for suffix in PRECISIONS.values():
        made += [Launched(kind + suffix, SQUARE, tile=tile) for kind in ALONG for tile in TILES]
        made += [
            Launched(kind + suffix, tuple(sizes.items()), multiprocessors=n) for kind, sizes in SKINNY for n in (1, 132)
        ]
    return made + [Launched(kind, SQUARE, "ffma") for kind in ALONG]


LAUNCHED = {"-".join([n.kernel, *(f"{k}{v}" for k, v in n.sizes)]): n for n in _all_launched()}


@cache
def _profile(name: str) -> list[Line]:
    n = LAUNCHED[name]
    case = Case(n.dims, dict.fromkeys(OPS[n.op].scalars, 0.2))
    backend, arrays = _backend(n.chip), make_buffers(n.op, case, np.random.default_rng(0))
    buffers = [backend.from_host(a, arg.kind) for arg, a in zip(OPS[n.op].args, arrays, strict=True)]
    with _driver().profile() as lines:
        backend.launch(n.op, buffers, list(case.dims.values()), list(case.scalars.values()))
    assert lines
    return lines


def _exception(kernel: str, line: Line) -> Exception_ | None:
    key = line.file, line.space, line.access, line.nbytes
    return next((e for e in EXCEPTIONS if e.line == key and re.fullmatch(e.kernel, kernel)), None)


def _wasteful(kernel: str, lines: list[Line]) -> list[Line]:
    found = [(line, _exception(kernel, line)) for line in lines]
    return [line for line, exception in found if line.ratio > (exception.ratio if exception else 1)]


@pytest.mark.parametrize("name", LAUNCHED)
def test_no_transaction_is_wasted(name: str) -> None:
    kernel = LAUNCHED[name].kernel
    assert not _wasteful(kernel, _profile(name)), kernel


@pytest.mark.parametrize("pattern", FUSED)
def test_kernels_of_several_calls_waste_none(pattern: str) -> None:
    backend = _backend(Chip(132, "tf32x3"))
    plan = backend.capture(Step(backend, pattern, "", Sizes(8, 1024, 8, 1024)))
    with _driver().profile() as lines:
        plan.replay()
    assert lines
    assert not _wasteful(f"{pattern}_ffma", lines)


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda e: e.kernel)
def test_exceptions_are_needed(exception: Exception_) -> None:
    """One that no line comes up to has to be tightened, or goes."""
    ratios = [
        line.ratio
        for name, launched in LAUNCHED.items()
        if re.fullmatch(exception.kernel, launched.kernel)
        for line in _profile(name)
        if _exception(launched.kernel, line) is exception
    ]
    assert max(ratios, default=0) == pytest.approx(exception.ratio), exception.why


@pytest.mark.parametrize("name", [name for name, n in LAUNCHED.items() if n.sizes == SQUARE])
def test_products_move_quads_and_no_more(name: str) -> None:
    """A block reads its panels once; all that goes by rows goes in quads of 16 bytes."""
    launched = LAUNCHED[name]
    by_rows = [n for n in _profile(name) if n.space == "global" and n.file in ("tile.cuh", "sliced.cuh", "quad.cuh")]
    assert {n.nbytes for n in by_rows} == {16}
    tile = TILES[launched.tile]
    panels = 4 * SIDE**3 // tile.columns + 4 * SIDE**3 // tile.rows
    assert sum(n.transactions for n in by_rows if n.file != "quad.cuh") == panels // SECTOR


@pytest.mark.parametrize("op", ONCE)
def test_elements_are_read_and_written_once(op: str) -> None:
    """Scalars in memory, which all threads read, come on top."""
    name = next(name for name, n in LAUNCHED.items() if n.op == op)
    dims = LAUNCHED[name].dims
    args = [arg for arg in OPS[op].args if arg.kind == "real"]
    times = sum(2 if arg.role in ("inout", "beta") else 1 for arg in args)
    lines = [n for n in _profile(name) if n.space == "global" and n.nbytes != 8]
    assert sum(n.transactions for n in lines) == times * 4 * dims["N"] // SECTOR
