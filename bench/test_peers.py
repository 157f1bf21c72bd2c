"""Live processes and their answers: noise of libraries, answers to other questions, processes that do not start."""

from __future__ import annotations

import os
import sys
import time

import alternate
import pytest
from alternate import PEERS, Competitor, Spec, ended_after
from gpu.servers import serving
from protocol import THREAD_VARIABLES, Request, Unavailable
from sizes import SIZES

NOISY = f"""
import os, sys
sys.path.insert(0, {str(PEERS)!r})
import peer

def noise():
    print("printed")
    os.write(1, b"written by C\\n")
    os.system("echo by another process")

def step(options, batches):
    noise()
    return peer.Timed(noise)

peer.main(peer.Library({{"v": ("fp32",)}}, step, step))
"""
SPEC = Spec("noisy", "v")


@pytest.fixture
def made_of(monkeypatch):
    """Lets every competitor be a process that runs some lines of Python."""

    def use(code):
        def command(spec, size, threads, *options):
            return [sys.executable, "-c", code, *options], os.environ | dict.fromkeys(THREAD_VARIABLES, "1")

        monkeypatch.setattr(alternate, "command", command)

    return use


@pytest.mark.parametrize("options", [(), ("--any",)], ids=["one", "any"])
def test_what_a_library_prints_is_no_answer(options, made_of, monkeypatch, tmp_path):
    script = tmp_path / "noisy.py"  # which starts itself again with its thread counts set
    script.write_text(NOISY)
    monkeypatch.setattr(
        alternate,
        "command",
        lambda spec, size, threads, *options: ([sys.executable, str(script), "--threads", "1", *options], os.environ),
    )
    competitor = Competitor(SPEC, SIZES["e"], 1, *options)
    try:
        for calls in (2, 3, 4):
            request = Request(0.0, 0.0, calls)._asdict()
            asked = {"size": "e", "variant": "v", "precision": "fp32", "request": request} if options else request
            assert competitor.ask(**asked)["n"] == calls
        competitor.errors.seek(0)
        assert {"printed", "written by C", "by another process"} <= set(competitor.errors.read().splitlines())
    finally:
        competitor.close()


def test_an_answer_to_another_question_is_none(made_of):
    made_of("print('{\"ready\": 1}'); [print('{\"number\": 1}', flush=True) for _ in range(2)]; input(); input()")
    competitor = Competitor(SPEC, SIZES["e"], 1)
    try:
        assert competitor.ask() == {}
        with pytest.raises(Unavailable, match="it answered question 1 instead of 2"):
            competitor.ask()
    finally:
        competitor.close()


def test_a_process_that_does_not_start_is_ended(made_of, capsys):
    made_of("import time; time.sleep(60)")
    begin = time.monotonic()
    with serving([("slow", [SPEC])], SIZES["e"], 1, "cpu", 0.3) as servers:
        assert servers == {}
    assert time.monotonic() - begin < 30
    assert "left out: slow: not started after 0 s" in capsys.readouterr().err


def test_a_process_that_is_in_time_is_not_ended(made_of):
    made_of("print('{\"ready\": 1}', flush=True); input()")
    competitor = Competitor(SPEC, SIZES["e"], 1, seconds=30.0)
    try:
        with ended_after(0.05, competitor.process) as late:
            pass
        time.sleep(0.1)
        assert not late.is_set()
        assert competitor.process.poll() is None
    finally:
        competitor.close()
