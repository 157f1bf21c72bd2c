"""The CUDA backend around its kernels: which of them, what waits for what, memory, the compiler's cache, errors."""

from __future__ import annotations

import re
import sys
import types
from itertools import pairwise, product
from pathlib import Path

import cuda_devices
import numpy as np
import pytest
from cases import CASES
from trained import PLAIN

from aaecore import AAE, DeviceError, get_backend
from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda import kernels, nvrtc
from aaecore.backends.cuda.cupy_driver import BLOCK, Arena, assign_streams
from aaecore.backends.cuda.dependencies import Access, dependencies, on_longest_chain
from aaecore.backends.cuda.driver import Launch, Node
from aaecore.core.ops import OPS, PRECISIONS

KERNELS = Path(__file__).parents[3] / "kernels" / "cuda"
CHIP = kernels.Chip(132, "tf32x3")


# --- the tables agree with the sources --------------------------------------------------------------------------------


def _parameters() -> dict[str, list[str]]:
    """Kernel -> the names of its parameters, "" where it has none, from the sources outside macros."""
    text = "\n".join(p.read_text() for p in sorted(KERNELS.glob("*.cu")))
    found = re.findall(r"^KERNEL\((\w+), \w+,([^{]*?)\) \{", text, re.MULTILINE | re.DOTALL)
    return {name: [re.sub(r".*[\s*]", "", p.strip()) for p in parameters.split(",")] for name, parameters in found}


def test_kernels_have_the_parameters_of_their_ops() -> None:
    parameters = _parameters()
    for op in (op for name, op in OPS.items() if not name.startswith("linear_")):
        expected = [*(a.name for a in op.args), *op.dims, *op.scalars]
        expected += ["partial"] if op.name in kernels.PARTIAL else []
        expected += ["scratch"] if op.name in kernels.CHAINS else []
        for kernel in [op.name, *[f"{op.name}_sum"] * (op.name in kernels.PARTIAL)]:
            got = parameters[kernel]
            short = {"state": "s", "counter": "rng", "velocity": "velocity"}
            pairs = list(zip(got, expected, strict=True))
            assert all(g in ("", "int", "double", e, short.get(e)) for g, e in pairs), (kernel, pairs)


def test_every_op_has_kernels_and_every_kernel_an_op() -> None:
    used = {f"{name}_{math}" for name in kernels.FUSED for math in ("ffma", "tf32", "bf16")}
    chips = [kernels.Chip(n, fp32, (tile,)) for n in (1, 132) for fp32 in cuda.FP32 for tile in kernels.TILES]
    for op, cases in CASES.items():
        used |= {k for chip in chips for case in cases for k, _ in kernels.kernels_of(op, case.dims, chip)}
    assert used == set(kernels.KERNELS)
    text = "".join(p.read_text() for p in KERNELS.glob("*.cu*"))
    for constant, value in {"PARTS": kernels.PARTS, "MOST": kernels.NARROW}.items():
        assert f"{constant} = {value}" in text
    assert f"FAN_KERNELS(MATH, suffix, {kernels.ROWS}, {kernels.ROWS})" in text


@pytest.mark.parametrize(
    ("batch", "outputs", "tile"), [(100, 1000, "small"), (512, 1000, "medium"), (4096, 1000, "large"), (1, 9, "small")]
)
def test_a_tile_is_as_large_as_keeps_all_multiprocessors_busy(batch: int, outputs: int, tile: str) -> None:
    dims = {"B": batch, "I": 784, "O": outputs, "act": 0}
    assert kernels.kernels_of("linear_forward_bf16", dims, CHIP)[0][0] == f"linear_forward_bf16_{tile}"


def test_nothing_is_launched_for_no_elements() -> None:
    assert kernels.kernels_of("copy", {"N": 0, "beta": 0}, CHIP) == []
    assert kernels.kernels_of("random_normal", {"N": 0, "stream": 0}, CHIP) == []


def test_products_that_no_grid_can_make_are_refused() -> None:
    dims = {"B": 9_000_000, "I": 16, "O": 64, "act": 0}
    with pytest.raises(ValueError, match="linear_forward: expected a result of at most 8388480 rows on a GPU, got"):
        kernels.kernels_of("linear_forward", dims, CHIP)


def test_layers_without_inputs_have_no_row_to_read() -> None:
    assert kernels.fan("linear_forward", {"B": 2, "I": 0, "O": 9, "act": 0}) == ""


# --- what waits for what ----------------------------------------------------------------------------------------------


def test_dependencies() -> None:
    def reads(*ranges: tuple[int, int]) -> list[Access]:
        return [Access(*r, False) for r in ranges]

    def writes(*ranges: tuple[int, int]) -> list[Access]:
        return [Access(*r, True) for r in ranges]

    a, b, half = (0, 8), (8, 16), (4, 8)
    launches = [
        writes(a),  # 0
        writes(b),  # 1: touches a, overlaps nothing of it
        reads(a),  # 2
        reads(half),  # 3: of a
        [*reads(b), *writes(half)],  # 4: after both readers of a, and the writer of b
        reads(a),  # 5
        [*reads(b), *writes(b)],  # 6: in place, after its reader
        [],  # 7
        reads((5, 5)),  # 8: nothing
    ]
    assert dependencies(launches) == [(), (), (0,), (0,), (1, 2, 3), (4,), (4,), (), ()]
    parts = [writes((0, 4)), writes(half), reads(half), reads(a), writes((2, 6)), reads(a), reads((6, 8))]
    assert dependencies(parts) == [(), (), (1,), (0, 1), (2, 3), (4,), (1,)]


def test_streams_add_no_order() -> None:
    launch = Launch("a.cu", "a", (1, 1), 1, 0, ())
    after = [(), (), (0,), (1,), (2, 3), (), (4, 5), (4,), (6, 7)]
    assigned = assign_streams([Node(launch, w) for w in after])
    assert assigned == [0, 1, 0, 1, 1, 2, 2, 1, 1]


def test_the_longest_chain() -> None:
    assert on_longest_chain([(), (), (0,), (2,), (1,), (3, 4)]) == [True, False, True, True, False, True]
    assert on_longest_chain([(), (), (0,), (1,)]) == [True] * 4, "two of them are as long"
    assert on_longest_chain([]) == []


@cuda_devices.needs_device
@pytest.mark.parametrize(("fuses", "expected"), [(True, (27, 53)), (False, (35, 59))])
def test_a_training_step_runs_in_parallel_where_it_can(
    fuses: bool, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest chain of launches, of all."""
    monkeypatch.setattr(cuda.CudaBackend, "fuses", fuses)
    monkeypatch.setattr(cuda, "make_driver", lambda device: cuda_devices.driver())
    recorded: list[Node] = []
    monkeypatch.setattr(cuda_devices.driver(), "graph", lambda nodes: recorded.extend(nodes) or (lambda: None))
    from aaecore import Trainer

    model = AAE(20, 3, (16, 16), device="cuda", **PLAIN)
    Trainer(model, 8, guard=False).fit(np.zeros((8, 20), np.float32), 1, progress=False)
    depth: list[int] = []
    for node in recorded:
        depth.append(1 + max((depth[w] for w in node.after), default=0))
    assert (max(depth), len(recorded)) == expected, "docs/performance.md has these numbers"


# --- memory -----------------------------------------------------------------------------------------------------------


def test_the_arena_gives_blocks_back() -> None:
    made: list[int] = []

    def allocate(nbytes: int) -> np.ndarray:
        made.append(nbytes)
        return np.empty(nbytes, np.uint8)

    arena = Arena(allocate)
    small = [arena.take(n) for n in (1, 300, 0, BLOCK // 8)]
    assert made == [BLOCK]
    assert [a.nbytes for a in small] == [1, 300, 0, BLOCK // 8]
    starts = [a.ctypes.data for a in small]
    assert all((s - starts[0]) % 256 == 0 for s in starts)
    assert all(a.ctypes.data + a.nbytes <= b.ctypes.data for a, b in pairwise(small))
    assert arena.take(BLOCK).nbytes == BLOCK
    assert made == [BLOCK, BLOCK]
    for _ in range(20):
        arena.take(BLOCK // 8)
    assert len(made) == 4, "three more blocks of eight"


# --- the cache of compiled kernels ------------------------------------------------------------------------------------


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """A stand-in for NVRTC; gives the list of what it was asked to compile."""
    calls: list[tuple[str, str]] = []

    def compile_source(name: str, arch: str, options: tuple[str, ...] = ()) -> tuple[bytes, str]:
        calls.append((name, arch))
        return f"{name} for {arch}".encode(), ""

    monkeypatch.setattr(nvrtc, "compile_source", compile_source)
    monkeypatch.setattr(nvrtc, "_nvrtc", lambda: types.SimpleNamespace(getVersion=lambda: (13, 0)))
    monkeypatch.setenv("AAECORE_CACHE", str(tmp_path / "cache"))
    return calls


def test_a_kernel_is_compiled_once(compiler: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        assert nvrtc.cubin("data.cu", "sm_90a") == b"data.cu for sm_90a"
    assert compiler == [("data.cu", "sm_90a")]
    assert nvrtc.cubin("data.cu", "sm_80") == b"data.cu for sm_80"
    monkeypatch.setattr(nvrtc, "sources", lambda: {"data.cu": "other", "device.cuh": ""})
    nvrtc.cubin("data.cu", "sm_80")
    monkeypatch.setattr(nvrtc, "sources", lambda: {"data.cu": "other", "device.cuh": "changed"})
    nvrtc.cubin("data.cu", "sm_80")
    monkeypatch.setattr(nvrtc, "_nvrtc", lambda: types.SimpleNamespace(getVersion=lambda: (13, 1)))
    nvrtc.cubin("data.cu", "sm_80")
    assert len(compiler) == 5


def test_what_was_compiled_elsewhere_is_taken_by_any_compiler(
    compiler: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or by none: NVRTC is not even asked for its version."""
    nvrtc.store("data.cu", "sm_90a", b"from elsewhere")
    for version in (lambda: (13, 2), None):
        monkeypatch.setattr(nvrtc, "_nvrtc", lambda version=version: types.SimpleNamespace(getVersion=version))
        assert nvrtc.cubin("data.cu", "sm_90a") == b"from elsewhere"
    assert compiler == []
    assert len({nvrtc.digest(*each) for each in product(("data.cu", "loss.cu"), ("sm_80", "sm_90a"))}) == 4
    before = nvrtc.digest("data.cu", "sm_90a")
    monkeypatch.setattr(nvrtc, "OPTIONS", ())
    assert nvrtc.digest("data.cu", "sm_90a") != before


def test_a_damaged_entry_is_made_again(compiler: list[tuple[str, str]], tmp_path: Path) -> None:
    nvrtc.cubin("data.cu", "sm_90a")
    (entry,) = (tmp_path / "cache").iterdir()
    for damage in (b"", entry.read_bytes()[:-1], b"x" + entry.read_bytes()[1:]):
        entry.write_bytes(damage)
        assert nvrtc.cubin("data.cu", "sm_90a") == b"data.cu for sm_90a"
    assert len(compiler) == 4
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [entry.name], "no temporary file is left"


def test_a_folder_that_cannot_be_written_is_no_error(
    compiler: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AAECORE_CACHE", str(tmp_path / "file" / "below"))
    assert nvrtc.cubin("data.cu", "sm_90a") == nvrtc.cubin("data.cu", "sm_90a") == b"data.cu for sm_90a"
    assert len(compiler) == 2


def test_without_a_home_the_temporary_folder_is_used(
    compiler: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AAECORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(nvrtc.tempfile, "gettempdir", lambda: str(tmp_path))
    assert nvrtc.cubin("data.cu", "sm_90a") == nvrtc.cubin("data.cu", "sm_90a")
    assert len(compiler) == 1
    (mine,) = tmp_path.iterdir()
    assert mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o777)  # anybody could have put something there
    nvrtc.cubin("data.cu", "sm_90a")
    assert len(compiler) == 2


def test_the_sources_are_installed() -> None:
    assert {kernel.source for kernel in kernels.KERNELS.values()} <= set(nvrtc.sources())
    included = {name for text in nvrtc.sources().values() for name in re.findall(r'#include "(.*)"', text)}
    assert included - {"cuda_emu.h"} <= set(nvrtc.sources())


def test_architectures() -> None:
    assert [nvrtc.architecture(c) for c in ((7, 5), (9, 0), (12, 0))] == ["sm_75", "sm_90a", "sm_120"]


# --- errors -----------------------------------------------------------------------------------------------------------


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"device='cuda:1' needs CuPy.*pip install 'aaecore\[cuda13x\]'"):
        AAE(4, 2, (3,), device="cuda:1")


def _fake_cupy(count: int | None, capability: tuple[int, int] = (9, 0)) -> types.SimpleNamespace:
    class CUDARuntimeError(Exception):
        pass

    def get_device_count() -> int:
        if count is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: too old")
        return count

    properties = {"major": capability[0], "minor": capability[1], "multiProcessorCount": 8, "name": b"Old One"}
    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=get_device_count,
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: properties,
    )
    return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("device", "cupy", "message"),
    [
        ("cuda", _fake_cupy(None), "no usable GPU or driver: cudaErrorInsufficientDriver.*; use device='cpu'"),
        ("cuda:3", _fake_cupy(2), "device='cuda:3': expected a number below 2"),
        ("cuda", _fake_cupy(1, (6, 1)), "expected compute capability 7.5 or higher, Old One has 6.1"),
    ],
)
def test_without_a_gpu_that_can_be_used(
    device: str, cupy: types.SimpleNamespace, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(DeviceError, match=message):
        get_backend(device)


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "cuda:²"])
def test_other_names(name: str) -> None:
    with pytest.raises(ValueError, match="device: expected 'cuda' or 'cuda:<number>'"):
        get_backend(name)


@cuda_devices.needs_device
def test_a_gpu_without_tensor_cores() -> None:
    class Turing:
        name, capability, multiprocessors = "cuda", (7, 5), 40
        allocate = staticmethod(cuda_devices.driver().allocate)

    backend = cuda.CudaBackend(Turing())  # type: ignore[arg-type]
    assert backend.chip.fp32 == "ffma"
    assert backend.precisions == ("fp32",)
    with pytest.raises(DeviceError, match=r"fp32='tf32x3': expected compute capability 8.0 or higher, cuda has 7.5"):
        cuda.CudaBackend(Turing(), "tf32x3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of tf32x3, ffma, got 'fp64'"):
        cuda.CudaBackend(Turing(), "fp64")  # type: ignore[arg-type]


def test_precisions_are_those_of_the_device() -> None:
    with pytest.raises(ValueError, match="precision: expected one of fp32, bf16 on device 'cpu', got 'tf32'"):
        AAE(4, 2, (3,), precision="tf32")
    assert get_backend("reference").precisions == tuple(PRECISIONS)
