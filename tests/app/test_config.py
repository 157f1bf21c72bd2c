"""The configuration of a run: TOML there and back, flags, and what its strings stand for."""

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from aaecore import AAE, priors, schedules
from aaecore.app import config, runs, sources, spelling
from aaecore.app.config import from_values
from aaecore.errors import DataError
from aaecore.files.arrays import load_array

RunConfig = config.of(AAE)
KEYS = config.keys(RunConfig)
RATES = {phase.name: phase.rate for phase in AAE.phases}
UNUSUAL = RunConfig(
    data='a "quoted" \\ path\n\x7fé\U0001f600.npy', image_shape=(4, 5), hidden=(16,), prior="uniform:-1:1", epochs=3,
    lr={"reconstruction": 1e-5, "discriminator": 2.0, "generator": 0.0}, threads=2, plots=False, seed=2**63 - 1,
    labels="dogs \"and\" cats", labelled_rows=9, optimizer="sgd", momentum={"generator": 0.25},
)  # fmt: skip


@pytest.mark.parametrize("given", [RunConfig(), UNUSUAL], ids=["defaults", "unusual"])
def test_toml_round_trip(tmp_path, given):
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(given), encoding="utf-8")
    assert config.read(path) == given


def test_every_key_is_written_unless_it_is_none():
    values = config.to_toml(replace(RunConfig(), threads=None, image_shape=None))
    absent = [name for name in KEYS if f"\n{name} = " not in f"\n{values}" and f"[{name}]" not in values]
    unset = [
        "data_folder",
        "image_shape",
        "labels",
        "labelled_rows",
        "validation_rows",
        "output",
        "discriminator_hidden",
        "noise_dim",
        "momentum",
        "clip_norm",
        "patience",
        "threads",
    ]
    assert absent == unset


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent": 8}, "unknown option 'latent'; expected one of data, dataset, .*latent_dim"),
        ({"epochs": "20"}, "epochs: expected an integer >= 1, got '20'"),
        ({"epochs": True}, "epochs: expected an integer >= 1, got True"),
        ({"epochs": 2.0}, "epochs: expected an integer >= 1, got 2.0"),
        ({"batch_size": 0}, "batch_size: expected an integer >= 1, got 0"),
        ({"seed": -1}, "seed: expected an integer from 0 to 2.63 - 1, got -1"),
        ({"hidden": 1000}, "hidden: expected a list of integers >= 1, got 1000"),
        ({"hidden": [10, "x"]}, "hidden: expected a list of integers >= 1"),
        ({"plots": 1}, "plots: expected true or false, got 1"),
        ({"prior": 5}, "prior: expected a string, got 5"),
        ({"posterior": "laplace"}, "posterior: expected one of deterministic, gaussian, universal, got 'laplace'"),
        ({"model": "CNN"}, "model: expected one of AAE, .*, got 'CNN'"),
        ({"model": 3}, "model: expected a string, got 3"),
        ({"lr": "fast"}, "lr: expected a number >= 0, or such numbers by phase .*, got 'fast'"),
        ({"lr": -1e-3}, "lr: expected a number >= 0, or such numbers by phase .*, got -0.001"),
        ({"lr": {"generator": -1.0}}, "lr: expected a number >= 0, or such numbers by phase"),
        (
            {"lr": {"encoder": 1e-3}},
            "lr: expected a number >= 0, or such numbers by phase .reconstruction, discriminator, generator",
        ),
        ({"threads": 257}, "threads: expected an integer from 1 to 256, got 257"),
        ({"adversarial_beta1": 1}, r"adversarial_beta1: expected a number in \[0, 1\), got 1"),
        ({"lr": {"generator": "x"}}, "lr: expected a number >= 0, or such numbers by phase"),
    ],
)
def test_a_bad_value_is_one_error_that_names_it(values, message):
    with pytest.raises(ValueError, match=f"^run.toml: {message}") as caught:
        from_values(values, "run.toml")
    assert "\n" not in str(caught.value)


def test_phases_without_a_rate_keep_their_default():
    assert from_values({"lr": {"generator": 1}}).lr == {**RATES, "generator": 1.0}
    assert from_values({"lr": 0.5}).lr == dict.fromkeys(RATES, 0.5)


def test_flags_replace_the_rates_of_their_phases_only():
    merged = config.merge({"lr": 0.5, "epochs": 3}, {"lr": {"generator": 1e-4}, "epochs": 4}, AAE.phases)
    assert merged == {"lr": {"reconstruction": 0.5, "discriminator": 0.5, "generator": 1e-4}, "epochs": 4}
    assert config.merge({"lr": {"generator": 1}}, {"lr": {"discriminator": 2}}, AAE.phases)["lr"] == {
        "generator": 1,
        "discriminator": 2,
    }
    with pytest.raises(ValueError, match="lr: expected a number >= 0, or"):
        from_values(config.merge({"lr": "fast"}, {"lr": {"generator": 1}}, AAE.phases))


def test_a_number_as_a_flag_scales_the_rates_of_a_file():
    phases, first = AAE.phases, RATES["reconstruction"]
    whole = {"lr": {"reconstruction": 2.0, "discriminator": 1.0, "generator": 0.0}}
    assert config.merge(whole, {"lr": 4.0}, phases) == {
        "lr": {"reconstruction": 4.0, "discriminator": 2.0, "generator": 0.0}
    }
    part = config.merge({"lr": {"generator": first / 4}}, {"lr": first * 2}, phases)["lr"]
    assert part == pytest.approx({"reconstruction": first * 2, "discriminator": first * 2, "generator": first / 2})
    assert config.merge({"lr": 0.5}, {"lr": 2.0}, phases) == {"lr": 2.0}  # the same rate: the later one counts
    with pytest.raises(ValueError, match="lr: expected a number >= 0, or"):
        from_values(config.merge({"lr": {"generator": -1.0}}, {"lr": 2.0}, phases))


@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_byte_order_mark_is_no_value(tmp_path, line):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbflatent_dim = 4" + line + b"epochs = 2" + line)
    assert (config.read(path).latent_dim, config.read(path).epochs) == (4, 2)


@pytest.mark.parametrize("content", [b"epochs = ", b"epochs = 1\nepochs = 2", b"data = '\xff'"])
def test_a_file_that_is_not_toml(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.toml: not a TOML file: "):
        config.read(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "20", 20),
        ("hidden", "1000,500", [1000, 500]),
        ("hidden", "[7]", [7]),
        ("hidden", "7", [7]),
        ("lr", "1e-3", 1e-3),
        ("lr", "generator=1e-4,discriminator=2", {"generator": 1e-4, "discriminator": 2}),
        ("prior", "normal:5", "normal:5"),
        ("data", "7", "7"),
    ],
)
def test_flags_stand_for_toml_values(name, text, value):
    assert config.flag_value(KEYS[name], text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("epochs", "2.5"), ("epochs", ""), ("hidden", "a,b"), ("epochs", "1\nseed = 3"), ("lr", "encoder=1")],
)
def test_flags_that_stand_for_nothing(name, text):
    with pytest.raises(ValueError, match=r"^expected .*, got "):
        config.flag_value(KEYS[name], text)


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("normal", priors.Normal()),
        ("normal:5", priors.Normal(5.0)),
        ("normal:5:-1", priors.Normal(5.0, -1.0)),
        ("uniform:-2:3", priors.Uniform(-2.0, 3.0)),
        ("ring", priors.GaussianMixture.ring()),
        ("ring:4", priors.GaussianMixture.ring(4)),
        ("swissroll", priors.SwissRoll()),
        ("hypersphere:2", priors.Hypersphere(2.0)),
        ("categorical", priors.Categorical()),
        ("categorical:1:2", priors.Categorical([1, 2])),
    ],
)
def test_priors(text, prior):
    assert spelling.make_prior(text) == prior


@pytest.mark.parametrize(
    "text",
    [
        "gauss",
        "normal:x",
        "normal:-1",
        "normal:nan",
        "swissroll:1",
        "ring:2.5",
        "ring:inf",
        "uniform:1:-1",
        "normal:",
        "categorical:-1",
    ],
)
def test_priors_that_do_not_exist(text):
    with pytest.raises(ValueError, match=r"^two_dimensional_prior: "):
        spelling.make_prior(text, "two_dimensional_prior")


def test_schedules():
    assert spelling.make_schedule("constant", 4, 10) == schedules.Constant()
    assert spelling.make_schedule("cosine", 4, 10) == schedules.Cosine(40, spelling.FLOOR)
    assert spelling.make_schedule("cosine:0.5", 4, 10) == schedules.Cosine(40, 0.5)
    assert spelling.make_schedule("step:2:3", 4, 10) == schedules.StepWise((20, 30))


@pytest.mark.parametrize(
    "text", ["linear", "step", "cosine:1:2", "constant:1", "step:1.5", "cosine:x", "step:0", "cosine:-1"]
)
def test_schedules_that_do_not_exist(text):
    with pytest.raises(ValueError, match=r"^schedule: .*expected"):
        spelling.make_schedule(text, 4, 10)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_a_tenth_of_a_file_is_kept_for_testing(tmp_path, suffix):
    rows = np.arange(40 * 6, dtype=np.float32).reshape(40, 2, 3)
    path = str(tmp_path / f"rows{suffix}")
    if suffix == ".npy":
        np.save(path, rows)
    else:
        with h5py.File(path, "w") as file:
            file["x"] = rows
    source = sources.load(RunConfig(data=path, image_shape=(2, 3)))
    assert (source.train.shape, source.test.shape, source.image_shape) == ((36, 6), (4, 6), (2, 3))
    together = np.concatenate([source.train, source.test])
    np.testing.assert_array_equal(together[np.argsort(together[:, 0])], rows.reshape(40, 6))
    again = sources.load(RunConfig(data=path, seed=1))
    assert not np.array_equal(again.test, source.test)
    assert again.image_shape == ((2, 3) if suffix == ".npy" else None)  # the HDF5 reader gives rows


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "x.npz", np.zeros((5, 6)))
    os.rename(tmp_path / "x.npz", tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"x\.npy: not a readable NumPy file"):
        load_array(str(tmp_path / "x.npy"), "x")


def test_named_data_without_files_speaks_of_what_a_configuration_can_do(monkeypatch):
    monkeypatch.delenv("AAECORE_DATA", raising=False)
    with pytest.raises(
        DataError, match=r": give --data-folder or set the environment variable AAECORE_DATA$"
    ) as caught:
        sources.load(RunConfig(data="mnist"))
    assert "folder=" not in str(caught.value)


def test_absolute_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.with_absolute_data(RunConfig(data="x.npy")).data == str(tmp_path / "x.npy")
    assert config.with_absolute_data(RunConfig(data="mnist")).data == "mnist"


def test_data_that_cannot_be_used(tmp_path):
    with pytest.raises(ValueError, match=r"^data: expected one of mnist-sample.*, got 'cifar'"):
        sources.load(RunConfig(data="cifar"))
    with pytest.raises(DataError, match="no such file"):
        sources.load(RunConfig(data=str(tmp_path / "none.npy")))
    path = str(tmp_path / "x.npy")
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"x\.npy: expected real numbers, got dtype object"):
        sources.load(RunConfig(data=path))
    np.save(path, np.zeros((5, 6)))
    with pytest.raises(ValueError, match=r"^image_shape: expected .* of 6 values, got \(2, 2\)"):
        sources.load(RunConfig(data=path, image_shape=(2, 2)))
    np.save(path, np.zeros((1, 6)))
    with pytest.raises(ValueError, match=r"^data: expected at least 2 rows, got 1"):
        sources.load(RunConfig(data=path))


def test_new_folders_are_shared_with_nobody(tmp_path):
    name = str(tmp_path / "runs" / "now")
    assert [runs.new_folder(name) for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]
    assert sorted(os.listdir(tmp_path / "runs")) == ["now", "now-2", "now-3"]


def test_a_number_is_the_first_rate_and_scales_the_others():
    class Uneven(AAE):
        phases = tuple(replace(p, rate=rate) for p, rate in zip(AAE.phases, (1e-3, 2e-4, 5e-4), strict=True))

    kind = config.keys(config.of(Uneven))["lr"].metadata["kind"]
    expected = {"reconstruction": 2e-3, "discriminator": 4e-4, "generator": 1e-3}
    assert kind.check("lr", 2e-3) == pytest.approx(expected)
    assert kind.check("lr", {"generator": 3e-4}) == {"generator": 3e-4}
