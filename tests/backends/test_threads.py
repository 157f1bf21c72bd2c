"""The thread pool under whole steps: the same bits with any number of threads, in several threads, after a fork.

A data race that spoils one tile in fifty runs shows in no loss curve and in no comparison with a tolerance.
"""

import os
import signal
import threading
from itertools import cycle

import numpy as np
import pytest
from trained import state

from aaecore import AAE, Trainer, set_num_threads
from aaecore.backends.cpu import get_num_threads
from aaecore.functions import backward
from aaecore.kernels import cpu as compiled
from aaecore.models.batch import Batch
from aaecore.optim import Adam

# (inputs, hidden, latent, batch). a to f are sizes of the benchmarks; wide is beyond every boundary at which the
# kernels share their work differently: more than two blocks of 112 rows, layers of many panels and of few.
SIZES = {
    "a": (784, (1000, 1000), 8, 100),
    "b": (784, (1000, 1000), 8, 512),
    "c": (784, (1000, 1000), 8, 2048),
    "d": (64, (128, 128), 4, 64),
    "e": (30, (32, 32), 2, 32),
    "f": (784, (256, 256), 8, 128),
    "wide": (70, (270, 100), 8, 230),
}


@pytest.fixture(autouse=True)
def threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


def train(size, steps, threads=None, **options):
    """(losses, weights, moments and optimizer states) after `steps` steps, on rows that are always the same."""
    if threads:
        set_num_threads(threads)
    inputs, hidden, latent, batch = SIZES[size]
    x = np.random.default_rng(0).random((3, batch, inputs), np.float32)
    trainer = Trainer(AAE(inputs, latent, hidden, seed=1), batch, **options)
    losses = [list(dict(trainer.step(x[i % 3])).values()) for i in range(steps)]
    return [np.array(losses), *state(trainer)]


def same(a, b):
    return all(np.array_equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}], ids=["fused", "clipped"])
@pytest.mark.parametrize("size", ["d", "e", "f", "wide"])
def test_threads_do_not_change_a_bit_of_fifty_steps(size, options):
    """What one step gets wrong stays in the weights and moments, so the last state shows all fifty."""
    alone = train(size, 50, 1, **options)
    for n in (2, 3, 5):
        assert same(alone, train(size, 50, n, **options)), f"{n} threads"


def recorded(size, precision):
    """(a step's plan, the storages of all that it changes)."""
    inputs, hidden, latent, batch = SIZES[size]
    model = AAE(inputs, latent, hidden, precision=precision, seed=1)
    x = model.backend.from_host(np.random.default_rng(0).random((batch, inputs), np.float32))
    optimizers = {phase.name: Adam(model.moved(phase)) for phase in model.phases if phase.moves}
    dials = {name: model.backend.from_host(np.ones(1)) for name in model.ratios()}

    def step():
        for phase, *losses in model.step(Batch({"x": x}, model.draws, dials, model.generator)):
            if phase in optimizers:
                optimizers[phase].advance()
                backward(losses, optimizers[phase])
        model.generator.advance()

    plan = model.backend.capture(step)
    moments = [b for o in optimizers.values() for table in o.moments.values() for b in table.values()]
    weights = [p.buffer for p in model.parameters.values()]
    buffers = [*weights, *moments, *(o.state for o in optimizers.values()), model.generator.state]
    return plan, [b.storage for b in buffers]


@pytest.mark.parametrize(("size", "precision"), [*((s, "fp32") for s in "abcdef"), *((s, "bf16") for s in "adef")])
def test_every_repetition_gives_the_bits_of_one_thread(size, precision):
    plan, storages = recorded(size, precision)
    set_num_threads(1)
    plan.replay()  # moments that are not zero
    begin = [s.copy() for s in storages]
    plan.replay()
    expected = [s.copy() for s in storages]
    assert not all(np.array_equal(a, b) for a, b in zip(begin, expected, strict=True))
    for repetition, n in zip(range(50), cycle((2, 3, 5))):
        for storage, value in zip(storages, begin, strict=True):
            np.copyto(storage, value)
        set_num_threads(n)
        plan.replay()
        same = [np.array_equal(s, e) for s, e in zip(storages, expected, strict=True)]
        assert all(same), f"repetition {repetition} with {n} threads: {same.count(False)} buffers differ"


def test_the_delay_between_threads():
    set_num_threads(1)
    assert compiled.round_trip_ns() == 0
    for n in (2, 3):
        set_num_threads(n)
        assert 0 <= compiled.round_trip_ns() < 1000  # 0: none was running


def test_two_models_in_two_threads():
    """One of them gets the pool, the other works alone, in any order."""
    alone = [train(size, 40, 3) for size in ("d", "wide")]
    results = {}
    workers = [
        threading.Thread(target=lambda size=size: results.update({size: train(size, 40)})) for size in ("d", "wide")
    ]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert same(alone[0], results["d"])
    assert same(alone[1], results["wide"])


def _in_child(expected):
    """The exit status of a child that trains: 0, 1 for other bits, 2 if it did not start two workers of its own."""
    signal.alarm(30)  # a child that hangs is a failure, not a test that never ends
    tasks = "/proc/self/task"
    before = len(os.listdir(tasks)) if os.path.isdir(tasks) else 0
    if not same(expected, train("d", 5)):
        return 1
    return 2 if before and len(os.listdir(tasks)) != before + 2 else 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_has_the_pool():
    expected = train("d", 5, 3)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            train("wide", 5)

    other = threading.Thread(target=keep_busy)
    other.start()
    try:
        for _ in range(8):
            child = os.fork()
            if child == 0:
                status = 3
                try:
                    status = _in_child(expected)
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        other.join()
    assert same(expected, train("d", 5))
