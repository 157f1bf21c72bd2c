"""What is switched, on a stand-in for CuPy over the emulator; taking turns, and processes, on the CPU."""

from __future__ import annotations

import time

import cuda_devices
import fake_cupy
import pytest
from emulator.emulator import EmulatedDriver

from gpu import switches
from gpu.switches import BASE, SWITCHES, Side, Switch, in_turn, process


@pytest.fixture
def world(emulator, tiny, monkeypatch):
    """A GPU by name only, with a clock by which every burst takes a millisecond."""
    monkeypatch.setattr(switches, "clock_of", lambda backend, call: lambda times: call() or 1e-3)
    monkeypatch.setattr(switches, "LEAST", 1)
    with fake_cupy.installed(EmulatedDriver(cuda_devices.MODE, cuda_devices.SEED)) as made:
        yield made


def launched(world, monkeypatch, switch):
    """The number of nodes of every graph that a side makes, its streams' priorities, the carve-outs, the digest."""
    world.priorities.clear()
    world.carveouts.clear()
    graphs, graph = [], fake_cupy.Graph
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy, "Graph", lambda nodes: graphs.append(nodes) or graph(nodes))
        made = switches.side(switch, "tiny", "fp32", "cuda")
    return graphs, list(world.priorities), dict(world.carveouts), made.digest


def is_linear(nodes):
    return all(node.after == ((i - 1,) if i else ()) for i, node in enumerate(nodes))


def test_every_switch_does_what_it_says_and_changes_no_bit(world, monkeypatch):
    by_name = {s.name: launched(world, monkeypatch, s) for s in (BASE, *SWITCHES) if not s.environment}
    assert len({digest for *_, digest in by_name.values()}) == 1
    nodes = {name: [len(graph) for graph in graphs] for name, (graphs, *_) in by_name.items()}
    step = nodes["none"][1]
    assert nodes["none"] == [16 * step, step]
    assert nodes["graphs of 1 step"] == [step]
    assert nodes["graphs of 64 steps"] == [64 * step, step]
    assert nodes["a kernel for each call"][1] > step
    assert {name for name, (graphs, *_) in by_name.items() if is_linear(graphs[-1])} == {"order linear"}
    assert {name for name, (_, priorities, *_) in by_name.items() if any(map(any, priorities))} == {"order urgent"}
    assert {name for name, (_, _, carveouts, _) in by_name.items() if carveouts} == {"carveout 100"}


def test_rows_of_the_device(world, monkeypatch):
    monkeypatch.setattr(switches, "EACH", 0.0)
    monkeypatch.setattr(switches, "SWITCHES", (SWITCHES[0], SWITCHES[-1]))
    here, elsewhere = switches.switches("tiny", ["bf16"], "cuda", 20.0)
    assert (here["switch"], here["same bits"], here["ratio"]) == ("order linear", True, 1)
    assert elsewhere["left out"] == f"{SWITCHES[-1].name}, bf16", "no other process has the stand-in"


def test_a_switch_that_is_no_more_is_left_out(world, monkeypatch):
    monkeypatch.setattr(switches, "SWITCHES", (Switch("gone", driver={"no_such": 1}),))
    (row,) = switches.switches("tiny", ["fp32"], "cuda", 20.0)
    assert row["left out"] == "gone, fp32"
    assert "no_such" in row["why"]


def test_sides_take_turns_and_ratios_are_of_the_same_round(monkeypatch):
    monkeypatch.setattr(switches, "LEAST", 5)
    order = []

    def burst(name, factor):
        return lambda: order.append(name) or factor * 2.0 ** (len(order) // 2)  # slower from round to round

    row = in_turn(Side("x", burst("b", 1.0)), Side("y", burst("o", 3.0)), 0.0)
    assert "".join(order) == "bo" + "obboobboob"
    assert row["rounds"] == 5
    assert row["same bits"] is False
    assert 1 < row["ratio"] < 6
    steady = in_turn(Side("x", lambda: 2e-6), Side("x", lambda: 3e-6), 0.0)
    assert steady == {"us": 3.0, "base us": 2.0, "ratio": 1.5, "rounds": 5, "same bits": True}


def test_a_process_of_its_own_makes_the_same_steps():
    switch = Switch("threads", environment={"AAECORE_NUM_THREADS": "1"})
    with process(switch, "e", "fp32", "cpu", 60.0) as begun:
        there = begun()
        assert there.digest == switches.side(BASE, "e", "fp32", "cpu").digest
        assert 0 < there.burst() < 1


def test_a_process_that_has_no_time_left_is_ended():
    begin = time.monotonic()
    error = pytest.raises(RuntimeError, match="a process with none ended, or was ended after 0 s")
    with error, process(BASE, "e", "fp32", "cpu", 0.1) as begun:
        begun()
    assert time.monotonic() - begin < 30
