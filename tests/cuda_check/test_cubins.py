"""The CUDA kernels as NVRTC compiles them, on every architecture, without a GPU: budgets and machine code.

They need NVRTC and the binary tools, and compile for minutes: `make cuda-check` runs them, with
AAECORE_REQUIRE_CUDA_CHECK=1. Without that they are skipped, also where all of it happens to be there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cubins
import pytest

from aaecore.backends.cuda.kernels import KERNELS

FOLDER = Path(__file__).parents[2] / "kernels" / "cuda"
TILED = r"(linear|mmd|parzen)_\w+_(ffma|tf32|tf32x3|bf16)_(small|medium|large)"
# Kernels, instructions, how many at least: wide accesses to memory, in the path of aligned rows.
WIDE = (
    ("adam_step", r"LDG\.E\.128", 4),
    ("adam_step", r"STG\.E\.128", 3),
    (r"linear_forward_\w+_fan_in4?", r"LDG\.E\.128", 2),
    (r"linear_forward_\w+_fan_out4?", r"LDG\.E\.128", 2),
    (r"linear_backward_input_\w+_fan_in4?", r"LDG\.E\.128", 2),
    (r"linear_backward_input_\w+_fan_out4?", r"LDG\.E\.128", 8 + 2),  # eight rows of the weight, x, and dx to add to
    (r"linear_backward_input_\w+_fan_out4?", r"STG\.E\.128", 1),
    (r"forward_forward_\w+", r"LDG\.E\.128", 4),
    (r"forward_copy_\w+", r"LDG\.E\.128", 2),
    (r"backward_backward_\w+", r"LDG\.E\.128", 2 + 8 + 2),
    (r"forward_loss_backward_\w+", r"LDG\.E\.128", 2 + 8 + 2),
    ("bce_logits|half_squared_error", r"LDG\.E\.128", 2),
    ("bce_logits|half_squared_error", r"STG\.E\.128", 1),
    ("sum_squares", r"LDG\.E\.128", 1),
    ("random_normal|add_noise|dropout", r"STG\.E\.128", 1),
    ("add_noise", r"LDG\.E\.128", 1),
    ("dropout", r"LDG\.E\.128", 2),  # x, and y to add to
    (r"linear_forward_\w+_(small|medium|large)", r"LDG\.E\.128", 1),  # the bias
    (r"linear_forward_\w+_(small|medium|large)", r"STG\.E\.128", 1),
    (r"linear_backward_input_\w+_(small|medium|large)", r"LDG\.E\.128", 2),  # x, and dx to add to
    (r"linear_backward_input_\w+_(small|medium|large)", r"STG\.E\.128", 1),
    (r"linear_backward_weight_(?!adam|part|sum)\w+", r"LDG\.E\.128", 1),  # dweight to add to
    (r"linear_backward_weight_(?!adam)\w+", r"STG\.E\.128", 1),
    (r"linear_backward_weight_adam_\w+", r"LDG\.E\.128", 3),  # weight, m, v
    (r"linear_backward_weight_adam_\w+", r"STG\.E\.128", 3),
    ("linear_backward_weight_sum8", r"LDG\.E\.128", 8 + 1),
    ("linear_backward_weight_adam_sum8", r"LDG\.E\.128", 8 + 3),
    ("linear_forward_ffma_medium", r"LDS\.(U\.)?128", 64),  # 8 quads of k of 4 rows and 4 columns
    ("linear_backward_input_ffma_medium", r"LDS\.(U\.)?128", 32),  # of the rows; the weight lies across
    (r"(mmd|parzen)_(distances|pull)_\w+", r"LDG\.E\.128", 1),  # squared lengths, or x
    (r"(mmd|parzen)_(distances|pull)_\w+", r"STG\.E\.128", 1),
    (TILED, r"LDS\.(U\.)?128", 1),  # of the finished sums
)
# Kernels of narrow layers, loads of 16 bytes that a thread asks for before it uses one: all of its first turn.
UNDER_WAY = (
    (r"linear_forward_\w+_fan_in|forward_copy_\w+", 1 + 8),  # x, and eight rows of the weight
    (r"linear_forward_\w+_fan_in4", 4 + 8),
    (r"linear_forward_\w+_fan_out4?", 2 * 4),  # two for each of four rows of the weight
    (r"linear_backward_input_\w+_fan_in", 2 * 4 - 1),  # the same; sm_100 begins with the first before the last
    (r"linear_backward_input_\w+_fan_in4", 4),  # with 16 numbers of dy: registers for no more
    (r"linear_backward_input_\w+_fan_out", 8 + 2),  # eight rows of the weight, x, and dx to add to
    (r"linear_backward_input_\w+_fan_out4", 8 + 4 * 2),
    (r"forward_forward_\w+", 8 + 9),  # those of both layers
    (r"backward_backward_\w+", 10 + 8),
    (r"forward_loss_backward_\w+", 10 + 9),
)
# Multiply-adds of the tensor cores: the instruction, its depth, how many for each 16 x 8 x depth of a tile.
TENSOR = {
    "tf32": (r"HMMA\.1688\.F32\.TF32", 8, 1),
    "tf32x3": (r"HMMA\.1688\.F32\.TF32", 8, 3),
    "bf16": (r"HMMA\.16816\.F32\.BF16", 16, 1),
}
# Without division, root or fmaf: a fused multiply-add here would be a contraction.
UNFUSED = (
    *("activation_backward", "gaussian_sample", "gaussian_sample_backward", "sum_squares", "sum_squares_sum"),
    *("copy_columns", "copy", "fill", "scale", "scale_by", "standardise", "gather_rows_u8", "gather_rows"),
    *("sgd_step", "random_uniform", "random_categorical", "random_bernoulli", "translate", "average"),
    *("softmax_backward", "add_product", "add_product_backward", "add_product_backward_heads"),
)
NVCC_OPTIONS = ("-std=c++17", "-fmad=false", "-ftz=true", "-Werror", "all-warnings")


@pytest.fixture(scope="module")
def compilation() -> Iterator[cubins.Compilation]:
    cubins.leave_to_cuda_check()
    if lacking := cubins.missing():
        cubins.skip(lacking)
    made = cubins.Compilation(list(cubins.MULTIPROCESSORS))
    yield made
    made.close()


@pytest.fixture(params=list(cubins.MULTIPROCESSORS))
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kernels(compilation: cubins.Compilation, arch: str) -> list[cubins.Compiled]:
    return compilation.kernels(arch)


def test_kernels_are_those_of_the_table(kernels: list[cubins.Compiled], arch: str) -> None:
    expected = {name: KERNELS[name].source for name in cubins.expected(arch)}
    assert {k.name: k.source for k in kernels} == expected
    assert len(kernels) == len(expected)  # none in two sources


def test_tensor_cores_are_left_out_before_sm_80(compilation: cubins.Compilation) -> None:
    assert not [k.name for k in compilation.kernels("sm_75") if k.source in _tensor_sources()]
    assert {k.source for k in compilation.kernels("sm_80")} > _tensor_sources()


def _tensor_sources() -> set[str]:
    return {k.source for k in KERNELS.values() if set(k.source[:-3].split("_")) & set(cubins.TENSOR_CORES)}


def test_nothing_is_spilled(kernels: list[cubins.Compiled]) -> None:
    local = {k.name: (k.stack, k.spills, k.count("LDL|STL")) for k in kernels}
    assert not {name: of for name, of in local.items() if any(of)}, "bytes of stack, bytes of spills, accesses"


def test_launch_bounds_are_the_threads_launched(kernels: list[cubins.Compiled]) -> None:
    assert {k.name: k.threads for k in kernels} == {k.name: KERNELS[k.name].threads for k in kernels}


def test_registers_are_within_budget(kernels: list[cubins.Compiled]) -> None:
    budgets = {k.name: (k.registers, KERNELS[k.name].registers) for k in kernels}
    assert not {name: of for name, of in budgets.items() if of[0] > of[1]}, "registers used, allowed"


def test_shared_memory_is_what_a_block_may_have(kernels: list[cubins.Compiled], arch: str) -> None:
    most = cubins.MULTIPROCESSORS[arch].shared_of_block
    assert not {k.name: k.shared for k in kernels if k.shared > most}, f"of {most} bytes"


def test_occupancy_is_within_budget(kernels: list[cubins.Compiled]) -> None:
    budgets = {k.name: (k.blocks, KERNELS[k.name].blocks) for k in kernels}
    assert not {name: of for name, of in budgets.items() if of[0] < of[1]}, "blocks a multiprocessor holds, wanted"


@pytest.mark.parametrize("op", ["linear_forward", "linear_backward_input"])
@pytest.mark.parametrize("math", ["tf32x3", "tf32", "bf16"])
def test_updates_leave_room_for_the_chain(op: str, math: str, compilation: cubins.Compilation) -> None:
    """On Hopper, where a step of few rows has products of small tiles beside updates of medium ones. The sliced product
    of tf32x3 takes 128 registers for eight warps, which one block of an update leaves it."""
    on = cubins.MULTIPROCESSORS["sm_90a"]
    found = {k.name: k for k in compilation.kernels("sm_90a")}
    updates = 1 if (op, math) == ("linear_forward", "tf32x3") else 2
    blocks = (*[found[f"linear_backward_weight_adam_{math}_medium"]] * updates, found[f"{op}_{math}_small"])
    assert sum(k.of_warp * k.threads // 32 for k in blocks) <= 65536
    assert sum(k.shared + on.reserved for k in blocks) <= on.shared


def test_accesses_are_wide(kernels: list[cubins.Compiled]) -> None:
    names = {k.name for k in kernels}
    assert not [pattern for pattern, _, _ in WIDE if not any(re.fullmatch(pattern, name) for name in names)]
    few = [
        (k.name, instruction, k.count(instruction), least)
        for pattern, instruction, least in WIDE
        for k in kernels
        if re.fullmatch(pattern, k.name) and k.count(instruction) < least
    ]
    assert not few, "kernel, instruction, found, expected at least"


def test_loads_do_not_wait_for_each_other(kernels: list[cubins.Compiled]) -> None:
    found = [(k.name, k.under_way, least) for k in kernels for name, least in UNDER_WAY if re.fullmatch(name, k.name)]
    assert {name for name, *_ in found} == {k.name for k in kernels if k.source.startswith("skinny")}
    assert not [row for row in found if row[1] < row[2]], "kernel, under way together, expected at least"


def test_panels_are_copied_in_quads(kernels: list[cubins.Compiled], arch: str) -> None:
    """Twice: before the loop, and in it. Before sm_80 by a load and a store, which the compiler may unroll more."""
    wrong = {}
    for k in kernels:
        if tile := KERNELS[k.name].tile:
            copies = 2 * (tile.rows + tile.columns) * tile.depth // 4 // (32 * tile.warps)
            counted = k.count(r"STS\.128") if arch == "sm_75" else k.count(r"LDGSTS\.E\.(\w+\.)*128")
            if not copies <= counted <= (1.5 * copies if arch == "sm_75" else copies):
                wrong[k.name] = counted, copies
    assert not wrong, "copies of 16 bytes found, expected"


def test_products_are_those_of_one_chunk(kernels: list[cubins.Compiled]) -> None:
    """The loop over the chunks stands there once and has the multiply-adds of a thread's or a warp's share, no more."""
    wrong = {}
    for k in kernels:
        if tile := KERNELS[k.name].tile:
            math = k.name.split("_")[-2]
            volume = tile.rows * tile.columns * tile.depth // tile.warps
            if math == "ffma":  # the epilogue has some in its four quads: division, roots, Adam
                least = volume // 32
                if not least <= k.count("FFMA") <= 1.5 * least or k.count("HMMA"):
                    wrong[k.name] = k.count("FFMA"), least
            else:
                instruction, depth, times = TENSOR[math]
                products = times * volume // (16 * 8 * depth)
                if not k.count(instruction) == k.count("HMMA") == products:
                    wrong[k.name] = k.count(instruction), products
    assert not wrong, "multiply-adds found, expected"


def test_no_atomics(kernels: list[cubins.Compiled]) -> None:
    """Their order, and with it the bits of a sum, would differ between runs."""
    assert not [k.name for k in kernels if k.count("RED|ATOM")]


def test_nothing_is_contracted(kernels: list[cubins.Compiled]) -> None:
    unfused = {k.name: k.count("FFMA|DFMA") for k in kernels if k.name in UNFUSED}
    assert unfused == dict.fromkeys(UNFUSED, 0)


def test_roots_and_divisions_are_exact(kernels: list[cubins.Compiled]) -> None:
    """The hardware's approximations are but the first guess, of reciprocals and reciprocal roots: fused multiply-adds
    and a call for the rare arguments make the result exact. Other approximate functions are not used."""
    assert not [k.name for k in kernels if k.count(r"MUFU\.(?!RCP|RSQ)")]
    rooted = [k for k in kernels if k.count(r"MUFU\.RSQ")]
    assert {"adam_step", "random_normal", "add_noise", "add_direction"} <= {k.name for k in rooted}
    assert not [k.name for k in rooted if not (k.count("FFMA|DFMA") and k.count("CALL"))]


def test_table(compilation: cubins.Compilation) -> None:
    """Look at it with pytest -s."""
    text = cubins.table(compilation.kernels("sm_90a"))
    print(f"\n{text}")
    assert len(text.splitlines()) == len(KERNELS) + 1
    assert cubins.budgets(compilation.kernels("sm_90a"))


def test_nvcc_takes_the_sources(tmp_path: Path) -> None:
    cubins.leave_to_cuda_check()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on PATH: install the CUDA toolkit (Debian, Ubuntu: nvidia-cuda-toolkit)")
    options = ("-cubin", "-gencode=arch=compute_90a,code=sm_90a", *NVCC_OPTIONS)

    def errors(source: str) -> str:
        command = [
            nvcc,
            *options,
            "-I",
            FOLDER,
            "-I",
            FOLDER.parent / "shared",
            "-o",
            tmp_path / f"{source}.cubin",
            FOLDER / source,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = [text for text in pool.map(errors, sorted(path.name for path in FOLDER.glob("*.cu"))) if text]
    assert not failed, "\n".join(failed)
