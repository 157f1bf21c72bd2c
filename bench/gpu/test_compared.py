"""The processes that `gpu/compared.py` and `gpu/equal.py` time and check, on the CPU."""

from __future__ import annotations

import re
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import equal
import pytest
from alternate import Spec, parse_spec
from protocol import Stepped, Unavailable, write_stepped
from sizes import SIZES, Size

from gpu import compared, goals, model
from gpu import equal as gpu_equal
from gpu.servers import Server, prepare_all

TINY = Size(12, 9, 2, 7)


def test_a_process_makes_steps_of_any_size_and_kind():
    server = Server([Spec("aaecore", "replay"), Spec("aaecore", "burst"), Spec("aaecore", "nix")], TINY, 1, "cpu")
    try:
        for size in (TINY, SIZES["e"]):
            prepare_all([server], size, 60.0)
            assert [str(s) for s in server.ready] == ["aaecore:replay", "aaecore:burst"]
            assert server.measure(size, server.ready[1], compared.REQUEST)["med"] > 0
        assert server.left_out == {Spec("aaecore", "nix"): "nix has no fp32"}
        with pytest.raises(Unavailable, match="no single step from a given state"):
            server.check(TINY, "nowhere", ["replay:fp32"])
    finally:
        server.close()


def test_who_is_not_ready_in_time_is_ended():
    server = Server([Spec("aaecore", "replay")], TINY, 1, "cpu")
    server.prepare = lambda size: server.process.wait()
    prepare_all([server], TINY, 0.2)
    assert server.ready == []
    assert server.left_out == {Spec("aaecore", "replay"): "not ready after 0 s"}
    server.close()


def test_steps_are_compared(monkeypatch):
    """And no process is left, which each would take its time to end."""
    killed = []
    close = Server.close
    monkeypatch.setattr(Server, "close", lambda server: close(server) or killed.append(server.process.returncode))
    found = [("aaecore", [Spec("aaecore", goals.MODE)]), ("numpy", [Spec("numpy", "inplace")])]
    rows = list(compared.compared(["e"], "cpu", 60.0, found))
    assert [r["who"] for r in rows if "us" in r] == ["aaecore:burst", "numpy:inplace"]
    (ratio,) = [r for r in rows if "ratio" in r]
    assert ratio["peer"] == "numpy:inplace"
    assert ratio["ratio"] > 1
    assert ratio["decided"]
    assert killed == [-signal.SIGKILL] * 2


def test_peers_that_are_compiled_beforehand_make_every_step_once_and_ours_does_not_start(monkeypatch, capfd):
    started = []
    serving = compared.serving

    def counted(found, *more):
        started.extend(name for name, _ in found)
        return serving(found, *more)

    monkeypatch.setattr(compared, "serving", counted)
    found = [("aaecore", [Spec("aaecore", goals.MODE)]), ("numpy", [Spec("numpy", "inplace"), Spec("numpy", "nix")])]
    compared.warm(["e", "d"], "cpu", found)
    assert started == ["numpy"]
    said = capfd.readouterr().err
    assert [f"compiled {size}; left out: numpy:nix: nix has no fp32" in said for size in ("e", "d")] == [True, True]


def test_graphs_of_pytorch_are_prepared_before_jax(monkeypatch):
    """In the background at all sizes; and where they are timed, JAX has the seconds that they leave."""
    installed = {"torch": "2", "jax": "0"}
    found = compared.groups(installed, ["a", "g"])
    turns = []
    monkeypatch.setattr(compared, "_warm", lambda sizes, _, peers: turns.append((sizes, [name for name, _ in peers])))
    compared.warm(["a", "g"], "cuda", found)
    (sizes, first), (_, then) = turns
    assert sizes == ["a", "g"]
    assert first == ["torch", "torch graph fp32", "torch graph tf32", "torch graph bf16"]
    assert sorted({name.split()[0] for name in then}) == ["jax", "torch"]
    assert {*first, *then, "aaecore"} == {name for name, _ in found}

    prepared = []
    monkeypatch.setattr(compared, "prepare_all", lambda servers, _, s: prepared.append(([x.name for x in servers], s)))
    servers = [SimpleNamespace(name=name, specs=specs) for name, specs in reversed(found)]
    compared.prepare_in_turns(servers, TINY, 30.0)
    (before, seconds), (after, rest) = prepared
    assert set(before) == {"aaecore", *first}
    assert set(after) == set(then)
    assert (seconds, rest) == (30.0, pytest.approx(30.0, abs=1.0))
    compared.prepare_in_turns(servers, TINY, 0.0)
    assert prepared[-1][1] == compared.LOADING


def test_without_our_library_peers_are_timed_alone(monkeypatch):
    """Nothing is compared then, and nothing of ours is imported."""
    monkeypatch.setitem(sys.modules, "gpu.equal", None)
    missing = Spec("aaecore", "no such variant")
    rows = list(compared.compared(["e"], "cpu", 60.0, [("aaecore", [missing]), ("numpy", [Spec("numpy", "inplace")])]))
    assert {"left out": "aaecore", "why": "its process did not start; see the log"} in rows
    assert [r["who"] for r in rows if "us" in r] == ["numpy:inplace"]
    assert not [r for r in rows if "ratio" in r]


def test_the_specs_of_a_run(monkeypatch):
    assert "numpy" not in dict(compared.groups({"numpy": "2"}, ["a"]))
    monkeypatch.setattr(compared, "DRY", True)
    assert dict(compared.groups({"numpy": "2"}, ["a"]))["numpy"] == [Spec("numpy", "inplace")]
    everything = [s for _, specs in compared.groups({"torch": "2", "jax": "0"}, ["a"]) for s in specs]
    assert all(parse_spec(str(spec)) == spec for spec in everything)
    assert {spec.library for _, specs in compared.groups({}, ["a"]) for spec in specs} == {"aaecore"}
    compiling = [specs for _, specs in compared.COMPILED_PEERS]
    assert all(len(specs) == 1 for specs in compiling), "one that is late costs no other"
    assert {("graph", p) for p in compared.PRECISIONS} <= {(s.variant, s.precision) for (s,) in compiling}
    assert {s.precision for (s,) in compiling if s.library == "jax"} == set(compared.PRECISIONS)
    small = [name for name, _ in compared.groups({"torch": "2"}, ["e"])]
    assert small == ["aaecore", "torch"]


@pytest.mark.parametrize(("wrong", "equal_work"), [(None, True), ("losses", False), ("encoder.0.weight", False)])
def test_work_is_equal_if_weights_and_losses_are(wrong, equal_work, tmp_path):
    made = equal.our_steps(model.make_model(TINY, "fp32", "cpu"), TINY, tmp_path)
    for count, (_, stepped) in zip(equal.STATES, made, strict=True):
        write_stepped(tmp_path / f"eager-fp64-{count}.npz", stepped)
        weights = {n: a * (1.1 if n == wrong else 1) for n, a in stepped.weights.items()}
        losses = [loss * (1.1 if wrong == "losses" else 1) for loss in stepped.losses]
        write_stepped(tmp_path / f"eager-fp32-{count}.npz", Stepped(weights, losses))
    row = equal.compare(Spec("torch", "eager"), "eager", made, tmp_path)
    assert row["equal"] == equal_work
    assert len(row["errors"]) == len(row["our errors"]) == len(equal.STATES)


def test_checks_are_made_side_by_side_and_in_folders_of_their_own(monkeypatch):
    """One after the other, a peer that compiles for long would leave the next ones no time."""
    servers = [Server([Spec("aaecore", "replay")], TINY, 1, "cpu") for _ in range(2)]
    both, folders = threading.Barrier(2, timeout=30.0), []

    def check(size, folder, pairs):
        both.wait()
        folders.append((folder, pairs, len(list(Path(folder).glob("state-*.npz")))))

    monkeypatch.setattr(gpu_equal, "compare", lambda *_: {"equal": True})
    try:
        for server in servers:
            server.check, server.specs = check, [Spec("torch", "eager"), Spec("torch", "eager", "bf16")]
        rows = gpu_equal.check(TINY, ["fp32", "bf16"], servers, "cpu", 60.0)
    finally:
        for server in servers:
            server.close()
    assert [row["peer"] for row in rows] == ["torch:eager", "torch:eager:bf16"] * 2
    assert all(row["equal"] for row in rows)
    assert len({folder for folder, *_ in folders}) == 4
    assert sorted(pairs for _, pairs, _ in folders) == sorted(
        [["eager:fp64", f"eager:{p}"] for p in ("bf16", "fp32")] * 2
    )
    assert {count for *_, count in folders} == {len(equal.STATES)}


def test_a_check_that_does_not_end_is_ended_and_no_other(monkeypatch):
    hung, other = (Server([Spec("aaecore", "replay")], TINY, 1, "cpu") for _ in range(2))
    hung.check = lambda *_: hung._answer()  # of a process that was asked nothing
    other.check = lambda *_: None
    monkeypatch.setattr(gpu_equal, "compare", lambda *_: {"equal": True})
    hung.specs = other.specs = [Spec("torch", "eager")]
    try:
        late, fine = gpu_equal.check(TINY, ["fp32"], [hung, other], "cpu", 3.0)
        assert not late["equal"]
        assert re.fullmatch(r"its check was not done after \d s", late["error"])
        assert late["error"] == hung.left_out[Spec("torch", "eager")]
        assert hung.ready == []
        assert fine["equal"]
        assert other.ready == other.specs
        (row,) = gpu_equal.check(TINY, ["fp32"], [other], "cpu", 0.0)
        assert row["error"] == "no time was left for its check"
        assert other.ready == other.specs
    finally:
        hung.close()
        other.close()
