"""The emulator of the CUDA kernels itself: graphs, memory, builds."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator_kit import KERNELS, SEEDS, SOURCE, device, driver, f4, launch, needs_compiler, node

from aaecore.backends.cuda.driver import Launch, Node
from emulator import build as builder
from emulator.emulator import BuildError, EmulatedDriver, EmulatorError, asan_environment, build

pytestmark = needs_compiler


# --- graphs ----------------------------------------------------------------------------------------------------------


def chain(d, y, after):
    """(y + 1) * 2, the second node after `after`."""
    return [Node(node(d, "plus_one", y), ()), Node(node(d, "twice", y), after)]


def replays(mode, seed, after, times=8):
    d = driver(mode, seed)
    y = device(d, np.zeros(32, f4))
    replay = d.graph(chain(d, y, after))
    results = []
    for _ in range(times):
        d.upload(y, np.full(32, f4(3)))
        replay()
        results.append(d.download(y)[0])
    assert d.launches == 2 * times
    return results


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("seed", SEEDS)
def test_graphs_keep_their_order(mode, seed):
    assert set(replays(mode, seed, (0,))) == {8}


def test_graphs_show_a_missing_dependency_by_their_result():
    assert set(replays("fast", 0, ())) == {8}
    assert set(replays("fast", 1, ())) == {7, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checked_build_reports_a_missing_dependency(seed):
    with pytest.raises(EmulatorError, match=r"unordered write; .* by node [01] of the graph, which it does not come"):
        replays("check", seed, (), 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_may_order_nodes_through_others(seed):
    d = driver(seed=seed)
    x, y = device(d, np.full(32, f4(3))), device(d, np.zeros(32, f4))
    replay = d.graph(
        [
            Node(node(d, "plus_one", x), ()),
            Node(node(d, "twice", y), ()),  # of another buffer: free to run at any time
            Node(node(d, "scale", x, y, 1.0), (0, 1)),
            Node(node(d, "twice", x), (2,)),
        ]
    )
    replay()
    replay()
    assert d.download(x)[0] == 18
    assert d.download(y)[0] == 9


@pytest.mark.parametrize("after", [(1,), (2,), (-1,)])
def test_a_node_comes_after_earlier_ones_alone(after):
    d = driver("fast")
    with pytest.raises(ValueError, match="node 1 of a graph comes after node"):
        d.graph(chain(d, device(d, np.zeros(32, f4)), after))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_lives_as_long_as_its_views():
    d = driver("fast")
    gc.collect()
    before = d.allocated
    array = d.allocate(1000)
    assert d.pointer(array) % 256 == 0
    assert (array == 0xFF).all()
    view = array.view(np.uint8)[100:200]
    del array
    assert d.allocated == before + 1000
    view[:] = 1
    del view
    assert d.allocated == before
    assert d.allocate(0).size == 0


def test_copies_between_host_and_device():
    d = driver("fast")
    x = np.arange(6, dtype=f4).reshape(2, 3)
    a, b = device(d, x), d.allocate(24).view(f4)
    d.copy(b, a)
    out = d.download(b)
    d.zero(b)
    assert np.array_equal(out.reshape(2, 3), x)
    assert not d.download(b).any()
    with pytest.raises(ValueError, match=re.escape("upload of float32 (5,) into float32 (6,)")):
        d.upload(a, np.zeros(5, f4))
    with pytest.raises(ValueError, match="upload of float64"):
        d.upload(a, np.zeros(6))
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.upload(a, np.zeros((2, 3), f4).T)
    with pytest.raises(ValueError, match="copy of float32"):
        d.copy(a, b[:3])


def test_host_arrays_are_no_device_arrays():
    d = driver("fast")
    host = np.zeros(6, f4)
    for use in (d.pointer, d.zero, d.download, d.adopt):
        with pytest.raises(ValueError, match="not a device array"):
            use(host)


class Foreign:
    """An object of another library, over device memory."""

    def __init__(self, array, **changes):
        self.array = array
        interface = {"data": (array.ctypes.data, False), "shape": array.shape, "typestr": array.dtype.str, "version": 3}
        self.__cuda_array_interface__ = interface | {"strides": None} | changes


@pytest.mark.parametrize("strides", [None, (12, 4)])
def test_adopted_arrays_share_their_memory(strides):
    d = driver("fast")
    before = d.allocated
    adopted = d.adopt(Foreign(device(d, np.arange(6, dtype=f4)).reshape(2, 3), strides=strides))
    assert np.array_equal(adopted, [[0, 1, 2], [3, 4, 5]])
    launch(d, "fused", adopted, device(d, np.zeros(32, f4)))
    assert d.allocated == before + 24
    del adopted
    assert d.allocated == before


def test_adopted_arrays_by_dlpack():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4))
    adopted = d.adopt(array)
    assert d.pointer(adopted) == d.pointer(array)


def test_the_driver_knows_its_arrays():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4))
    assert d.owns(array[2:])
    assert d.owns(Foreign(array))
    assert not d.owns(np.zeros(6, f4))
    assert not d.owns([1, 2])


def test_what_cannot_be_adopted():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4)).reshape(2, 3)
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.adopt(Foreign(array, strides=(4, 8)))
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.adopt(array.T)
    with pytest.raises(ValueError, match="not a device array"):
        d.adopt(Foreign(array, shape=(1 << 20,)))
    with pytest.raises(ValueError, match="not a device array"):
        d.adopt(Foreign(np.zeros(4, f4)))


# --- builds ----------------------------------------------------------------------------------------------------------


def test_parameters_are_pointers_int_and_double():
    text = '#include "device.cuh"\nKERNEL(wrong, 32, float* y, float v) { y[0] = v; }\n'
    with pytest.raises(BuildError, match="parameters are pointers, int and double"):
        build("fast", {SOURCE: text}, replace_all=True)


def test_files_keep_their_names_apart():
    """Were they one namespace, the linker would take the `value` of one file for that of the other."""
    text = """
        #include "device.cuh"
        inline __attribute__((noinline)) float value() { return @; }
        KERNEL(k@, 1, float* y) { y[0] = value(); }
    """
    d = EmulatedDriver("fast", sources={f"k{n}.cu": text.replace("@", str(n)) for n in (1, 2)}, replace_all=True)
    for n in (1, 2):
        y = d.allocate(4).view(f4)
        d.launch(Launch(f"k{n}.cu", f"k{n}", (1, 1), 1, 0, (d.pointer(y),)))
        assert d.download(y) == n


def test_what_has_not_changed_is_not_compiled_again(monkeypatch):
    library = build("check", {SOURCE: KERNELS}, replace_all=True)
    monkeypatch.setattr(builder, "call", None)
    assert build("check", {SOURCE: KERNELS}, replace_all=True) == library


def test_a_header_is_part_of_the_files_that_include_it():
    texts = {"a.cu": '#include "a.cuh"', "a.cuh": '#include "deep.cuh"', "deep.cuh": "", "b.cu": ""}
    changed = texts | {"deep.cuh": "int x;"}
    assert builder.key(texts, "a.cu", []) != builder.key(changed, "a.cu", [])
    assert builder.key(texts, "b.cu", []) == builder.key(changed, "b.cu", [])
    assert builder.key(texts, "b.cu", []) != builder.key(texts, "b.cu", ["-O3"])


ASAN = """
import numpy as np
from emulator.emulator import EmulatedDriver
from aaecore.backends.cuda.driver import Launch

text = '''
#include "device.cuh"
KERNEL(local_array, 32, const float* x, float* y, int n) {
  STATIC_SHARED(float, s, 32);
  float own[8];
  for (int i = 0; i < n; i++) own[i] = x[i];
  s[threadIdx.x] = own[threadIdx.x % 8];
  __syncthreads();
  y[threadIdx.x] = s[31 - threadIdx.x];
}
'''
d = EmulatedDriver("asan", sources={"inline.cu": text}, replace_all=True)
x, y = d.allocate(48).view("f4"), d.allocate(128).view("f4")
x[:] = 1
for n in (8, SIZE):
    d.launch(Launch("inline.cu", "local_array", (2, 1), 32, 0, (d.pointer(x), d.pointer(y), np.int32(n))))
    print(n, d.download(y).sum())
"""


@pytest.mark.parametrize(("size", "report"), [(8, ""), (9, "runtime error: index 8 out of bounds")])
def test_sanitizers(size, report):
    """AddressSanitizer and UndefinedBehaviorSanitizer see what the checker does not: arrays of a thread."""
    needed = asan_environment()
    if not all(Path(p).is_absolute() for p in needed["LD_PRELOAD"].split()):
        pytest.skip("g++ has no libasan or no libubsan: install them (Debian, Ubuntu: they come with libgcc-dev)")
    here = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    environment = os.environ | needed | {"PYTHONPATH": here}
    code = ASAN.replace("SIZE", str(size))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("8 32.0\n")
    assert (done.returncode != 0) == bool(report)
    assert report in done.stderr
