"""The driver of a real GPU, over a stand-in for CuPy that keeps CUDA's rules: streams, captures, devices, arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_devices
import fake_cupy
import numpy as np
import pytest
from emulator.emulator import EmulatedDriver
from emulator_kit import needs_compiler
from fake_cupy import World
from trained import model, rows, same, train

import aaecore
from aaecore import Trainer
from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.cupy_driver import DLPACK_CUDA, CupyDriver
from aaecore.backends.cuda.dependencies import on_longest_chain
from aaecore.backends.cuda.driver import Driver, Node

pytestmark = needs_compiler
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def world() -> Iterator[World]:
    """A machine with two GPUs."""
    with fake_cupy.installed(EmulatedDriver(cuda_devices.MODE, cuda_devices.SEED), devices=2) as made:
        yield made


@pytest.fixture
def x() -> np.ndarray:
    return rows()


def _emulated(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    monkeypatch.setattr(cuda, "make_driver", lambda device: driver)


def _device_array(world: World, host: np.ndarray) -> np.ndarray:
    memory = world.emulator.allocate(host.nbytes).view(host.dtype)
    world.emulator.upload(memory, np.ascontiguousarray(host).reshape(-1))
    return memory.reshape(host.shape)


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian"])
def test_training_gives_the_bits_of_the_emulator(
    posterior: str, world: World, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """17 steps an epoch: graphs of one step and of many, as `CupyDriver` captures them."""
    options = {"posterior": posterior, "batch_size": 8, "device": "cuda"}
    captured = train(x, 2, **options)
    assert isinstance(captured.backend.driver, CupyDriver)
    assert len(world.loaded) == len(set(world.loaded)) > 3, "a module is loaded once"
    _emulated(monkeypatch, world.emulator)
    assert same(captured, train(x, 2, **options))


@pytest.mark.parametrize("order", ["parallel", "urgent"])
def test_a_capture_has_the_order_that_is_needed_and_no_other(
    order: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(model(device="cuda"), 32, guard=False)
    trainer.backend.driver.order = order
    driver, asked, made = trainer.backend.driver, [], []
    graph, emulated = driver.graph, world.emulator.graph
    monkeypatch.setattr(driver, "graph", lambda nodes: asked.append(nodes) or graph(nodes))
    monkeypatch.setattr(world.emulator, "graph", lambda nodes: made.append(nodes) or emulated(nodes))
    trainer.step(rows()[:32])
    assert [node.launch for node in asked[0]] == [node.launch for node in made[0]]
    assert [EmulatedDriver._predecessors(nodes) for nodes in asked] == [
        EmulatedDriver._predecessors(nodes) for nodes in made
    ]


def test_the_longest_chain_may_go_before_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(model(device="cuda"), 32, guard=False)
    driver, asked = trainer.backend.driver, []
    driver.order = "urgent"
    graph = driver.graph
    monkeypatch.setattr(driver, "graph", lambda nodes: asked.append(nodes) or graph(nodes))
    trainer.step(rows()[:32])
    hurries = on_longest_chain([node.after for node in asked[0]])
    assert 20 < sum(hurries) < len(hurries)
    assert [priority < 0 for priority in world.priorities[0]] == hurries


def test_a_linear_capture_is_one_chain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[Node]] = []
    emulated = world.emulator.graph
    monkeypatch.setattr(world.emulator, "graph", lambda nodes: made.append(nodes) or emulated(nodes))
    trainer = Trainer(model(device="cuda"), 32, guard=False)
    trainer.backend.driver.order = "linear"
    trainer.step(rows()[:32])
    assert len(made[0]) > 40
    assert [node.after for node in made[0]] == [(), *((i,) for i in range(len(made[0]) - 1))]


def test_another_order_is_refused(world: World) -> None:
    driver = CupyDriver("cuda")
    driver.order = "fast"
    with pytest.raises(ValueError, match="order: expected one of parallel, urgent, linear, got 'fast'"):
        driver.graph([])


def test_the_part_of_shared_memory_is_asked_for_where_it_is_chosen(world: World, x: np.ndarray) -> None:
    first, second = model(device="cuda"), model(device="cuda")
    second.backend.driver.carveout = 100
    first.encode(x)
    assert world.carveouts == {}
    second.encode(x)
    assert set(world.carveouts.values()) == {100}


def test_work_goes_on_the_current_stream_and_nobody_waits(world: World, x: np.ndarray) -> None:
    mine = fake_cupy.Stream(non_blocking=True)
    with mine:
        trainer = Trainer(model(device="cuda"), 32, guard=False)
        on_device = fake_cupy.ndarray(_device_array(world, x[:32]))
        trainer.step(on_device)
        assert trainer.backend.__cuda_stream__() == (0, mine.ptr)
        waits = world.synchronized
        losses = trainer.step(on_device)
        codes = trainer.model.encode(on_device)
        assert isinstance(codes, fake_cupy.ndarray)
        assert world.synchronized == waits
        assert np.isfinite(losses.reconstruction)
        assert world.synchronized > waits, "a loss that is looked at has to be there"
    assert set(world.used) == {mine}
    assert trainer.backend.__cuda_stream__() == (0, 0)


def test_a_stream_waits_for_the_work_on_the_one_before(world: World, x: np.ndarray) -> None:
    """Weights are made on the default stream, and the losses are read on it: streams that do not wait by themselves."""
    default, mine = world.default[0], fake_cupy.Stream(non_blocking=True)
    trainer = Trainer(model(device="cuda"), 32, guard=False)
    with mine:
        losses = trainer.step(fake_cupy.ndarray(_device_array(world, x[:32])))
        trainer.step(fake_cupy.ndarray(_device_array(world, x[:32])))
    assert world.waits == [(mine, default)]
    assert np.isfinite(losses.reconstruction)
    assert world.waits == [(mine, default), (default, mine)]


def test_a_stream_that_is_gone_is_waited_for_all_the_same(world: World, x: np.ndarray) -> None:
    theirs = fake_cupy.Stream(non_blocking=True)
    with theirs:
        trainer = Trainer(model(device="cuda"), 32, guard=False)
    theirs.destroyed = True
    waits = world.synchronized
    trainer.step(fake_cupy.ndarray(_device_array(world, x[:32])))
    assert (world.synchronized, world.waits) == (waits + 1, [])
    trainer.step(fake_cupy.ndarray(_device_array(world, x[:32])))
    assert world.synchronized == waits + 1


@pytest.mark.skipif(not README.exists(), reason="the README is in the repository only: run this from a checkout")
def test_the_example_of_the_readme(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text().split("## On a GPU")[1]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    names: dict[str, Any] = {"aaecore": aaecore}
    exec(compile(code.replace("784", "20"), str(README), "exec"), names)
    assert names["codes"].shape == (100, 8)
    assert names["images"].shape == (64, 20)
    assert float(capsys.readouterr().out) > 0
    assert set(world.used) <= {names["stream"], world.default[0]}
    assert world.default[0] in world.used, "the model was made before"


def test_another_gpu_than_the_current_one(world: World, x: np.ndarray) -> None:
    trainer = train(x, 1, device="cuda:1")
    assert trainer.backend.driver.number == 1
    assert {stream.device for stream in world.used} == {1}
    assert world.device == 0
    assert trainer.model.sample(3, on_device=True).device.id == 1
    here = fake_cupy.ndarray(_device_array(world, x))
    with pytest.raises(ValueError, match="x: expected an array on GPU 1, got one on GPU 0"):
        trainer.model.encode(here)
    with fake_cupy.Device(1):
        assert CupyDriver("cuda").number == 1


def test_arrays_of_others(world: World, x: np.ndarray) -> None:
    class Exporter:
        """An array of another library that has DLPack only."""

        def __init__(self, device: int) -> None:
            self.memory, self.device = _device_array(world, x), device

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.device, 0

        def __dlpack__(self, **options: object) -> object:
            return self.memory.__dlpack__()

    m = model(device="cuda")
    z = m.encode(x)
    assert np.array_equal(m.encode(Exporter(DLPACK_CUDA)).get(), z)
    assert np.array_equal(m.encode(fake_cupy.ndarray(_device_array(world, x))).get(), z)
    with pytest.raises(TypeError, match="x: expected an array of real numbers, got Exporter"):
        m.encode(Exporter(1))  # memory of the host


def test_a_stream_that_does_not_join_is_an_error_of_cuda(world: World) -> None:
    """As a capture of CUDA has it, so that the driver is held to it; also of a stream without work."""
    first, other, event = fake_cupy.Stream(), fake_cupy.Stream(), fake_cupy.Event()
    for joins in (True, False):
        first.begin_capture()
        event.record(first)
        other.wait_event(event)
        if joins:
            event.record(other)
            first.wait_event(event)
            first.end_capture()
        else:
            with pytest.raises(fake_cupy.CUDARuntimeError, match="Unjoined"):
                first.end_capture()


def test_an_error_in_a_capture_is_raised_and_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(model(device="cuda"), 32, guard=False)
    x, call, count = rows()[:32], fake_cupy.Function.__call__, []

    def fail(self: fake_cupy.Function, *args: object, **options: object) -> None:
        count.append(1)
        if len(count) == 20:
            raise KeyboardInterrupt
        call(self, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy.Function, "__call__", fail)
        with pytest.raises(KeyboardInterrupt):
            trainer.step(x)
    assert not world.captures
    assert np.isfinite(trainer.step(x).reconstruction)
