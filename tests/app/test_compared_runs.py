"""GAN, GMMN, WAE and denoising autoencoders on the command line: trained, resumed, sampled, drawn."""

from __future__ import annotations

import os

import numpy as np
import pytest
from small_runs import ROWS, fails

import aaecore

cli = pytest.importorskip("aaecore.app.cli", reason="the command line needs the extra: pip install '.[app]'")

CODED = {"latent.png", "reconstructions.png"}


def run(*arguments):
    assert cli.run([str(a) for a in arguments]) == 0


@pytest.mark.parametrize(
    ("model", "flags", "pictures"),
    [
        ("GAN", ("--gradient-penalty", "0.1"), {"samples.png"}),
        ("GMMN", ("--widths", "0.5,1"), {"samples.png"}),
        ("WAE", ("--latent-dim", "2"), {"samples.png", "manifold.png", *CODED}),
        ("DenoisingAE", ("--latent-dim", "2", "--chain-steps", "3"), {"samples.png", *CODED}),
    ],
)
def test_a_run_ends_with_its_pictures_and_goes_on(model, flags, pictures, images, tmp_path, capsys):
    begin = ("train", "--model", model, "--data", images, *ROWS, *flags)
    run(*begin, "--folder", tmp_path / "run")
    assert {name for name in os.listdir(tmp_path / "run") if name.endswith(".png")} == pictures | {"losses.png"}
    assert "loss" in capsys.readouterr().out
    run("resume", tmp_path / "run", "--epochs", "3")
    run(*begin, "--epochs", "3", "--folder", tmp_path / "whole")
    whole, resumed = ((tmp_path / name / "checkpoint.h5").read_bytes() for name in ("whole", "run"))
    assert whole == resumed
    run("sample", tmp_path / "run", tmp_path / "s.npy", "-n", "5")
    assert np.load(tmp_path / "s.npy").shape == (5, 20)
    run("train", tmp_path / "run" / "config.toml", "--folder", tmp_path / "again")


def test_codes_of_another_run_are_matched(images, tmp_path, capsys, monkeypatch):
    """--autoencoder names a run or a checkpoint; what comes of it needs neither."""
    monkeypatch.chdir(tmp_path)
    run("train", "--model", "DenoisingAE", "--data", images, *ROWS, "--folder", "ae", "--no-plots")
    begin = ("train", "--model", "GMMN", "--data", images, *ROWS)
    run(*begin, "--autoencoder", "ae", "--folder", "run")
    run(*begin, "--autoencoder", "ae/checkpoint.h5", "--folder", "same", "--no-plots")
    codes, same = (aaecore.load(f"{name}/checkpoint.h5") for name in ("run", "same"))
    assert codes.latent_dim == codes.coder.latent_dim == 3
    assert np.array_equal(codes.sample(4), same.sample(4))
    with open("run/config.toml") as file:
        assert f'autoencoder = "{tmp_path / "ae"}"' in file.read()
    os.rename("ae", "gone")
    run("resume", "run", "--epochs", "3")
    run("sample", "run", "s.npy")
    run("info", "run")
    capsys.readouterr()
    fails(capsys, (*begin, "--autoencoder", "ae", "--folder", "other"), "ae")
    fails(capsys, (*begin, "--autoencoder", "run", "--folder", "other"), "autoencoder: expected a trained Autoencoder")
    assert not os.path.exists("other")


def test_a_model_without_a_prior_has_one_with_a_code_in_the_plane(images, tmp_path):
    flat = ("--two-dimensional", "--two-dimensional-epochs", "1")
    run("train", "--model", "DenoisingAE", "--data", images, *ROWS, *flat, "--folder", tmp_path / "run")
    assert {"latent.png", "samples.png"} < set(os.listdir(tmp_path / "run"))
