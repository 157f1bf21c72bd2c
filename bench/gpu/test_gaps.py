"""The host's side of the gap probes, over kernels made of NumPy; that the true ones compile, and to what."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest
from emulator.emulator import EmulatedDriver

from gpu import ceilings, gap_probe, gaps, probe
from gpu.harness_kit import need


class Machine:
    """What `fake_cupy` asks of an emulator, for the kernels of `gap_probe`: graphs run in any order that they allow."""

    capability, multiprocessors = (9, 0), 4

    def __init__(self, seed):
        self.seed, self._random = seed, random.Random(seed)
        self.memory, self.broken, self.launched = {}, "", []

    def allocate(self, nbytes):
        made = np.zeros(nbytes, np.uint8)
        self.memory[made.ctypes.data] = made
        return made

    def pointer(self, array):
        return array.ctypes.data

    def adopt(self, array):
        made = self.allocate(array.nbytes).view(array.dtype)
        made[:] = array
        return made

    def copy(self, target, source):
        target[:] = source

    def graph(self, nodes):
        def replay():
            for number in EmulatedDriver._order(self, nodes):
                self.launch(nodes[number].launch)

        return replay

    def launch(self, launch):
        self.launched.append(launch)
        if launch.kernel == self.broken:
            return
        arrays = [self.memory[a].view(np.float32) for a in launch.arguments if type(a) is int]
        sizes = [int(a) for a in launch.arguments if type(a) is not int]
        getattr(self, launch.kernel)(launch.grid[0], *arrays, *sizes)

    def node(self, blocks, a, b, out):
        assert len(out) == blocks
        out[:] = (np.roll(a, -1) + np.roll(b, -1)) / 2 + 1

    early_node = node

    def grid_barrier(self, blocks, arrived, late, rounds):
        arrived.view(np.uint32)[:] += np.uint32(rounds * blocks)

    def cluster_sum(self, blocks, out, rounds, loads):
        out[:] = 144 * rounds * loads

    def l2_loads(self, blocks, data, out, words):
        assert (data == 1).all()
        out[:] = 4 * words / 256

    def l2_copies(self, blocks, data, out, words):
        out[:] = 64


@pytest.fixture(params=[1, 2, 3])
def machine(request, monkeypatch):
    made = Machine(request.param)
    monkeypatch.setattr(probe, "cubin", lambda architecture, source: f"probe for {architecture}".encode())
    monkeypatch.setattr(gaps, "early", gaps.plain)  # the CUDA bindings know no stand-in
    monkeypatch.setattr(gaps, "CHAIN", 8)
    with fake_cupy.installed(made):
        cupy = sys.modules["cupy"]
        cupy.zeros = lambda count, dtype: fake_cupy._filled(np.zeros(count, dtype))
        cupy.asnumpy = lambda array: array.memory.copy()
        yield made


def measured(machine):
    backend = SimpleNamespace(driver=machine, to_host=lambda buffer: None)
    return list(ceilings.measured(gaps.parts(backend), 60.0))


def test_every_gap_is_measured_and_its_kernels_count_right(machine, monkeypatch):
    ticks = iter(range(1, 10**6))
    monkeypatch.setattr(gaps, "once", lambda backend, call, *_: call() or float(next(ticks)))
    rows = measured(machine)
    assert [row.get("what", row) for row in rows] == [
        "node of 128 blocks with 52 KB, one after the other",
        "node of one warp, one after the other",
        "a node of 128 blocks, and two after it side by side",
        "node of 128 blocks with 52 KB, dependent launch",
        "L2 to multiprocessors, 16-byte loads",
        "L2 to multiprocessors, cp.async of 16 bytes",
        "barrier of a cluster of 8 blocks",
        "sum of a tile of 64 x 64 over a cluster of 8 blocks, barrier included",
        "shared memory of other blocks, all clusters",
        "barrier of a block on every multiprocessor",
    ]
    assert all(row["value"] > 0 for row in rows)
    assert {launch.shared for launch in machine.launched if launch.grid == (128, 1)} >= {52 << 10}


@pytest.mark.parametrize(
    ("broken", "parts"),
    [("node", 2), ("early_node", 1), ("grid_barrier", 1), ("cluster_sum", 1), ("l2_copies", 1)],
)
def test_no_time_is_given_for_a_kernel_that_does_nothing(broken, parts, machine):
    machine.broken = broken
    gone = [row for row in measured(machine) if "left out" in row]
    assert len(gone) == parts
    assert all("expected" in row["why"] for row in gone)


def test_one_of_many_parts_is_the_difference_of_two_graphs(monkeypatch):
    monkeypatch.setattr(gaps, "once", lambda backend, call: call())
    assert gaps.each(None, lambda count: lambda: 5.0 + 2.0 * count, 10) == 2.0


def test_ceilings_keep_their_time():
    def fails():
        raise RuntimeError("no")
        yield

    rows = list(ceilings.measured([("a", fails), ("b", lambda: iter([{"what": "b"}]))], 60.0))
    assert rows == [{"left out": "a", "why": "RuntimeError: no"}, {"what": "b"}]
    assert list(ceilings.measured([("a", fails)], -1.0)) == [{"left out": "a", "why": "out of time"}]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_the_gap_probes_compile(architecture):
    need("cupy")
    code = probe.cubin(architecture, gap_probe.SOURCE)
    names = {name for name in vars(Machine) if f".text.{name}\0".encode() in code}
    hopper = {"early_node", "cluster_sum"} if architecture == "sm_90a" else set()
    assert names == {"node", "grid_barrier", "l2_loads", "l2_copies"} | hopper


def test_a_dependent_launch_gets_as_far_as_the_driver():
    """Names and types are those of the CUDA bindings; without a GPU there is no library to call, or no context."""
    need("cuda.bindings.driver")
    launch = gaps.early(SimpleNamespace(ptr=4096), 128, 52 << 10)
    array = SimpleNamespace(data=SimpleNamespace(ptr=8192))
    with pytest.raises(RuntimeError, match=r"cuLaunchKernelEx|libcuda|driver"):
        launch(SimpleNamespace(ptr=0), 128, array, array, array)
