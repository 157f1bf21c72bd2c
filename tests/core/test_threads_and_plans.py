"""Launches, recordings and replays of several threads, what a kernel could not do, and who is told."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from aaecore.backends.devices import get_backend
from aaecore.core.memory import Writes
from aaecore.kernels import cpu as compiled

DEVICES = ["cpu", "reference"]


@pytest.fixture(params=DEVICES)
def backend(request):
    return get_backend(request.param)


def in_thread(call):
    """What a call gives or raises in another thread."""
    came = []

    def run():
        try:
            came.append(call())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    return came[0]


# --- recording -------------------------------------------------------------------------------------------------------


def test_a_recording_belongs_to_its_thread(backend):
    """What another thread launches, reads and records meanwhile is its own."""
    x, y = backend.zeros((3,)), backend.zeros((3,))

    def fill(value):
        backend.launch("fill", (y,), (3,), (value,))

    def other():
        assert not backend.recording
        fill(7.0)
        plan = backend.capture(lambda: fill(9.0))
        return backend.to_host(y).tolist(), [call.scalars for call in plan.calls]

    def step():
        backend.launch("fill", (x,), (3,), (1.0,))
        assert in_thread(other) == ([7.0] * 3, [(9.0,)])
        assert backend.recording
        backend.launch("fill", (x,), (3,), (2.0,))

    plan = backend.capture(step)
    assert [call.scalars for call in plan.calls] == [(1.0,), (2.0,)]
    assert backend.to_host(x).tolist() == [0.0] * 3


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_plan_is_replayed_once_at_a_time():
    """From another thread, and again within itself."""
    backend = get_backend("reference")
    x, said = backend.zeros((3,)), []
    plan = backend.capture(lambda: backend.launch("fill", (x,), (3,), (1.0,)))
    run = backend._run

    def slow(*arguments):
        for call in (plan.replay, lambda: in_thread(plan.replay)):
            try:
                if (came := call()) is not None:
                    raise came
            except RuntimeError as error:
                said.append(str(error))
        return run(*arguments)

    backend._run = slow
    plan.replay()
    assert said == ["replay: expected a plan that nobody else uses, but replay (thread MainThread) uses it"] * 2
    backend._run = run
    plan.replay()


REPLAY = """
import signal, sys
from aaecore import get_backend
backend = get_backend("cpu")
x = backend.zeros((4,))
plan = backend.capture(lambda: backend.launch("fill", (x,), (4,), (1.0,)))
print("ready", flush=True)
try:
    plan.replay(times=2**40)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_long_replay_can_be_interrupted():
    with subprocess.Popen([sys.executable, "-c", REPLAY], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "interrupted\n"
    assert child.returncode == 0


# --- what kernels could not do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["gather_rows", "gather_rows_u8"])
@pytest.mark.parametrize(
    ("index", "cursor"),
    [([0, 5], 0), ([0, -1], 0), ([0, 2**62], 0), ([-(2**63), 0], 0), ([0, 1], 1), ([0, 1], -1), ([0, 1], 2**62)],
)
def test_a_gather_of_rows_that_are_not_there_is_an_index_error(op, index, cursor, backend):
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    source = backend.from_host(rows.astype(np.uint8), "uint8") if op.endswith("u8") else backend.from_host(rows)
    out = backend.zeros((2, 3))
    buffers = (source, backend.from_host(np.array(index), "int64"), backend.from_host(np.array([cursor]), "int64"), out)
    with pytest.raises(IndexError, match=r"expected indices of rows that are there"):
        backend.launch(op, buffers, (5, 3, 2, 2), (1.0,))
    plan = backend.capture(lambda: backend.launch(op, buffers, (5, 3, 2, 2), (1.0,)))
    with pytest.raises(IndexError, match=r"expected indices of rows that are there"):
        plan.replay()
    backend.upload(buffers[1], np.array([4, 1]))
    backend.upload(buffers[2], np.array([0]))
    plan.replay()  # nothing of the error is left
    assert backend.to_host(out).tolist() == rows[[4, 1]].tolist()


def test_kernels_without_an_instruction_set_cannot_be_made():
    with pytest.raises(TypeError):
        compiled.Kernels.__new__(compiled.Kernels)


@pytest.mark.parametrize("at", [-1, -4, 7])
def test_the_row_of_a_burst_is_one_of_its_table(at, backend):
    log, value = backend.zeros((3, 2)), backend.from_host(np.array([5.0]))
    backend.launch("log_value", (value, backend.from_host(np.array([at]), "int64"), log), (3, 2, 1))
    assert backend.to_host(log)[at % 3, 1] == 5.0


def test_the_thread_whose_kernel_failed_is_told():
    """A gather fails in one thread while another launches what works: each hears of its own."""
    backend = get_backend("cpu")
    source, out = backend.zeros((5, 3)), [backend.zeros((2, 3)) for _ in range(2)]
    cursor = backend.zeros((1,), "int64")
    index = [backend.from_host(np.array(rows), "int64") for rows in ([0, 99], [0, 1])]
    errors = [0, 0]

    def launch(which):
        for _ in range(3000):
            try:
                backend.launch("gather_rows", (source, index[which], cursor, out[which]), (5, 3, 2, 2), (1.0,))
            except IndexError:
                errors[which] += 1

    threads = [threading.Thread(target=launch, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [3000, 0]


def test_what_a_worker_reports_reaches_the_caller():
    """A gather so wide that its rows are shared between threads; the bad index is at the end."""
    code = """
import numpy as np
from aaecore import get_backend, set_num_threads
set_num_threads(4)
backend = get_backend("cpu")
rows = 4096
source, out = backend.zeros((rows, 256)), backend.zeros((rows, 256))
cursor = backend.zeros((1,), "int64")
index = np.arange(rows)
index[-1] = rows
bad, good = (backend.from_host(i, "int64") for i in (index, np.arange(rows)))
for _ in range(50):
    try:
        backend.launch("gather_rows", (source, bad, cursor, out), (rows, 256, rows, rows), (1.0,))
        print("not told")
    except IndexError:
        pass
    backend.launch("gather_rows", (source, good, cursor, out), (rows, 256, rows, rows), (1.0,))
print("done")
"""
    quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=quiet)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


# --- what is written -------------------------------------------------------------------------------------------------


def test_writes_are_counted(backend):
    """By launches, replays and the host, also through views; not what is read."""
    x, y = backend.zeros((4, 2)), backend.zeros((4, 2))
    x.writes = Writes()
    ways = [
        lambda: backend.upload(x, np.ones((4, 2))),
        lambda: backend.copy(x, y),
        lambda: backend.clear(x),
        lambda: backend.launch("fill", (x,), (8,), (1.0,)),
        lambda: backend.launch("fill", (x.rows(1, 2),), (2,), (1.0,)),
        lambda: backend.launch("copy", (y.flat(), x.flat()), (8, 1)),
        backend.capture(lambda: backend.launch("fill", (x,), (8,), (2.0,))).replay,
    ]
    for i, write in enumerate(ways):
        write()
        assert x.writes.count == i + 1
    backend.to_host(x)
    backend.launch("copy", (x, y), (8, 0))
    backend.capture(lambda: backend.launch("copy", (x, y), (8, 0))).replay()
    assert x.writes.count == len(ways)


def test_memory_that_is_read_only_is_no_output(backend):
    """A map of a file, say: a kernel that wrote there would end the process."""
    array = np.arange(6, dtype=backend.real).reshape(3, 2)
    array.flags.writeable = False
    buffer, out = backend.wrap(array), backend.zeros((3, 2))
    backend.launch("copy", (buffer, out), (6, 0))
    assert backend.to_host(out).tolist() == array.tolist()
    plan = backend.capture(lambda: backend.launch("fill", (buffer.rows(0, 1),), (2,), (7.0,)))
    ways = (
        lambda: backend.launch("fill", (buffer,), (6,), (7.0,)),
        plan.replay,
        lambda: backend.upload(buffer, np.zeros((3, 2))),
        lambda: backend.copy(buffer, out),
        lambda: backend.clear(buffer.flat()),
    )
    for write in ways:
        with pytest.raises(ValueError, match="expected memory that may be written, got a buffer over a read-only"):
            write()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_test_of_finite_numbers_sees_every_place(bad, backend):
    """Also the last of a buffer, those beyond a block, and weights, whose layout is the backend's."""
    kinds = [((1,), "real"), ((33, 5), "weight"), ((4097 + 13,), "real"), ((2,), "float64")]
    buffers = [backend.zeros(shape, kind) for shape, kind in kinds]
    finite = backend.finite_test(buffers)
    assert finite()
    for buffer in buffers:
        for at in {0, buffer.size // 2, buffer.size - 1}:
            values = np.full(buffer.size, 3e38 if buffer.kind != "float64" else 1e300)
            backend.upload(buffer, values.reshape(buffer.shape))
            assert finite()
            values[at] = bad
            backend.upload(buffer, values.reshape(buffer.shape))
            assert not finite()
        backend.clear(buffer)
    assert finite()
