"""Launches of the CUDA kernels that reach every statement that synchronises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from case_kit import Case
from cases import CASES, make_buffers
from emulator.emulator import EmulatorError
from fused_steps import Sizes, Step

from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.driver import Driver
from aaecore.backends.cuda.fusion import Fused, fuse
from aaecore.backends.cuda.kernels import (
    ALONG,
    CHAINS,
    FUSED,
    KERNELS,
    LEAST_PART_ROWS,
    NARROW,
    TILES,
    Chip,
    Tile,
    kernels_of,
    scratch_bytes,
)
from aaecore.core.ops import OPS, PRECISIONS

ELEMENTS = 9000  # of an op other than a product: several blocks, several warps of each, and a tail


@dataclass(frozen=True)
class Probe:
    """One launch of an op, with the backend's options."""

    op: str
    case: Case
    fp32: str = "tf32x3"
    tile: str = "medium"
    multiprocessors: int = 132

    @property
    def chip(self) -> Chip:
        return Chip(self.multiprocessors, self.fp32, (self.tile,))

    @property
    def kernels(self) -> list[str]:
        return [kernel for kernel, _ in kernels_of(self.op, self.case.dims, self.chip)]

    def __str__(self) -> str:
        return " and ".join(self.kernels)

    def run(self, driver: Driver) -> None:
        backend = self.backend(driver)
        arrays = make_buffers(self.op, self.case, np.random.default_rng(0))
        buffers = [backend.from_host(a, arg.kind) for arg, a in zip(OPS[self.op].args, arrays, strict=True)]
        backend.launch(self.op, buffers, list(self.case.dims.values()), list(self.case.scalars.values()))

    def backend(self, driver: Driver) -> cuda.CudaBackend:
        made = cuda.CudaBackend(driver)
        made.chip = self.chip
        return made


@dataclass(frozen=True)
class HalfProbe:
    """One of the two kernels of a weight gradient in parts, which are of two sources."""

    whole: Probe
    number: int

    @property
    def kernels(self) -> list[str]:
        return [self.whole.kernels[self.number]]

    def __str__(self) -> str:
        return self.kernels[0]

    def run(self, driver: Driver) -> None:
        op, case, backend = self.whole.op, self.whole.case, self.whole.backend(driver)
        arrays = make_buffers(op, case, np.random.default_rng(0))
        buffers = [backend.from_host(a, arg.kind) for arg, a in zip(OPS[op].args, arrays, strict=True)]
        parts = backend.zeros((scratch_bytes(op, case.dims, self.whole.chip) // 4,))
        dims, scalars = list(case.dims.values()), list(case.scalars.values())
        driver.launch(backend._launches(op, buffers, dims, scalars, parts.storage)[self.number])


@dataclass(frozen=True)
class FusedProbe:
    """One kernel for several calls."""

    op: str  # the pattern of the calls
    suffix: str

    @property
    def kernels(self) -> list[str]:
        return [f"{self.op}{self.suffix or '_ffma'}"]

    def __str__(self) -> str:
        return self.kernels[0]

    def run(self, driver: Driver) -> None:
        backend = cuda.CudaBackend(driver)
        plan = backend.capture(Step(backend, self.op, self.suffix, Sizes(3, 301, NARROW - 1, 301, beta=1)))
        (fused,) = (c for c in fuse(plan.calls, backend.chip) if isinstance(c, Fused))
        ((launch, _),) = backend._launches_with_accesses(fused, None)
        driver.launch(launch)


DEPTH_IN_TWO = (
    2 * LEAST_PART_ROWS + 196
)  # for every tile, one of two parts has its last chunk in the first stage: see `_probes`
AnyProbe = Probe | HalfProbe | FusedProbe


def linear_case(op: str, rows: int, columns: int, depth: int) -> Case:
    """A product of that shape, as the op has it."""
    kind = next(kind for kind in reversed(ALONG) if op.startswith(kind))
    names = {"linear_forward": "BOI", "linear_backward_input": "BIO"}.get(kind, "OIB")
    sizes = dict(zip(names, (rows, columns, depth), strict=True))
    dims = {d: sizes.get(d, 1) for d in OPS[op].dims}  # act 1, beta 1
    return Case(dims, dict.fromkeys(OPS[op].scalars, 0.2))


def tile_of(op: str, name: str) -> Tile:
    """The tile that makes an op on tensor cores where one of that name is chosen."""
    kind, precision = OPS[op].family, OPS[op].precision
    tile = KERNELS[f"{kind}_{'tf32x3' if precision == 'fp32' else precision}_{name}"].tile
    assert tile
    return tile


def _chain_probes(op: str) -> list[Probe]:
    """Ragged tiles, and reductions as those of products in `all_probes`: over N, and for mmd over B + M."""
    made = []
    for fp32, name in (("ffma", "medium"), ("tf32x3", "medium"), ("tf32x3", "large"))[: 3 if op == "parzen" else 2]:
        depth = TILES[name].stages * TILES[name].depth + 3
        rows = TILES[name].rows - 1
        others = depth - rows if op == "mmd" else TILES[name].columns - 3
        dims = {"B": rows, "M": others, "N": depth, "K": 2}
        made.append(Probe(op, Case(dims, dict.fromkeys(OPS[op].scalars, 0.2)), fp32, name))
    return made


@cache
def all_probes() -> list[AnyProbe]:
    """Every kernel of the table. Products have one ragged tile and one chunk of the reduction more than stages: the
    last chunk lies in the first stage, where the sums go after it."""
    made: list[AnyProbe] = [FusedProbe(pattern, suffix) for pattern in FUSED for suffix in PRECISIONS.values()]
    for op in (f"{kind}{suffix}" for kind in ALONG for suffix in PRECISIONS.values()):
        fp32 = ("tf32x3", "ffma") if op in ALONG else ("tf32x3",)
        for name in TILES:
            t = tile_of(op, name)
            case = linear_case(op, t.rows - 1, t.columns - 3, t.stages * t.depth + 3)
            made += [Probe(op, case, f, name) for f in fp32 if f != "ffma" or name == "medium"]
            if op.startswith("linear_backward_weight"):
                in_two = Probe(op, linear_case(op, t.rows - 1, t.columns - 3, DEPTH_IN_TWO), tile=name)
                made += [HalfProbe(in_two, 0), HalfProbe(in_two, 1)]
        if op in ("linear_backward_weight", "linear_backward_weight_adam"):
            made += [HalfProbe(Probe(op, linear_case(op, 3, 5, parts * LEAST_PART_ROWS)), 1) for parts in (4, 8)]
        if op.startswith(("linear_forward", "linear_backward_input")):
            for few in ((NARROW - 1, 301), (301, NARROW - 1)):  # columns, depth
                made += [Probe(op, linear_case(op, 5, *few), multiprocessors=n) for n in (1, 132)]
    for op, cases in CASES.items():
        if op in CHAINS:
            made += _chain_probes(op)
        elif not op.startswith("linear_"):
            size = {i: max(arg.size(c.dims) for arg in OPS[op].args) for i, c in enumerate(cases)}
            small = [i for i in size if size[i] <= ELEMENTS] or list(size)
            made.append(Probe(op, cases[max(small, key=lambda i: size[i])]))
    return made


def probes_of(unit: str) -> list[AnyProbe]:
    return [p for p in all_probes() if KERNELS[p.kernels[0]].source == unit]


def report_of(run: Callable[[], object]) -> str:
    """What the emulator says of it; nothing if it is clean."""
    try:
        run()
    except EmulatorError as error:
        return str(error)
    return ""
