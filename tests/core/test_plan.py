"""Launching and recording: what is checked, what a recorded step may not do, and that a replay repeats it exactly."""

import numpy as np
import pytest

from aaecore import AAE, CaptureError, DeviceError, Trainer
from aaecore.backends.cpu import CpuBackend
from aaecore.backends.devices import get_backend

DEVICES = ["cpu", "reference"]


@pytest.fixture(params=DEVICES)
def backend(request):
    return get_backend(request.param)


def test_record_runs_nothing_and_replay_repeats(backend):
    x = backend.from_host(np.ones(5))
    plan = backend.capture(lambda: backend.launch("scale", (x,), (5,), (2.0,)))
    assert backend.to_host(x).tolist() == [1.0] * 5
    plan.replay()
    plan.replay()
    assert backend.to_host(x).tolist() == [4.0] * 5
    plan.replay(times=3)
    assert backend.to_host(x).tolist() == [32.0] * 5
    for bad in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match="times: expected an integer >= 1, got"):
            plan.replay(times=bad)


def test_replay_with_inputs(backend):
    x, y = backend.empty((2, 3)), backend.zeros((2, 3))
    plan = backend.capture(lambda: backend.launch("copy", (x, y), (6, 0)), inputs=[x])
    data = np.arange(6.0).reshape(2, 3)
    plan.replay(data)
    assert np.array_equal(backend.to_host(y), data)
    with pytest.raises(CaptureError, match=r"captured with shape \(2, 3\), got \(3, 2\)"):
        plan.replay(data.T)
    with pytest.raises(CaptureError, match="captured with 1 inputs, got 2"):
        plan.replay(data, data)


def test_a_plan_keeps_its_buffers(backend):
    out = backend.zeros((4,))

    def step():
        inner = backend.empty((4,))  # nobody else holds it
        backend.launch("fill", (inner,), (4,), (7.0,))
        backend.launch("copy", (inner, out), (4, 0))

    plan = backend.capture(step)
    rubbish = [backend.from_host(np.full(4, -1.0)) for _ in range(50)]
    plan.replay()
    assert backend.to_host(out).tolist() == [7.0] * 4
    assert len(rubbish) == 50


@pytest.mark.parametrize("what", ["to_host", "upload", "from_host", "zeros"])
def test_host_access_while_recording(what, backend):
    x = backend.zeros((3,))
    actions = {
        "to_host": lambda: backend.to_host(x),
        "upload": lambda: backend.upload(x, np.ones(3)),
        "from_host": lambda: backend.from_host(np.ones(3)),
        "zeros": lambda: backend.zeros((3,)),
    }
    with pytest.raises(CaptureError, match=what):
        backend.capture(actions[what])
    assert not backend.recording
    actions[what]()  # and outside it works


def test_nested_capture_and_errors_leave_the_backend_usable(backend):
    with pytest.raises(CaptureError, match="already being recorded"):
        backend.capture(lambda: backend.capture(lambda: None))
    with pytest.raises(ZeroDivisionError):
        backend.capture(lambda: 1 / 0)
    assert not backend.recording


def test_host_random_numbers_while_recording():
    model = AAE(6, 2, (4,), prior=lambda n, rng: rng.standard_normal((n, 2)))
    with pytest.raises(CaptureError, match="callable draws on the host"):
        model.backend.capture(lambda: model.draws["z"](model.generator, 3))


def test_a_tensor_cannot_be_read_while_recording():
    model = AAE(6, 2, (4,))
    trainer = Trainer(model, 3)
    trainer.step(np.full((3, 6), 0.5))

    def read():
        return float(model.encoder.layers[0].bias.numpy()[0])

    with pytest.raises(CaptureError, match="to_host"):
        model.backend.capture(read)
    optimizer = trainer.optimizers["generator"]
    with pytest.raises(CaptureError, match="lr"):
        model.backend.capture(lambda: setattr(optimizer, "lr", 0.1))


def test_describe_is_a_table(backend):
    x, w = backend.zeros((2, 3)), backend.zeros((5, 3), "weight")
    b, y = backend.zeros((5,)), backend.zeros((2, 5))
    plan = backend.capture(lambda: backend.launch("linear_forward", (x, w, b, y), (2, 3, 5, 0), (0.0,)))
    lines = plan.describe().splitlines()
    assert lines[0].split() == ["op", "kB", "MFLOP", "arguments"]
    assert lines[1].startswith("linear_forward")
    assert "B=2 I=3 O=5" in lines[1]
    assert lines[-1].startswith("1 launches")
    assert plan.flops == 2 * 2 * 3 * 5


def test_launch_checks(backend):
    x, y = backend.zeros((4,)), backend.zeros((5,))
    launch = backend.launch
    with pytest.raises(ValueError, match="unknown op 'nope'"):
        launch("nope", ())
    with pytest.raises(ValueError, match="copy: expected 2 buffers, got 1"):
        launch("copy", (x,), (4, 0))
    with pytest.raises(ValueError, match="copy: expected 2 dims, got 1"):
        launch("copy", (x, x), (4,))
    with pytest.raises(ValueError, match="scale: expected 1 scalars, got 0"):
        launch("scale", (x,), (4,))
    with pytest.raises(ValueError, match=r"copy: dst: expected 4 elements, got 5 \(5,\)"):
        launch("copy", (x, y), (4, 0))
    with pytest.raises(ValueError, match="copy: dst: expected kind real, got int64"):
        launch("copy", (x, backend.zeros((4,), "int64")), (4, 0))
    with pytest.raises(ValueError, match="lives on another backend"):
        launch("copy", (x, get_backend(backend.name).zeros((4,))), (4, 0))
    wide = backend.zeros((2, 4))
    for dims in ((2, 3, 4, 0, 4, 2, 0), (2, 3, 4, 2, 4, 0, 0), (2, 3, 4, -1, 4, 0, 0)):
        with pytest.raises(ValueError, match="copy_columns: sizes that do not fit together"):
            launch("copy_columns", (wide, wide), dims)
    with pytest.raises(ValueError, match="adversarial_bce: sizes that do not fit"):
        launch("adversarial_bce", (x, x, backend.zeros((1,))), (4, 5), (1.0,))
    with pytest.raises(ValueError, match=r"adversarial_bce: expected integers as dims, got \(4, 0\.5\)"):
        launch("adversarial_bce", (x, x, backend.zeros((1,))), (4, 0.5), (1.0,))
    for beta in (7, -1):
        with pytest.raises(ValueError, match=f"copy: beta: expected an integer from 0 to 1, got {beta}"):
            launch("copy", (x, x), (4, beta))
    with pytest.raises(ValueError, match="activation_backward: act: expected an integer from 0 to 4, got 99"):
        launch("activation_backward", (x, x, x), (4, 99, 0), (0.0,))
    at, table = backend.zeros((1,), "int64"), backend.zeros((3, 0))
    for log, dims in ((wide, (2, 4, 4)), (table, (3, 0, 0)), (table, (0, 5, 1))):
        with pytest.raises(ValueError, match="log_value: sizes that do not fit"):
            launch("log_value", (backend.zeros((1,)), at, log), dims)
    with pytest.raises(ValueError, match="rows: expected 0 <= start <= stop <= 2, got 0 and 1000"):
        wide.rows(0, 1000)
    with pytest.raises(ValueError, match=r"upload: expected shape \(4,\), got \(5,\)"):
        backend.upload(x, np.zeros(5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 3), (17, 5), (33, 2), (64, 64), (65, 1)])
def test_weights_come_back_as_they_went_in(shape):
    backend = get_backend("cpu")
    w = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    buffer = backend.from_host(w, "weight")
    assert np.array_equal(backend.to_host(buffer), w)
    assert buffer.storage.sum() == w.sum()  # the padding is zero
    assert buffer.pointer % 64 == 0


def test_devices():
    with pytest.raises(ValueError, match=r"device: expected 'cpu', 'cuda', .* got 'tpu'"):
        get_backend("tpu")
    for isa in ("v9", ""):
        with pytest.raises(DeviceError, match=f"isa: expected one of .* on this CPU, got {isa!r}"):
            CpuBackend(isa)


def test_a_buffer_that_does_not_fit_is_a_memory_error():
    with pytest.raises(MemoryError, match="4398046511104 bytes"):
        get_backend("cpu").empty((1 << 40,))
