"""The harness's own logic: names, pairs, verdicts, formulas, equal work and the gate. Nothing is timed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import alone
import compared
import equal
import goals
import machine
import overhead
import pytest
import run
from alternate import Competitor, Spec, compare, judge, parse_spec, running, take_turns
from protocol import LR, Request
from settings import FIT, OURS, Run
from sizes import SIZES, matrix_flops, parse_size, spell, step_bytes
from steps import make_model, make_step, plan_buffers

from aaecore.core.plan import Plan
from aaecore.kernels import cpu as compiled

HERE = Path(__file__).resolve().parent


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "family", "model", "isa", "expected"),
    [
        ("AuthenticAMD", 25, 17, "v4", "amd-zen4-2c-avx512"),
        ("AuthenticAMD", 25, 0x21, "v3", "amd-zen3-2c-avx2"),
        ("AuthenticAMD", 26, 2, "v4", "amd-zen5-2c-avx512"),
        ("GenuineIntel", 6, 0x8F, "v4bf16", "intel-sapphire-rapids-2c-v4bf16"),
        ("GenuineIntel", 6, 0x01, "generic", "intel-family6-model1-2c-generic"),
        ("Some Vendor/x", 1, 2, "v3", "some-vendor-x-family1-model2-2c-avx2"),
    ],
)
def test_a_machine_is_named_by_its_processor(vendor, family, model, isa, expected):
    first = f"processor : 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
    fields = machine.cpu_fields(f"{first}\nprocessor : 1\nmodel : 99\n")
    assert machine.slug(fields, 2, isa) == expected


def test_nothing_names_the_host():
    assert platform.node() not in json.dumps(machine.describe("v4"))


@pytest.mark.parametrize("isa", compiled.supported())
def test_the_probe_counts_operations_of_this_machine(isa):
    """Between a slow core at one operation a cycle and any core there is."""
    assert 1e9 < compiled.Kernels(isa).fma_rate(0.01) < 1e12


# --- sizes and formulas -----------------------------------------------------------------------------------------------


def test_a_size_is_a_letter_or_four_numbers():
    assert parse_size("f") == SIZES["f"] == parse_size(spell(SIZES["f"]))
    for bad in ("g", "1-2-3", "1-2-3-x", "1-2-3-0", ""):
        with pytest.raises(ValueError, match="size: expected one of a b c d e f, or inputs-hidden-latent-batch; got"):
            parse_size(bad)


@pytest.mark.parametrize("name", ["d", "e", "f"])
def test_operations_and_memory_by_formula_are_those_of_the_recorded_step(name):
    model = make_model(SIZES[name])
    plan = model.backend.capture(make_step(model, SIZES[name].batch)[0])
    products = [c.dims[:3] for c in plan.calls if c.name.startswith("linear")]
    assert matrix_flops(SIZES[name]) == sum(2 * b * i * o for b, i, o in products)
    assert plan_buffers(plan) == pytest.approx(step_bytes(SIZES[name]), rel=0.1)  # the rest is padding of weights


# --- pairs and verdicts -----------------------------------------------------------------------------------------------


def answer(least, foreign=0.0):
    return {"min": least, "med": 2 * least, "rss": 1, "foreign": foreign}


def test_pairs_with_foreign_load_on_either_side_are_dropped():
    clean, peer_disturbed, ours_disturbed = (
        {"peer": answer(6.0), "us": answer(2.0)},
        {"peer": answer(90.0, 0.11), "us": answer(2.0)},
        {"peer": answer(6.0), "us": answer(90.0, 0.11)},
    )
    result = compare([clean] * 8 + [peer_disturbed] * 9 + [ours_disturbed] * 9, "us")["peer"]
    assert result == {
        "ratio": 3.0, "clean": 8, "pairs": 26, "decided": True, "ms": 12.0, "our ms": 4.0, "rss": 1, "our rss": 1,
    }  # fmt: skip


def test_how_far_apart_the_cores_were_is_kept():
    rounds = [{"peer": answer(6.0), "us": answer(2.0) | {"apart": ns}} for ns in (90, 340, 0, 110)]  # 0: not known
    assert compare(rounds, "us")["peer"]["apart"] == [90, 110, 340]


def test_goals_of_a_step():
    assert goals.step("d", "jax:scan") == 3.2
    assert goals.step("d", "numpy:inplace") == goals.step("784-256-8-128", "jax:scan") == 1.0


def test_too_few_clean_pairs_decide_nothing():
    assert not judge([(2.0, True)] * 7 + [(9.0, False)] * 20).decided
    assert judge([(2.0, True)] * 7 + [(9.0, False)] * 20).ratio == 2.0
    assert judge([(2.0, True)] * 8).decided
    assert judge([(2.0, False), (4.0, False)]).ratio == 3.0
    assert not judge([(2.0, False)] * 99, enough=1).decided


def test_unsteady_probes_make_a_round_unclean():
    size = SIZES["d"]
    rate = matrix_flops(size) / 1e-3  # so that the limit is a millisecond
    steady = {"med": 1.3, "foreign": 0.0, "rates": [rate, 0.97 * rate]}
    ratio, clean = alone.of_the_limit(steady, size, 1)
    assert ratio == pytest.approx(1.3 * 0.985)
    assert clean
    assert alone.of_the_limit(steady, size, 2)[0] == pytest.approx(2 * ratio)
    assert not alone.of_the_limit(steady | {"rates": [rate, 0.9 * rate]}, size, 1)[1]
    assert not alone.of_the_limit(steady | {"foreign": 0.2}, size, 1)[1]


class Scripted:
    """A competitor whose first answers are disturbed."""

    def __init__(self, spec, disturbed):
        self.spec, self.left = spec, disturbed

    def round(self, request):
        self.left -= 1
        return answer(1.0, 0.5 if self.left >= 0 else 0.0)


@pytest.mark.parametrize(("disturbed", "rounds"), [(0, 9), (1, 9), (3, 11), (99, 18)])
def test_rounds_are_repeated_until_enough_are_clean_but_not_for_ever(disturbed, rounds):
    both = [Scripted("peer", disturbed), Scripted("us", 0)]
    made = take_turns(both, Request(), 9, lambda r: compare(r, "us")["peer"]["decided"])
    assert len(made) == rounds


def test_a_goal_is_met_missed_or_undecided():
    assert goals.judged({}, 1.2, 1.2)["met"] is True
    assert goals.judged({}, 1.21, 1.2)["met"] is False
    assert goals.judged({}, 1.21, 1.2, at_least=True)["met"] is True
    assert goals.judged({"decided": False}, 1.0, 1.2)["met"] is None


# --- the equal-work check ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1e-5, 1e-5, 1e-5], [1e-5, 2e-5, 1e-6], True),
        ([6e-5, 6e-5, 1e-5], [1e-5, 1e-5, 1e-5], False),  # the median is above 5
        ([6e-5, 1e-5, 1e-5], [1e-5, 1e-5, 1e-5], True),  # a flipped unit in one state
        ([1e-6, 1e-6, 1e-6], [1e-9, 1e-9, 1e-9], True),  # rounding, below the floor
        ([0.06, 1e-5, 1e-5], [1e-5, 1e-5, 1e-5], False),  # more than a flipped unit
        ([1e-5, 1e-5, 1e-5], [1e-5, 1e-5, 0.06], False),  # the peer does something else
        ([0.06, 1e-5, 1e-5], [0.03, 1e-5, 1e-5], True),
    ],
)
def test_the_rule_of_equal_work(ours, theirs, expected):
    assert equal.agrees(ours, theirs, equal.LIMITS["fp32"][0], equal.FLOORS["fp32"][0]) is expected


NUMPY = Spec("numpy", "inplace")


def test_our_step_is_numpys():
    (result,) = equal.check(SIZES["e"], [NUMPY], 1)
    assert result["equal"]
    assert 0 < max(e.update for e in result["our errors"]) < 1e-4


def test_another_learning_rate_is_noticed_and_the_peer_is_not_timed(monkeypatch, capsys):
    monkeypatch.setattr("steps.LR", 1.001 * LR)
    settings = Run(sizes=["e"], peers=[NUMPY])
    assert settings.rivals("e", "fp32") == [NUMPY]
    rows = list(compared.equal_work(settings))
    assert [row["equal"] for row in rows] == [False]
    assert settings.rivals("e", "fp32") == []
    assert "left out: numpy:inplace at e: its step is not ours" in capsys.readouterr().err


def test_a_peer_that_cannot_be_checked_is_not_timed(monkeypatch):
    monkeypatch.setattr(equal, "_run", lambda *arguments: "no module named numpy")
    rows = list(compared.equal_work(settings := Run(sizes=["e"], peers=[NUMPY])))
    assert [(row["equal"], row["error"]) for row in rows] == [(False, "no module named numpy")]
    assert settings.rivals("e", "fp32") == []


# --- competitors ------------------------------------------------------------------------------------------------------


def test_a_competitor_is_library_variant_and_precision():
    assert parse_spec("torch:compile:bf16") == Spec("torch", "compile", "bf16")
    assert [str(parse_spec(text)) for text in ("jax:scan", "jax:scan:bf16")] == ["jax:scan", "jax:scan:bf16"]
    for bad in ("torch", "tinygrad:jit", "torch:eager:bf16:x"):
        with pytest.raises(ValueError, match=r"expected LIBRARY:VARIANT.* a library of aaecore, jax, numpy, torch"):
            parse_spec(bad)


@pytest.mark.parametrize("spec", [NUMPY, OURS, FIT], ids=str)
@pytest.mark.parametrize("options", [(), ("--epoch", "--rows", "65")], ids=["steps", "epoch"])
def test_a_peer_serves(spec, options):
    competitor = Competitor(spec, SIZES["e"], 1, *options)
    try:
        made = competitor.round(Request(0.0, 0.0, 2))
    finally:
        competitor.close()
    assert made["n"] == 2
    assert made["rss"] > 10
    assert 0 < made["min"] <= made["med"]
    assert competitor.process.returncode == 0


def test_a_variant_that_does_not_exist_is_left_out_with_a_line(capsys):
    with running([Spec("numpy", "inplace", "bf16"), NUMPY], SIZES["e"], 1) as competitors:
        assert [c.spec for c in competitors] == [NUMPY]
    assert "left out: numpy:inplace:bf16 at 30-32-32-2, batch 32: inplace has no bf16" in capsys.readouterr().err


def test_a_library_that_is_not_installed_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr("settings.versions", lambda: {"numpy": "2"})
    assert Run(sizes=["e"]).rivals("e", "fp32") == [NUMPY]
    assert "left out: torch: not installed (or set AAECORE_PEERS_PYTHON" in capsys.readouterr().err


def test_a_cold_start_ends_after_it_began():
    made = compared._cold(FIT, "e", 1)
    assert 0 < made["seconds"] < 60
    assert made["rss"] > 10


def test_measured_memory_keeps_the_formula():
    made = alone._memory(parse_size("784-256-8-128"))
    assert made["met"], made
    assert made["formula"] == step_bytes(parse_size("784-256-8-128"))


def test_the_bare_steps_are_those_of_an_epoch(monkeypatch):
    replayed, repeat = [], Plan.repeat

    def counted(self, times):
        replayed.extend([self] * times)
        repeat(self, times)

    monkeypatch.setattr(Plan, "repeat", counted)
    fit, bare = overhead.both_ways(SIZES["e"], 64, "fp32")
    fit()
    of_the_epoch = list(replayed)
    replayed.clear()
    bare()
    assert len(of_the_epoch) == 2
    assert replayed == of_the_epoch


# --- the gate ---------------------------------------------------------------------------------------------------------

SAMPLE = """
import pytest
from ratios import counted, keep

@pytest.mark.benchmark(timer=counted)
def test_sample(benchmark):
    keep(benchmark, [(float({ratio}), clean) for clean in {clean}])
"""


def gate(folder, ratio, *options, clean=(True,) * 8):
    (folder / "test_sample.py").write_text(SAMPLE.format(ratio=ratio, clean=list(clean)))
    line = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "test_sample.py", *options]
    # In a worker of pytest-xdist nothing would be timed: this is a run of its own.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = inherited | {"PYTHONPATH": f"{HERE}:{HERE.parent / 'tests'}"}
    return subprocess.run(line, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_a_slower_run_fails_the_gate(tmp_path):
    stored = tmp_path / "stored.json"
    assert gate(tmp_path, 1.25, f"--benchmark-json={stored}").returncode == 0
    kept = json.loads(stored.read_text())
    assert kept["benchmarks"][0]["stats"]["median"] == pytest.approx(1.25)
    assert "data" not in kept["benchmarks"][0]["stats"]
    assert platform.node() not in stored.read_text()
    options = [option for option in run.gate_command(stored) if option.startswith("--benchmark")]
    assert gate(tmp_path, 1.40, *options).returncode == 0
    worse = gate(tmp_path, 1.50, *options)
    assert worse.returncode != 0
    assert "Performance has regressed" in worse.stderr + worse.stdout


def test_too_few_clean_rounds_neither_pass_nor_fail_the_gate(tmp_path):
    done = gate(tmp_path, 1.0, "-rs", clean=[True] * 7 + [False] * 9)
    assert done.returncode == 0
    assert "NOT DECIDED: 7 of 16 rounds clean" in done.stdout
