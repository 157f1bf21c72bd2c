"""Whole training steps on the CUDA backend: as on the CPU and the reference, and bit for bit the same in any way."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from trained import DEFAULT, D, both_forms, model, rows, same, state, train

import aaecore
from aaecore import AAE, Trainer, priors
from aaecore.backends.devices import get_backend
from aaecore.training import stepper

pytestmark = [cuda_devices.needs_device, pytest.mark.usefixtures("cuda_device")]
POSTERIORS = ("deterministic", "gaussian", "universal")
MIXTURE = priors.GaussianMixture.ring(5, radius=2.0, radial_std=0.5, tangential_std=0.2)
PRIORS = {
    "normal": (priors.Normal(2.0), 3),
    "uniform": (priors.Uniform(), 3),
    "mixture": (MIXTURE, 2),
    "swiss roll": (priors.SwissRoll(), 2),
    "hypersphere": (priors.Hypersphere(), 5),
    "categorical": (priors.Categorical([1, 2, 3, 2]), 4),
    "callable": (lambda n, rng: rng.random((n, 3)), 3),
}


@pytest.fixture
def x():
    return rows()


def _distance(a, b):
    """The largest distance of two trainers' states, relative to the size of each array."""
    pairs = zip(state(a), state(b), strict=True)
    return max(np.linalg.norm(u - v) / (np.linalg.norm(v) + 1e-6) for u, v in pairs)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
@both_forms
def test_steps_agree_with_the_cpu_and_the_reference(form, posterior, reconstruction, x):
    options = {"posterior": posterior, "reconstruction": reconstruction, "hidden": (33, 17), **form}
    trained = {name: train(x, 2, device=name, **options) for name in ("cuda", "cpu", "reference")}
    assert trained["cuda"].steps == 10
    assert _distance(trained["cuda"], trained["reference"]) < 2e-4
    assert _distance(trained["cuda"], trained["cpu"]) < 2e-4
    losses = [t.history[name] for t in trained.values() for name in t.names]
    np.testing.assert_allclose(losses[:3], losses[6:], rtol=1e-5)


def test_the_comparison_notices_a_wrong_learning_rate(x):
    right, wrong = (
        train(x, 2, device=d, trainer_options={"lr": lr}) for d, lr in (("reference", 1e-3), ("cuda", 1.01e-3))
    )
    assert _distance(wrong, right) > 1e-3


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_reduced_precision_agrees_with_its_reference(precision, x):
    ours, exact = (train(x, 2, device=d, precision=precision) for d in ("cuda", "reference"))
    assert _distance(ours, exact) < 0.02
    assert _distance(ours, train(x, 2, device="reference")) > 1e-5, "as if nothing had been rounded"


@pytest.mark.parametrize("name", PRIORS)
def test_prior_samples_are_those_of_the_cpu(name):
    prior, latent_dim = PRIORS[name]
    samples = [AAE(D, latent_dim, (8,), prior=prior, device=d, seed=3) for d in ("cuda", "cpu")]
    for _ in range(2):
        ours, theirs = (m.sample_prior(37) for m in samples)
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("posterior", POSTERIORS)
@both_forms
def test_replay_equals_eager_bit_for_bit(form, posterior, x):
    """Recorded steps, steps launched one by one, and clipped without effect."""
    options = {"device": "cuda", "posterior": posterior, **form}
    one = train(x, 2, **options)
    assert same(one, train(x, 2, **options))
    assert same(one, train(x, 2, **options, trainer_options={"record": False}))
    assert same(one, train(x, 2, **options, trainer_options={"clip_norm": 1e9}))


def test_sixteen_steps_in_one_graph_are_sixteen_steps(x, monkeypatch):
    sizes = []
    driver = cuda_devices.driver()
    graph = driver.graph
    monkeypatch.setattr(driver, "graph", lambda nodes: sizes.append(len(nodes)) or graph(nodes))
    monkeypatch.setattr(stepper, "BURST_SECONDS", 100.0)
    many = train(x[:68], 2, batch_size=4, device="cuda", **DEFAULT)
    assert sizes == [16 * sizes[1], sizes[1]], "17 steps an epoch: sixteen at once, and one"
    assert same(many, train(x[:68], 2, batch_size=4, device="cuda", trainer_options={"record": False}, **DEFAULT))


@both_forms
def test_bytes_are_gathered_on_the_device(form, x):
    bytes_ = (255 * x).astype(np.uint8)
    from_bytes, from_floats = (
        train(data, 2, device="cuda", **form) for data in (bytes_, bytes_.astype(np.float32) * np.float32(1 / 255))
    )
    assert same(from_bytes, from_floats)


def test_sgd_and_clipping_agree_with_the_reference(x):
    from functools import partial

    from aaecore.optim import SGD

    options = {"optimizers": {"reconstruction": partial(SGD, lr=0.01, momentum=0.9)}, "clip_norm": 0.5}
    ours, exact = (train(x, 2, device=d, trainer_options=options) for d in ("cuda", "reference"))
    assert _distance(ours, exact) < 2e-4


@both_forms
def test_resume_continues_bit_for_bit(form, x, tmp_path):
    whole = train(x, 4, device="cuda", **form)
    part = train(x, 2, device="cuda", **form)
    part.save(tmp_path / "half.h5")
    resumed = Trainer.resume(tmp_path / "half.h5")
    assert resumed.model.backend.name == "cuda"
    resumed.fit(x, 4, progress=False)
    assert same(whole, resumed)
    elsewhere = Trainer.resume(tmp_path / "half.h5", device="cpu")
    elsewhere.fit(x, 4, progress=False)
    assert _distance(elsewhere, whole) < 2e-4
    assert aaecore.load(tmp_path / "half.h5", device="reference").backend.name == "reference"


def test_the_guard_goes_back_to_the_last_good_step(x):
    trainer = train(x, 1, device="cuda")
    good = state(trainer)
    trainer.base_lr["generator"] = 1e30
    with pytest.raises(FloatingPointError, match="weights are those after step"):
        trainer.fit(x, 3, progress=False)
    assert all(np.isfinite(a).all() for a in state(trainer))
    assert all(np.isfinite(a).all() for a in good)


def test_encode_decode_and_sample_agree_with_the_cpu(x):
    ours, theirs = (model(device=d, posterior="gaussian") for d in ("cuda", "cpu"))
    z = theirs.encode(x)
    np.testing.assert_allclose(ours.encode(x), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.decode(z), theirs.decode(z), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.encode(x, sample=True), theirs.encode(x, sample=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.sample(9), theirs.sample(9), rtol=1e-4, atol=1e-5)
    assert ours.evaluate(x) == pytest.approx(theirs.evaluate(x), rel=1e-5)


# --- arrays of the device ---------------------------------------------------------------------------------------------


def test_device_arrays_in_device_arrays_out(x):
    m = model(device="cuda")
    for given in (x, (255 * x).astype(np.uint8)):
        on_device = cuda_devices.DeviceArray(given)
        z = m.encode(on_device)
        assert not isinstance(z, aaecore.core.backend.Buffer)
        assert np.array_equal(cuda_devices.to_host(z), m.encode(given))
        assert np.array_equal(cuda_devices.to_host(m.reconstruct(on_device)), m.reconstruct(given))
        assert m.evaluate(on_device) == m.evaluate(given)
    a, b = model(device="cuda"), model(device="cuda")
    assert np.array_equal(cuda_devices.to_host(a.sample(5, on_device=True)), b.sample(5))


@pytest.mark.parametrize("guard", [True, False])
@both_forms
def test_steps_on_device_arrays_are_the_same_steps(form, guard, x):
    ours, theirs = (Trainer(model(device="cuda", **form), 32, guard=guard) for _ in range(2))
    z = np.random.default_rng(1).standard_normal((32, 3), np.float32)
    for part in (x[:32], x[32:64]):
        first = ours.step(cuda_devices.DeviceArray(part), z_prior=cuda_devices.DeviceArray(z))
        second = theirs.step(part, z_prior=z)
        assert dict(first) == dict(second)
    assert same(ours, theirs)
    assert ours.steps == theirs.steps == 2


@both_forms
def test_losses_are_fetched_when_they_are_wanted(form, x, monkeypatch):
    trainer = Trainer(model(device="cuda", **form), 32, guard=False)
    data = cuda_devices.DeviceArray(x[:32])
    trainer.step(data)
    fetched = []
    monkeypatch.setattr(
        trainer.backend, "to_host", lambda b: fetched.append(1) or type(trainer.backend).to_host(trainer.backend, b)
    )
    first, second = trainer.step(data), trainer.step(data)
    assert not fetched, "a step waited for the device"
    assert second.reconstruction < first.reconstruction
    assert len(fetched) == 2
    assert first.discriminator > 0
    assert len(fetched) == 2


@both_forms
def test_data_on_the_device_are_trained_on_where_they_are(form, x):
    on_device = train(cuda_devices.DeviceArray(x), 2, device="cuda", **form)
    assert same(on_device, train(x, 2, device="cuda", **form))


def test_bad_device_arrays(x):
    m = model(device="cuda")
    with pytest.raises(ValueError, match=r"x: expected shape \(rows, 20\), at least one row, got \(130, 19\)"):
        m.encode(cuda_devices.DeviceArray(x[:, :19]))
    with pytest.raises(TypeError, match="x: expected a device array of float32 or uint8, got float64"):
        m.encode(cuda_devices.DeviceArray(x.astype(np.float64)))
    with pytest.raises(TypeError, match=r"x: expected a device array of .*, got int16"):
        m.encode(cuda_devices.DeviceArray(x.astype(np.int16)))
    shifted = cuda_devices.DeviceArray(x)
    address, read_only = shifted.__cuda_array_interface__["data"]
    shifted.__cuda_array_interface__ |= {"data": (address + 2, read_only), "shape": (129, D)}
    with pytest.raises(ValueError, match="x: expected a device array aligned to its 4 bytes"):
        m.encode(shifted)
    codes = np.ones((4, 3), np.uint8)
    assert np.array_equal(m.decode(codes), m.decode(codes.astype(np.float32)))
    with pytest.raises(TypeError, match="z: expected a device array of float32, got uint8"):
        m.decode(cuda_devices.DeviceArray(codes))
    with pytest.raises(ValueError, match=r"x: .*C-contiguous"):
        m.encode(cuda_devices.DeviceArray(x, strides=(4, 4 * 130)))


def test_a_backend_is_a_stream_for_others():
    assert get_backend("cuda").__cuda_stream__() == (0, cuda_devices.driver().stream())
