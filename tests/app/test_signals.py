"""Signals to the command line: what is kept, what is said, and the status."""

import os
import signal
import subprocess
import sys

import pytest
from small_runs import SMALL, content

import aaecore
from aaecore.app import cli, runs
from aaecore.training.callbacks import Callback

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")


class Stop(Callback):
    def on_step_end(self, trainer, losses):
        if trainer.steps == 2:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path, images, monkeypatch, capsys, finished):
    monkeypatch.setattr("aaecore.training.trainer.Progress", Stop)
    folder = str(tmp_path)
    assert cli.run(["train", "--data", images, "--folder", folder, *SMALL, "--adversarial-beta1", "0.25"]) == 130
    assert f"stopped after step 2; continue with: aaecore resume {folder}\n" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.run(["plot", folder]) == 0
    assert "losses.png" not in os.listdir(folder)  # of no complete epoch
    assert cli.run(["resume", folder]) == 0
    for name in ("checkpoint.h5", "checkpoint_2d.h5", "history.csv"):
        assert content(folder, name) == content(finished, name), name


@pytest.mark.parametrize(("step", "kept"), [(2, None), (5, 3)])
def test_a_second_ctrl_c_promises_no_more_than_there_is(tmp_path, images, monkeypatch, capsys, step, kept):
    monkeypatch.setattr(runs, "SAVE_EVERY", 0.0)

    class StopAtOnce(Callback):
        def on_step_end(self, trainer, losses):
            if trainer.steps == step:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("aaecore.training.trainer.Progress", StopAtOnce)
    folder = str(tmp_path)
    assert cli.run(["train", "--data", images, "--folder", folder, *SMALL]) == 130
    there = f"the last checkpoint is of step {kept}; continue with: aaecore resume {folder}"
    end = there if kept else "there is no checkpoint of this model"
    assert f"stopped after step {step}; {end}\n" in capsys.readouterr().err
    assert os.path.exists(tmp_path / "checkpoint.h5") == bool(kept)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_it_starts_ends_it_quietly(name, status):
    code = f"""import signal, sys
from aaecore.app import cli
class Finder:
    def find_spec(self, name, *rest):
        if name == "rich":
            signal.raise_signal(signal.{name})
sys.meta_path.insert(0, Finder())
cli.main()"""
    done = subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_sigterm_ends_with_143(tmp_path, images):
    code = "from aaecore.app import cli; cli.main()"
    options = ["--folder", "run", "--hidden", "16", "--epochs", "1000000", "--threads", "1"]
    start = [sys.executable, "-c", code, "train", "--data", images, *options]
    process = subprocess.Popen(start, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert any(line.startswith("epoch") for line in process.stderr)  # reads up to the first epoch's line
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.endswith("continue with: aaecore resume run\n")
    assert aaecore.Trainer.resume(tmp_path / "run" / "checkpoint.h5").steps > 0
