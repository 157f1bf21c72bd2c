"""The CUDA half of the op table: which kernels an op launches, on what grid, and what each kernel may use of a chip.

A kernel takes the arguments of its op, in the order of the table: the addresses of the buffers, the dims as int32, the
scalars as doubles. Kernels in `FUSED` take those of several ops, one op after the other. An op with scratch memory
(`scratch_bytes`) launches two kernels, those of `CHAINS` more: each makes of what those before it have left there what
the next one needs or the op is to give. All get the address of the scratch after the arguments of the op, but for
`WEIGHT_PART`: x, dy, the scratch, B, I, O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ...core.ops import OPS

Dims = Mapping[str, int]
Grid = tuple[int, int]

PARTS: Final = 1024  # blocks of a sum at most; PARTS in kernels/cuda/loss.cu
# Sums of parts, which a second kernel adds.
PARTIAL: Final = (
    "half_squared_error", "bce_logits", "gaussian_kl", "mixture_nll", "sum_squares", "inner_product", "bias_product",
)  # fmt: skip
CHAINS: Final = ("mmd", "parzen")  # kernels/cuda/distances.cu
WEIGHT_PART: Final = "linear_backward_weight_part"  # a weight gradient of a part of the batch
WEIGHT_GRADIENTS: Final = ("linear_backward_weight", "linear_backward_weight_adam")
LEAST_PART_ROWS: Final = 512  # of the batch, of such a part
MOST_WEIGHT_PARTS: Final = 8
NARROW: Final = 8  # outputs or inputs of a layer for kernels/cuda/skinny.cuh; MOST there
ROWS: Final = 4  # of the batch that a block of kernels/cuda/skinny.cuh makes where every multiprocessor has so many
FUSED: Final = ("forward_forward", "forward_copy", "backward_backward", "forward_loss_backward")  # of fusion.py
FLOAT: Final = 4  # bytes
MOST_BLOCKS: Final = 65535  # that CUDA allows in the second direction of a grid


@dataclass(frozen=True)
class Tile:
    """A tile of a matrix product: of panels that all warps share, as in kernels/cuda/tile.cuh, or sliced, as in
    kernels/cuda/sliced.cuh, where each warp has its own."""

    rows: int
    columns: int
    depth: int  # of the reduction, at a time
    warps: int
    slices: int  # of the reduction, among the warps
    stages: int
    sliced: bool = False

    def shared(self, along: tuple[bool, bool], pads: tuple[int, int]) -> int:
        """Bytes for the factors of all stages or the finished sums; `along`: how the two operands lie; `pads` of panels
        along and across the reduction."""
        stage = 0
        for lines, is_along in zip((self.rows, self.columns), along, strict=True):
            outer, inner = (lines, self.depth) if is_along else (self.depth, lines)
            stage += outer * (inner + (0 if self.sliced else pads[0 if is_along else 1]))
        pad = 4 if self.sliced else 8  # of a row of sums
        return FLOAT * max(self.stages * stage, self.slices * self.rows * (self.columns + pad))


@dataclass(frozen=True)
class Kernel:
    """What a kernel is launched with, and its budget: no stack and no spilled registers anywhere, and these."""

    source: str  # the file in kernels/
    threads: int  # of a block; the bound in the source is the same
    shared: int = 0  # bytes of dynamic shared memory
    registers: int = 30  # of a thread at most, on every architecture
    blocks: int = 4  # on a multiprocessor at least, on every architecture; by registers, threads and shared memory
    tile: Tile | None = None  # of a product that has one


TILES: Final = MappingProxyType(
    {"large": Tile(128, 128, 16, 8, 1, 4), "medium": Tile(64, 64, 32, 8, 1, 3), "small": Tile(32, 32, 64, 4, 4, 3)}
)
SLICED: Final = Tile(32, 32, 128, 8, 8, 3, sliced=True)
# Of panels, as in kernels/cuda/math.cuh.
PADS: Final = MappingProxyType({"ffma": (4, 4), "tf32x3": (4, 8), "tf32": (4, 8), "bf16": (8, 4)})
_ACROSS: Final = dict.fromkeys(WEIGHT_GRADIENTS, (False, False))
ALONG: Final = MappingProxyType({"linear_forward": (True, True), "linear_backward_input": (True, False), **_ACROSS})
# What is sliced where the tile is small; docs/performance.md has the times of both ways.
_SLICED: Final = ("linear_forward", *WEIGHT_GRADIENTS, WEIGHT_PART)
_SLICED_OPS: Final = MappingProxyType({"tf32x3": _SLICED, "tf32": _SLICED, "bf16": _SLICED[1:]})
# Registers of a thread, and blocks on a multiprocessor of the smallest chip (an H100 holds up to four), by arithmetic
# and tile: what NVRTC 13.0 takes at most on any architecture, and 5 % more.
_BUDGETS: Final = {
    ("ffma", "medium"): (101, 1),
    ("tf32x3", "small"): (160, 1), ("tf32x3", "sliced"): (198, 1),
    ("tf32x3", "medium"): (128, 1), ("tf32x3", "large"): (255, 1),
    ("tf32", "small"): (87, 1), ("tf32", "sliced"): (128, 1),
    ("tf32", "medium"): (92, 1), ("tf32", "large"): (128, 1),
    ("bf16", "small"): (94, 1), ("bf16", "sliced"): (116, 1),
    ("bf16", "medium"): (108, 1), ("bf16", "large"): (128, 1),
}  # fmt: skip


_MORE_REGISTERS: Final = {
    "adam_step": 50, "bce_logits": 42, "inner_product": 35, "bias_product": 51, "half_squared_error": 42,
    "gaussian_kl": 52, "mixture_nll": 84, "random_mixture": 57, "random_hypersphere": 42, "random_swiss_roll": 31,
    "softmax": 44, "softmax_backward": 55, "batch_norm_forward": 42, "batch_norm_backward": 51, "add_product": 57,
    "add_product_backward": 50, "add_product_backward_heads": 59, "random_mixture_of": 57, "dropout": 34,
    "add_direction": 40,
}  # fmt: skip


def _linear_kernels() -> dict[str, Kernel]:
    made = {}
    for math in PADS:
        source = "linear.cu" if math == "ffma" else f"linear_{math}.cu"
        ops = dict(ALONG) if math == "ffma" else {**ALONG, WEIGHT_PART: (False, False)}
        for name in ("medium",) if math == "ffma" else TILES:
            for op, along in ops.items():
                sliced = name == "small" and op in _SLICED_OPS[math]
                tile = SLICED if sliced else TILES[name]
                registers, blocks = _BUDGETS[math, "sliced" if sliced else name]
                shared = tile.shared(along, PADS[math])
                made[f"{op}_{math}_{name}"] = Kernel(source, 32 * tile.warps, shared, registers, blocks, tile)
    for math in ("ffma", "tf32", "bf16"):
        source = "skinny.cu" if math == "ffma" else f"skinny_{math}.cu"
        for op in ("linear_forward", "linear_backward_input"):
            for shape in ("fan_in", "fan_out"):
                made[f"{op}_{math}_{shape}"] = Kernel(source, 256, registers=101, blocks=2)
                made[f"{op}_{math}_{shape}{ROWS}"] = Kernel(source, 256, registers=128, blocks=2)
        made |= {f"{name}_{math}": Kernel(source, 256, registers=128, blocks=2) for name in FUSED}
    return made


def _distance_kernels() -> dict[str, Kernel]:
    """Those of `CHAINS`: a warp for each row, and products of tiles."""
    registers = {"parzen_squares": 44, "parzen": 53, "mmd_squares": 49, "mmd": 63}
    made = {name: Kernel("distances.cu", 256, registers=most) for name, most in registers.items()}
    made["mmd_sum"] = Kernel("distances.cu", 32, registers=91)
    tiles = [("ffma", "medium"), ("tf32x3", "medium")]
    products = [("mmd_distances", True, tiles), ("mmd_pull", False, tiles)]  # a batch has few rows
    for product, along, chosen in (*products, ("parzen_distances", True, [*tiles, ("tf32x3", "large")])):
        for math, name in chosen:
            tile, (most, blocks) = TILES[name], _BUDGETS[math, name]
            most = 134 if (product, math) == ("mmd_pull", "ffma") else most
            shared = tile.shared((True, along), PADS[math])
            made[f"{product}_{math}_{name}"] = Kernel("distances.cu", 32 * tile.warps, shared, most, blocks, tile)
    return made


def _simple_kernels() -> dict[str, Kernel]:
    """Those of all other ops, named after them."""
    sources = {
        "loss.cu": "activation_backward add_bias inner_product bias_product half_squared_error bce_logits gaussian_kl "
        "mixture_nll gaussian_sample gaussian_sample_backward sum_squares",
        "classes.cu": "softmax softmax_backward add_product add_product_backward add_product_backward_heads",
        "normalise.cu": "batch_norm_forward batch_norm_apply batch_norm_backward",
        "data.cu": "copy_columns copy fill scale scale_by to_real standardise gather_rows_u8 gather_rows "
        "cursor_advance log_value take_rate average add_direction",
        "optim.cu": "adam_advance adam_step sgd_advance sgd_step clip_scale",
        "random.cu": "random_uniform random_normal random_mixture random_swiss_roll random_hypersphere "
        "random_categorical rng_advance random_mixture_of random_swiss_roll_of add_noise dropout "
        "translate random_bernoulli",
    }
    made = {
        name: Kernel(source, _threads(name), registers=_MORE_REGISTERS.get(name, Kernel.registers))
        for source, names in sources.items()
        for name in names.split()
    }
    made["adversarial_bce"] = Kernel("loss.cu", 1024, registers=35, blocks=1)  # one block makes all of it
    one_block = ("softmax_cross_entropy", "head_hinge")
    made |= {name: Kernel("classes.cu", 1024, registers=61, blocks=1) for name in one_block}
    made |= {f"{name}_sum": Kernel("loss.cu", 32, registers=46) for name in PARTIAL}
    sums = [f"{op}_sum{2**n}" for op in WEIGHT_GRADIENTS for n in (1, 2, 3)]
    return made | {name: Kernel("linear_sum.cu", 256, registers=54) for name in sums}


def _threads(op: str) -> int:
    if op in _BY_ROW:
        return 64
    return 256 if op in _ELEMENTS else 1


# Elements of an op that has a thread for each, or for four.
_ELEMENTS: Final[Mapping[str, Callable[[Dims], int]]] = {
    **dict.fromkeys(("activation_backward", "copy", "fill", "scale", "scale_by", "sgd_step"), lambda d: d["N"]),
    **dict.fromkeys(("adam_step", "sum_squares", "random_uniform", "random_normal"), lambda d: -(-d["N"] // 4)),
    **dict.fromkeys(("half_squared_error", "bce_logits", "inner_product"), lambda d: -(-d["B"] * d["N"] // 4)),
    "gaussian_kl": lambda d: -(-d["B"] * d["Z"] // 4),
    **dict.fromkeys(("standardise", "gather_rows_u8", "gather_rows"), lambda d: d["B"] * d["N"]),
    **dict.fromkeys(("gaussian_sample", "gaussian_sample_backward"), lambda d: d["B"] * d["Z"]),
    "copy_columns": lambda d: d["B"] * d["cols"],
    **dict.fromkeys(("softmax", "softmax_backward"), lambda d: 8 * d["B"]),  # eight lanes for each row,
    "add_product_backward_heads": lambda d: 8 * d["C"] * d["Z"],  # for each element,
    **dict.fromkeys(("batch_norm_forward", "batch_norm_backward"), lambda d: 8 * d["F"]),  # and a thread of eight warps
    "batch_norm_apply": lambda d: d["B"] * d["F"],
    "bias_product": lambda d: 8 * d["N"],  # likewise
    "add_bias": lambda d: d["B"] * d["N"],
    "add_product": lambda d: d["B"] * d["Z"],
    "add_product_backward": lambda d: d["B"] * d["C"],
    **dict.fromkeys(("add_noise", "dropout", "random_bernoulli"), lambda d: -(-d["N"] // 4)),
    "average": lambda d: d["N"],
    "translate": lambda d: d["B"] * d["N"],
    "add_direction": lambda d: 32 * d["B"],  # a warp for each row
}
_BY_ROW: Final = (
    "mixture_nll", "random_mixture", "random_swiss_roll", "random_hypersphere", "random_categorical",
    "random_mixture_of", "random_swiss_roll_of",
)  # fmt: skip

KERNELS: Final[Mapping[str, Kernel]] = MappingProxyType(_linear_kernels() | _simple_kernels() | _distance_kernels())


@dataclass(frozen=True)
class Chip:
    """What the choice of kernels depends on.

    `fp32` is the arithmetic of float32 products, "tf32x3" or "ffma"; `tiles` are those to choose from, largest first.
    """

    multiprocessors: int
    fp32: str
    tiles: tuple[str, ...] = tuple(TILES)


def _blocks(n: int, size: int) -> int:
    return -(-n // size)


def _tile(op: str, math: str, rows: int, columns: int, chip: Chip, most_parts: int = 1) -> tuple[str, Grid, int]:
    """The largest tile that gives three of four multiprocessors a block, else the smallest; its grid, and into how many
    parts of the reduction each tile is divided for that."""
    for name in ("medium",) if math == "ffma" else chip.tiles:
        x, y, parts = _blocks(columns, TILES[name].columns), _blocks(rows, TILES[name].rows), 1
        while 2 * parts <= most_parts and 4 * x * y * parts < 3 * chip.multiprocessors:
            parts *= 2
        if 4 * x * y * parts >= 3 * chip.multiprocessors:
            break
    if y * parts > MOST_BLOCKS:
        most = MOST_BLOCKS * TILES[name].rows
        raise ValueError(f"{op}: expected a result of at most {most} rows on a GPU, got {rows}")
    return name, (x, y * parts), parts


def has_few_rows(batch: int, chip: Chip) -> bool:
    """Whether layers of few outputs or inputs give every row of the batch a block."""
    return 0 < batch < ROWS * chip.multiprocessors


def fan(op: str, d: Dims) -> str:
    """Which kernels of skinny.cuh a linear op has: "fan_in" (to few numbers of a row), "fan_out" (from few), or
    "", none."""
    few, many = {"linear_forward": ("O", "I"), "linear_backward_input": ("I", "O")}.get(OPS[op].family, ("", ""))
    if not few:
        return ""
    return "fan_in" if d[few] <= NARROW else "fan_out" if 0 < d[many] <= NARROW else ""


def skinny_math(op: str) -> str:
    """The arithmetic of those kernels: tensor cores would have little to do."""
    precision = OPS[op].precision
    return "ffma" if precision == "fp32" else precision


def _linear(op: str, d: Dims, chip: Chip) -> list[tuple[str, Grid]]:
    kind, precision = OPS[op].family, OPS[op].precision
    if shape := fan(op, d):
        rows = 1 if has_few_rows(d["B"], chip) else ROWS
        return [(f"{kind}_{skinny_math(op)}_{shape}{rows if rows > 1 else ''}", (_blocks(d["B"], rows), 1))]
    if kind in WEIGHT_GRADIENTS:
        return _weight_gradient(op, d, chip)
    math = chip.fp32 if precision == "fp32" else precision
    tile, grid, _ = _tile(op, math, d["B"], d["O" if kind == "linear_forward" else "I"], chip)
    return [(f"{kind}_{math}_{tile}", grid)]


def _weight_tile(op: str, d: Dims, chip: Chip) -> tuple[str, Grid, int]:
    """The arithmetic and the tile of a weight gradient, their grid, and the parts of the batch that it is made in."""
    math = chip.fp32 if OPS[op].precision == "fp32" else OPS[op].precision
    most = 1 if math == "ffma" else min(MOST_WEIGHT_PARTS, d["B"] // LEAST_PART_ROWS)
    tile, grid, parts = _tile(op, math, d["O"], d["I"], chip, most)
    return f"{math}_{tile}", grid, parts


def _weight_gradient(op: str, d: Dims, chip: Chip) -> list[tuple[str, Grid]]:
    """One kernel, or that of parts of a long batch and the one that adds them."""
    kind, (suffix, grid, parts) = OPS[op].family, _weight_tile(op, d, chip)
    if parts == 1:
        return [(f"{kind}_{suffix}", grid)]
    threads = KERNELS[f"{kind}_sum{parts}"].threads
    blocks = _blocks(_blocks(d["O"] * d["I"], 4), threads) + _blocks(d["O"], threads)
    return [(f"{WEIGHT_PART}_{suffix}", grid), (f"{kind}_sum{parts}", (blocks, 1))]


def _chain(op: str, d: Dims, chip: Chip) -> list[tuple[str, Grid]]:
    """The kernels of an op of `CHAINS`."""
    rows = 256 // 32  # of a block, which has a warp for each
    every, medium = (_blocks(d["B"] + d["M"], rows), 1), replace(chip, tiles=("medium",))
    if op == "parzen":
        tiles = tuple(t for t in chip.tiles if t != "small") or medium.tiles
        tile, grid, _ = _tile(op, chip.fp32, d["B"], d["M"], replace(chip, tiles=tiles))
        distances = f"parzen_distances_{chip.fp32}_{tile}"
        return [("parzen_squares", every), (distances, grid), ("parzen", (_blocks(d["B"], rows), 1))]
    distances, grid, _ = _tile(op, chip.fp32, d["B"] + d["M"], d["B"] + d["M"], medium)
    pull, of_pull, _ = _tile(op, chip.fp32, d["B"], d["N"], medium)
    return [
        ("mmd_squares", every),
        (f"mmd_distances_{chip.fp32}_{distances}", grid),
        ("mmd", every),
        (f"mmd_pull_{chip.fp32}_{pull}", of_pull),
        ("mmd_sum", (1, 1)),
    ]


def _chain_bytes(op: str, d: Dims) -> int:
    """The parts of the scratch begin at multiples of 16 bytes: see ParzenScratch and MmdScratch."""
    rows, many = d["B"] + d["M"], lambda n: 4 * _blocks(n, 4)
    if op == "parzen":
        return FLOAT * (many(d["B"] * d["M"]) + many(d["B"]) + d["M"])
    return 2 * 8 * many(rows) + FLOAT * (many(rows * d["N"]) + 2 * many(rows) + rows * rows)


def scratch_bytes(op: str, dims: Dims, chip: Chip) -> int:
    """Of device memory that a launch of an op leaves parts of its sums in; 0 if it needs none."""
    if op in PARTIAL:
        return 8 * PARTS
    if op in CHAINS:
        return _chain_bytes(op, dims)
    if OPS[op].family not in WEIGHT_GRADIENTS:
        return 0
    parts = _weight_tile(op, dims, chip)[2]
    return FLOAT * parts * (dims["O"] * dims["I"] + dims["O"]) if parts > 1 else 0


def kernels_of(op: str, dims: Dims, chip: Chip) -> list[tuple[str, Grid]]:
    """The kernels of one launch of an op, in order, each with its grid; none where there is nothing to do."""
    if any(arg.role != "in" and arg.size(dims) == 0 for arg in OPS[op].args):
        return []
    if OPS[op].family in ALONG:
        return _linear(op, dims, chip)
    if op in CHAINS:
        return _chain(op, dims, chip)
    work = _ELEMENTS[op](dims) if op in _ELEMENTS else dims["B"] if op in _BY_ROW else 1
    blocks = _blocks(work, KERNELS[op].threads)
    if op in PARTIAL:
        return [(op, (min(PARTS, blocks), 1)), (f"{op}_sum", (1, 1))]
    return [(op, (blocks, 1))]
