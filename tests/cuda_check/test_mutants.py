"""Faults planted in the real CUDA kernels, each of which the checked build of the emulator has to report.

Every statement that synchronises is removed in turn: so each is needed, and a test would notice if it went.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import op_checks
import pytest
from cases import CASES
from emulator.emulator import EmulatedDriver, EmulatorError, unavailable
from probes import DEPTH_IN_TWO, HalfProbe, Probe, all_probes, linear_case, probes_of, report_of, tile_of
from trained import rows, train

from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.driver import Node
from aaecore.backends.cuda.kernels import (
    KERNELS,
)

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

FOLDER = Path(__file__).parents[2] / "kernels" / "cuda"
TEXTS = {f.name: f.read_text() for f in sorted(FOLDER.iterdir()) if f.suffix in (".cu", ".cuh")}
SYNCHRONISATION = re.compile(r"\b(__syncthreads|__syncwarp|commit_copies|wait_copies<[^;>]*>)\([^;()]*\);")
UNSYNCHRONISED = "race in|before its wait|uninitialised|deadlock"


# --- mutants ----------------------------------------------------------------------------------------------------------


def _included(unit: str) -> set[str]:
    """The files that a file is made of, itself among them."""
    found, todo = set(), [unit]
    while todo:
        name = todo.pop()
        if name in TEXTS and name not in found:
            found.add(name)
            todo += re.findall(r'^\s*#\s*include\s*"(.*?)"', TEXTS[name], re.M)
    return found


UNITS = [name for name in TEXTS if name.endswith(".cu")]


def _build(unit: str, changed: Mapping[str, str], seed: int = 0) -> EmulatedDriver:
    """A device that has the kernels of one unit only."""
    return EmulatedDriver("check", seed, {unit: TEXTS[unit], **changed}, replace_all=True)


def _statements() -> list[Any]:
    """Each with its file and where in it."""
    return [
        pytest.param(name, found.span(), id=f"{name}:{text.count(chr(10), 0, found.start()) + 1}-{found[1]}")
        for name, text in TEXTS.items()
        if name != "device.cuh"  # where they are defined
        for found in SYNCHRONISATION.finditer(text)
    ]


def _without(name: str, span: tuple[int, int], unit: str, seed: int) -> EmulatedDriver:
    """The unit without a statement, which is counted where it was."""
    text = TEXTS[name]
    changed = {unit: TEXTS[unit], name: f"{text[: span[0]]}++passed;{text[span[1] :]}"}
    counter = "static int passed; EMU_API int passed_by() { return passed; }\n"
    return _build(unit, {**changed, unit: counter + changed[unit]}, seed)


def test_statements_are_found() -> None:
    """The pattern knows every way to write one."""

    def uses(text: str) -> int:
        return len(re.findall(r"\b(?:__sync\w+|(?:commit|wait)_copies)\b", re.sub("//.*", "", text)))

    assert len(_statements()) == sum(map(uses, TEXTS.values())) - uses(TEXTS["device.cuh"]) > 0


def test_every_kernel_is_launched() -> None:
    assert {kernel for probe in all_probes() for kernel in probe.kernels} == set(KERNELS)


@pytest.mark.parametrize("unit", UNITS)
def test_the_kernels_as_they_are_are_clean(unit: str) -> None:
    driver = _build(unit, {})
    for probe in probes_of(unit):
        probe.run(driver)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "span"), _statements())
def test_no_synchronisation_can_go(name: str, span: tuple[int, int], seed: int) -> None:
    """Every kernel that comes by the place is reported, in any order of threads, and no other."""
    reported, wrong = [], []
    for unit in UNITS:
        if name not in _included(unit):
            continue
        driver = _without(name, span, unit, seed)
        for probe in probes_of(unit):
            before = driver._library.passed_by()
            report = report_of(lambda probe=probe, driver=driver: probe.run(driver))
            if bool(re.search(UNSYNCHRONISED, report)) != (driver._library.passed_by() > before):
                wrong.append(f"{probe}: {report or 'no report'}")
            elif report:
                reported += probe.kernels
    assert not wrong
    assert reported, "no launch comes by it: a kernel that has no op, or an op that lacks a case"
    print(f"{len(reported)} kernels")


# --- other faults -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is replaced in a file, and what the emulator says of those of the unit's kernels."""

    file: str
    old: str
    new: str
    unit: str
    kernels: str  # a pattern of their names
    report: str
    aligned: bool = False  # rows of whole 16 bytes; else by those of `Probe`


def _of_tiles(sliced: bool) -> str:
    return "|".join(f"^{name}$" for name, kernel in KERNELS.items() if kernel.tile and kernel.tile.sliced == sliced)


PANELS, SLICES = _of_tiles(sliced=False), _of_tiles(sliced=True)  # products whose factors all warps share, or none
READ, WRITE = (f"out-of-bounds global {access}" for access in ("read", "write"))
FAULTS = {
    "one element too many": Fault("data.cu", "if (i < N) x[i] = (", "if (i <= N) x[i] = (", "data.cu", "^fill$", WRITE),
    "one element too many read": Fault("data.cu", "if (i < N) dst[i]", "if (i <= N) dst[i]", "data.cu", "^copy$", READ),
    "one factor too many": Fault(
        "tile.cuh", "inner + j < inner_end", "inner + j <= inner_end", "linear_tf32.cu", PANELS, READ
    ),
    "one factor of a slice too many": Fault(
        "sliced.cuh", "inner + j < inner_end", "inner + j <= inner_end", "linear_tf32.cu", SLICES, READ
    ),
    "one row too many": Fault(
        "tile.cuh", "i * LINES < left", "i * LINES <= left", "linear_bf16.cu", PANELS, READ, aligned=True
    ),
    "one line of a slice too many": Fault(
        "sliced.cuh", "i < left)", "i <= left)", "linear_bf16.cu", SLICES, READ, aligned=True
    ),
    "one sum of the warps too many": Fault(
        "sliced.cuh", "n = row < M ?", "n = row <= M ?", "linear_bf16.cu", SLICES, "out-of-b|race in"
    ),
    "one sum too many": Fault("tile.cuh", "if (m0 + row >= M)", "if (m0 + row > M)", "linear.cu", "linear", "out-of-b"),
    "a quad for a tail": Fault("optim.cu", "N - i >= 4 &&", "", "optim.cu", "adam_step", READ),
    "a quad for the last random numbers": Fault(
        "random.cu", "left >= 4 &&", "", "random.cu", "random_(normal|uniform)|add_noise|dropout", f"{READ}|{WRITE}"
    ),
    "odd rows taken for wide ones": Fault("quad.cuh", "stride % 4 == 0 &&", "", "linear_tf32.cu", "linear", "misalig"),
    "a row too many": Fault(
        "skinny.cuh", "return y[(long long)row", "return y[(long long)(row + 1)", "skinny.cu",
        "forward_(ffma_fan_in|forward|copy|loss)", "out-of-b",
    ),
    "a column too many": Fault(
        "columns.cuh", "at = is_there ? column : F - 1", "at = column", "normalise.cu", "forward|backward", "out-of-b"
    ),
    "a head too many": Fault(
        "classes.cu", "at = min(i, C * Z - 1)", "at = i", "classes.cu", "backward_heads", READ
    ),
    "a stage too few": Fault(
        "tile.cuh", "chunk < T::STAGES - 1; chunk++", "chunk < T::STAGES - 2; chunk++", "linear_bf16.cu", PANELS,
        "uninitialised|race in",
    ),
    "a wait for a group too few": Fault(
        "tile.cuh", "wait_copies<T::STAGES - 2>", "wait_copies<T::STAGES - 1>", "linear_tf32x3.cu", PANELS,
        "before its wait",
    ),
    "a wait for a slice too few": Fault(
        "sliced.cuh", "wait_copies<Sliced::SLICES - 1>", "wait_copies<Sliced::SLICES>", "linear_tf32x3.cu", SLICES,
        "before its wait",
    ),
    "two blocks on a tile": Fault(
        "tile.cuh", "n0 = blockIdx.x * T::BN", "n0 = blockIdx.x / 2 * T::BN", "linear_tf32.cu", PANELS,
        "race in global memory: write after unordered (write|read)", aligned=True,
    ),
    "two threads on an element": Fault(
        "data.cu", "return blockIdx.x * THREADS + threadIdx.x", "return (blockIdx.x * THREADS + threadIdx.x) / 2",
        "data.cu", "^scale$", "race in global memory",
    ),
    "a barrier in a branch": Fault(
        "reduce.cuh", "  __syncthreads();", "  if (threadIdx.x % 32 == 0) __syncthreads();", "loss.cu", "sum_squares",
        "returns while|returned before|deadlock|divergent",
    ),
    "a return before a barrier": Fault(
        "skinny.cuh", "  __syncthreads();\n  if", "  if (threadIdx.x >= N) return;\n  __syncthreads();\n  if",
        "skinny.cu", "fan_in", "returns while|returned before|deadlock|divergent",
    ),
    "a return before the last barrier": Fault(
        "tile.cuh", "  sums.store(shared);", "  if (threadIdx.x == 7) return;\n  sums.store(shared);",
        "linear_tf32.cu", PANELS, "returns while|returned before|deadlock|divergent",
    ),
    "a shuffle in a branch": Fault(
        "skinny.cuh", "  spread_sum", "  if (threadIdx.x % 32 < 16) spread_sum", "skinny_bf16.cu", "fan_in",
        "returns while|has returned|deadlock|divergent",
    ),
}  # fmt: skip


def _aligned(probe: Probe | HalfProbe) -> Probe | HalfProbe:
    """One column block and one row more than a tile, and rows of whole quads."""
    if isinstance(probe, HalfProbe):
        return replace(probe, whole=_with_aligned_rows(probe.whole, DEPTH_IN_TWO))
    return _with_aligned_rows(probe, 2 * tile_of(probe.op, probe.tile).depth + 4)


def _with_aligned_rows(probe: Probe, depth: int) -> Probe:
    t = tile_of(probe.op, probe.tile)
    return replace(probe, case=linear_case(probe.op, t.rows + 4, t.columns + 4, depth))


def _faulty(fault: Fault) -> EmulatedDriver:
    text = TEXTS[fault.file]
    assert text.count(fault.old) == 1, f"{fault.file} has changed: plant this fault elsewhere"
    return _build(fault.unit, {fault.file: text.replace(fault.old, fault.new)})


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_reported(name: str) -> None:
    """In every kernel that has them."""
    fault = FAULTS[name]
    driver = _faulty(fault)
    probes = [p for p in probes_of(fault.unit) if re.search(fault.kernels, str(p))]
    reports = {str(p): report_of(lambda p=p: (_aligned(p) if fault.aligned else p).run(driver)) for p in probes}
    assert reports
    assert not {kernel: report or "clean" for kernel, report in reports.items() if not re.search(fault.report, report)}


def test_quads_at_odd_addresses_are_reported() -> None:
    """Rows of whole quads that do not begin at one."""
    driver = _faulty(Fault("quad.cuh", " && is_aligned16(p)", "", "linear_tf32.cu", "", ""))
    for probe in (p for p in probes_of("linear_tf32.cu") if isinstance(p, Probe) and p.tile == "small"):
        index, _ = next((i, c) for i, c in enumerate(CASES[probe.op]) if not any(c.dims[d] % 4 for d in "BIO"))
        with pytest.raises(EmulatorError, match=r"misaligned global (read|write) of 16 bytes"):
            op_checks.check(probe.backend(driver), probe.op, index, tight=True)


@pytest.mark.parametrize("unit", sorted({kernel.source for kernel in KERNELS.values() if kernel.shared}))
def test_shared_memory_is_not_more_than_needed(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last 32 bytes may be the space between two lines of a panel; those before are used."""
    driver = _build(unit, {})
    launch = driver.launch
    for probe in probes_of(unit):
        for kernel in (name for name in probe.kernels if KERNELS[name].shared):
            less = {kernel: 36}
            monkeypatch.setattr(
                driver,
                "launch",
                lambda node, less=less: launch(replace(node, shared=node.shared - less.get(node.kernel, 0))),
            )
            with pytest.raises(EmulatorError, match=rf"{kernel}: out-of-bounds shared (read|write)"):
                probe.run(driver)


# --- graphs -----------------------------------------------------------------------------------------------------------


@dataclass
class Graph:
    """The graph of a training step, and all memory of its device as it was before."""

    driver: EmulatedDriver
    nodes: list[Node]
    memory: list[tuple[np.ndarray, np.ndarray]]

    def report(self, nodes: list[Node]) -> str:
        for array, before in self.memory:
            array[:] = before
        return report_of(self.driver.graph(nodes))


def _record_step(monkeypatch: pytest.MonkeyPatch) -> Graph:
    driver = EmulatedDriver("check")
    allocate, graph = driver.allocate, driver.graph
    arrays: list[np.ndarray] = []  # which keeps them alive
    steps: list[Graph] = []

    def allocate_and_keep(nbytes: int) -> np.ndarray:
        arrays.append(allocate(nbytes))
        return arrays[-1]

    def record(nodes: list[Node]) -> Callable[[], None]:
        steps.append(Graph(driver, nodes, [(array, array.copy()) for array in arrays]))
        return graph(nodes)

    with monkeypatch.context() as patch:
        patch.setattr(cuda, "make_driver", lambda device: driver)
        patch.setattr(driver, "allocate", allocate_and_keep)
        patch.setattr(driver, "graph", record)
        train(rows()[:64], 1, device="cuda", posterior="gaussian")
    return min(steps, key=lambda step: len(step.nodes))


# (kernel, the one that it waits for): they write other bytes of one buffer, which the backend does not know. Without
# it, what comes after the later one does not come after the earlier one any more.
UNNEEDED = {("log_value", "log_value")}


def test_no_dependency_of_a_step_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    step = _record_step(monkeypatch)
    nodes = step.nodes
    assert not step.report(nodes)
    edges = [(n, a) for n, node in enumerate(nodes) for a in node.after]
    assert len(edges) > len(nodes) / 2
    unnoticed = []
    for n, a in edges:
        fewer = replace(nodes[n], after=tuple(b for b in nodes[n].after if b != a))
        report = step.report([*nodes[:n], fewer, *nodes[n + 1 :]])
        kernels = [nodes[i].launch.kernel for i in (n, a)]
        if tuple(kernels) not in UNNEEDED and not re.search(
            r"race in global memory: .* node \d+ of the graph, which it does not come after", report
        ):
            unnoticed.append(f"{' after '.join(kernels)} ({n}, {a}): {report or 'clean'}")
    assert not unnoticed, f"of {len(edges)} dependencies of {len(nodes)} nodes"
    assert {(nodes[n].launch.kernel, nodes[a].launch.kernel) for n, a in edges} >= UNNEEDED
