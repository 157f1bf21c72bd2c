"""What a run says and where: any encoding of the terminal, streams that are closed or full, and texts from files."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import aaecore
from aaecore.app import cli, terminal
from aaecore.files import checkpoint
from aaecore.training import state

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

SMALL = ["--hidden", "8", "--latent-dim", "2", "--epochs", "1"]
FULL = "/dev/full"
LOCALES = {
    "UTF-8": {"PYTHONUTF8": "1"},
    "ASCII": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "ASCII output": {"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"},
    "Latin-1 output": {"PYTHONUTF8": "1", "PYTHONIOENCODING": "latin-1"},
}
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="needs /dev/full: run it on Linux")


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).random((60, 20))


def program(*arguments, before="", environment=None, **streams):
    """The program in a process of its own; `before` is what a shell does with its streams, such as ">&-"."""
    command = f'exec "$0" -m aaecore "$@" {before}'
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    given = {**os.environ, **(environment or {})}
    given.pop("PYTHONUNBUFFERED", None)  # so that something is left for the end of the interpreter
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments], env=given, timeout=100, check=False, **streams
    )
    assert b"Traceback" not in (done.stderr or b"")
    assert b"Exception ignored" not in (done.stderr or b"")
    return done


def test_the_package_is_a_program():
    done = program("info")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"aaecore          {aaecore.__version__}\n" in done.stdout.decode()


@pytest.mark.parametrize("locale", LOCALES)
def test_names_that_are_not_ascii_in_any_locale(tmp_path, rows, locale):
    folder = tmp_path / "r\u00e9sultat \u2603"
    os.mkdir(tmp_path / "donn\u00e9es")
    np.save(tmp_path / "donn\u00e9es" / "x.npy", rows)
    data = str(tmp_path / "donn\u00e9es" / "x.npy")
    done = program("train", "--data", data, "--folder", str(folder), *SMALL, environment=LOCALES[locale])
    assert done.returncode == 0, done.stderr
    assert {"checkpoint.h5", "losses.png", "latent.png"} < set(os.listdir(folder))
    assert done.stdout.splitlines()[-1].endswith(b"/losses.png")  # written as well as the encoding can
    assert f'"{data}"' in (folder / "config.toml").read_text("utf-8")
    other = LOCALES["ASCII" if locale == "UTF-8" else "UTF-8"]
    done = program("resume", str(folder), "--epochs", "2", environment=other)
    assert done.returncode == 0, done.stderr
    assert program("encode", str(folder), data, str(folder / "z.npy"), environment=LOCALES[locale]).returncode == 0


def test_a_file_name_that_is_no_text_is_one_error_that_names_it(tmp_path, rows):
    plain, odd = tmp_path / "x.npy", os.fsencode(tmp_path) + b"/caf\xe9.npy"
    np.save(plain, rows)
    os.rename(plain, odd)
    run = os.fsencode(tmp_path) + b"/\xe9"
    utf8 = LOCALES["UTF-8"]
    done = program("train", "--data", odd, "--folder", run, *SMALL, environment=utf8)
    assert done.returncode == 1
    assert done.stderr.startswith(b"aaecore: data: expected a file name that is text")
    assert done.stderr.endswith(b"/caf\\xe9.npy\n")
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9.npy"]
    os.rename(odd, plain)
    assert program("train", "--data", str(plain), "--folder", run, *SMALL, environment=utf8).returncode == 0
    assert program("resume", run, "--epochs", "2", environment=utf8).returncode == 0
    assert b"losses.png" in os.listdir(run)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_does_not_need_its_streams(tmp_path, rows, closed):
    np.save(tmp_path / "x.npy", rows)
    folder = str(tmp_path / "run")
    done = program("train", "--data", str(tmp_path / "x.npy"), "--folder", folder, *SMALL, before=closed)
    assert done.returncode == 0
    assert {"checkpoint.h5", "latent.png", "losses.png"} < set(os.listdir(folder))
    done = program("train", "--data", "none.npy", "--folder", folder + "2", before=closed)
    assert (done.returncode, done.stdout) == (1, b"")  # an error is never taken for output


def test_a_reader_that_left_ends_no_run(tmp_path, rows):
    np.save(tmp_path / "x.npy", rows)
    read, write = os.pipe()
    os.close(read)
    folder = str(tmp_path / "run")
    arguments = ["train", "--data", str(tmp_path / "x.npy"), "--folder", folder, *SMALL]
    try:
        done = program(*arguments, stdout=write, stderr=write)
        assert done.returncode == 0
        assert {"checkpoint.h5", "latent.png", "losses.png"} < set(os.listdir(folder))
        assert program("info", stdout=write).returncode == 0
    finally:
        os.close(write)


@needs_full
def test_a_full_disk_under_the_output_is_told_after_the_work(tmp_path, rows):
    np.save(tmp_path / "x.npy", rows)
    folder = str(tmp_path / "run")
    with open(FULL, "w") as full:
        done = program("train", "--data", str(tmp_path / "x.npy"), "--folder", folder, *SMALL, stdout=full)
    assert done.returncode == 1
    assert done.stderr.endswith(b"aaecore: standard output: No space left on device\n")
    assert {"checkpoint.h5", "latent.png", "losses.png"} < set(os.listdir(folder))


def test_a_steady_stream_takes_everything(monkeypatch):
    with terminal.steady() as out:
        assert sys.stdout is out
        out.write("x\n")
        with pytest.raises(TypeError, match="text: expected a string, got bytes"):
            out.write(b"x")
    assert sys.stdout is not out
    assert terminal.lost(out) is None
    with open(os.devnull, "w") as closed:
        pass
    monkeypatch.setattr("sys.stdout", closed)
    with terminal.steady() as out:
        print("x")
        assert not out.isatty()
    assert isinstance(out.error, ValueError)
    assert terminal.lost(out) is None


def test_no_text_of_a_file_reaches_the_terminal_as_a_command(tmp_path, capsys):
    path = str(tmp_path / "x.h5")
    trainer = aaecore.Trainer(aaecore.AAE(4, 2, (3,)), 4)
    trainer.save(path)
    tensors, meta = checkpoint.read(path, partial(state.expected, make=aaecore.Trainer))
    meta["model"]["activation"] = "relu\x1b[2J\x07\n\u202e"
    meta["model"]["\x1b]0;title\x07"] = 1
    checkpoint.write(path, tensors, meta)
    assert cli.run(["info", path]) == 0
    assert cli.run(["info", path, "--json"]) == 0
    assert cli.run(["sample", path, str(tmp_path / "s.npy")]) == 1
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert "relu\\x1b[2J\\x07\\n\\u202e" in out


def test_info_as_json(tmp_path, capsys):
    path = str(tmp_path / "x.h5")
    aaecore.Trainer(aaecore.AAE(4, 2, (3,)), 4).save(path)
    assert cli.run(["info", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["latent_dim"], told["hidden"], told["epochs made"]) == (2, [3], 0)
    assert cli.run(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["aaecore"] == aaecore.__version__


def test_a_bad_number_of_any_length_is_one_error(tmp_path, capsys):
    deep = tmp_path / "deep.toml"
    deep.write_text(f"hidden = {'[' * 5000}{']' * 5000}\n")
    for value in ("1" + "0" * 5000, "[" * 5000, "{" * 5000):
        for flag in ("--lr", "--epochs", "--hidden"):
            assert cli.run(["train", flag, value]) == 2
            assert f"'{flag}': expected " in capsys.readouterr().err
    assert cli.run(["train", str(deep)]) == 1
    assert "deep.toml: not a TOML file: nested too deeply" in capsys.readouterr().err
