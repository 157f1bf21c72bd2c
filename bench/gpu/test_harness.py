"""What can be tried of `make gpu` without a GPU: checks, budgets, phases, tables, and timing on the emulated device."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cuda_devices
import equal
import numpy as np
import pytest
from cases import CASES
from sizes import Size

from aaecore import cuda
from aaecore.geometry import KERNELS, kernels_of
from aaecore.ops import OPS
from gpu import model, preflight, sanitize, table
from gpu import run as gpu_run
from gpu.phases import Budget, Context, Phase, run

HERE = Path(__file__).resolve().parent
TINY = Size(12, 9, 2, 7)


@pytest.fixture
def context(tmp_path):
    return Context(
        sys.executable, tmp_path, tmp_path, gpu_run.environment(tmp_path, {}), ("a",), False, tmp_path / "r", tmp_path
    )


@pytest.fixture
def emulated(monkeypatch):
    """device="cuda" is the emulator."""
    if cuda_devices.MISSING:
        pytest.skip(cuda_devices.MISSING)
    monkeypatch.setattr(cuda, "make_driver", lambda device: cuda_devices.driver())


# --- what it needs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (preflight.package("no_such_package"), r"no_such_package is not installed \(pip install no_such_package"),
        (preflight.package("numpy", least=(99, 1)), r"numpy [\d.]+ is too old: expected 99\.1 or newer"),
        (preflight.tool("no-such-tool"), "no-such-tool is not on the PATH"),
    ],
)
def test_what_is_missing_is_named(look, message):
    with pytest.raises(preflight.Missing, match=message):
        look()


def test_an_old_python_and_a_missing_compiler_are_named(monkeypatch):
    monkeypatch.setattr(preflight.sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    assert "expected Python 3.11 or newer" in preflight.look(preflight.Check("python", preflight.python))["missing"]
    assert "no C++ compiler" in preflight.look(preflight.Check("C++ compiler", preflight.compiler))["missing"]


def test_the_preflight_fails_by_name_and_tries_no_gpu_without_cupy(monkeypatch, capsys):
    def gone():
        raise preflight.Missing("cupy cannot be imported; pip install cupy-cuda13x")

    checks = [c._replace(look=gone) if c.name == "cupy" else c for c in preflight.CHECKS]
    monkeypatch.setattr(preflight, "CHECKS", checks)
    assert preflight.preflight() >= 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(r for r in rows if r["check"] == "cupy")["missing"].startswith("cupy cannot be imported")
    assert not {"NVRTC", "GPU"} & {r["check"] for r in rows}
    assert {r["check"] for r in rows if not r["required"]} >= {"torch", "jax", "compute-sanitizer", "nvcc", "cuobjdump"}


# --- time and phases --------------------------------------------------------------------------------------------------


def test_what_a_phase_saves_the_next_ones_have():
    now = [0.0]
    budget = Budget(100.0, lambda: now[0])
    assert budget.share([10, 30, 60]) == pytest.approx(10)
    now[0] = 1.0  # the first took a tenth of its time
    assert budget.share([30, 60]) == pytest.approx(33)
    now[0] = 200.0
    assert budget.left == budget.share([60]) == 0.0


def test_the_phases_fit_the_time():
    assert sum(phase.weight for phase in gpu_run.PHASES) <= gpu_run.BUDGET
    assert gpu_run.BUDGET <= 570
    names = [phase.name for phase in gpu_run.PHASES]
    assert all(names.index(need) < i for i, phase in enumerate(gpu_run.PHASES) for need in phase.needs)


FAILING = "print('FAILED tests/test_x.py::test_y'); print('1 failed'); raise SystemExit(1)"


def commands(*codes):
    return lambda context, seconds: [[context.python, "-c", code] for code in codes]


@pytest.mark.parametrize(
    ("codes", "status", "rows"),
    [
        (['print(\'{"a": 1}\'); print("noise"); print(\'{"b": 2}\')'], "ok", [{"a": 1}, {"b": 2}]),
        (["print('{\"a\": 1}')", "import sys; sys.exit('it broke')", "print('{}')"], "failed", [{"a": 1}]),
        (["print('{\"a\": 1}', flush=True); import time; time.sleep(60)"], "out of time", [{"a": 1}]),
    ],
)
def test_a_phase_keeps_its_rows_and_says_how_it_ended(codes, status, rows, context, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu.phases.MARGIN", 0.5)
    with (tmp_path / "log").open("w") as log:
        outcome = run(Phase("p", 1, commands(*codes)), context, 1.0 if status == "out of time" else 30.0, log)
    assert (outcome.status, outcome.rows) == (status, rows)
    assert ("it broke" in outcome.message) == (status == "failed")
    assert "noise" in (tmp_path / "log").read_text() or status != "ok"


def test_what_a_command_started_ends_with_it(context, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu.phases.MARGIN", 0.2)
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '77']); print(p.pid, flush=True); p.wait()"
    with (tmp_path / "log").open("w") as log:
        run(Phase("p", 1, commands(code)), context, 1.0, log)
    pid = (tmp_path / "log").read_text().splitlines()[-1]
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_tests_go_on_after_a_failure_and_leave_their_last_line(context, tmp_path):
    phase = Phase("tests", 1, commands(FAILING, "print('7 passed')"), tests=True)
    with (tmp_path / "log").open("w") as log:
        outcome = run(phase, context, 30.0, log)
    assert [row["summary"] for row in outcome.rows if "summary" in row] == ["1 failed", "7 passed"]
    assert outcome.rows[0] == {"not passed": "FAILED tests/test_x.py::test_y"}
    assert outcome.status == "failed"


@pytest.mark.parametrize(
    ("first", "status"), [("import time; time.sleep(60)", "out of time"), ("raise SystemExit(86)", "failed")]
)
def test_commands_that_do_not_need_each_other_all_run(first, status, context, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu.phases.MARGIN", 0.2)
    monkeypatch.setattr("gpu.phases.GRACE", 0.5)
    phase = Phase("sanitizer", 1, commands(first, "print('{\"n\": 2}')"), apart=True)
    with (tmp_path / "log").open("w") as log:
        outcome = run(phase, context, 4.0, log)
    assert (outcome.status, outcome.rows) == (status, [{"n": 2}])


def test_a_phase_that_fails_is_recorded_and_the_next_ones_run(context, tmp_path, capsys):
    phases = [
        Phase("preflight", 1, commands('print(\'{"gpu": "NVIDIA X 1", "check": "GPU", "found": "X"}\')')),
        Phase("broken", 1, commands("raise SystemExit(3)")),
        Phase("after", 1, commands("print('{\"n\": 1}')"), ("preflight",)),
        Phase("needy", 1, commands("print()"), ("broken",)),
        Phase("toolless", 1, commands("print()"), tool="no-such-tool"),
        Phase("packageless", 1, commands("print()"), package="no_such_package"),
    ]
    record = {"machine": {"cores": 2}, "date": "today", "phases": {}, "results": {}}
    with (tmp_path / "log").open("w") as log:
        gpu_run.measure(phases, context, Budget(60.0), log, record)
    assert [p["status"] for p in record["phases"].values()] == ["ok", "failed", "ok", *["left out"] * 3]
    assert record["results"]["after"] == [{"n": 1}]
    assert json.loads(context.record.read_text()) == record
    made = gpu_run.renamed(context, record)
    assert [p.name for p in made] == ["gpu-nvidia-x-1.json", "gpu-nvidia-x-1.md"]
    assert "needy      left out" in made[1].read_text()


def test_a_run_ends_where_something_is_missing(context, tmp_path):
    row = {"check": "cupy", "required": True, "missing": "cannot be imported"}
    code = f"import json; print(json.dumps({row})); raise SystemExit(1)"
    phases = [Phase("preflight", 1, commands(code)), Phase("build", 1, commands("print()"))]
    record = {"machine": {"cores": 2}, "date": "today", "phases": {}, "results": {}}
    with (tmp_path / "log").open("w") as log:
        gpu_run.measure(phases, context, Budget(60.0), log, record)
    assert list(record["phases"]) == ["preflight"]
    assert "missing: cupy: cannot be imported" in table.short(record)


def test_no_folder_outside_the_repository_is_written(context):
    gpu_run.write({"message": f"{gpu_run.ROOT}/x, {Path.home()}/y"}, context)
    assert json.loads(context.record.read_text()) == {"message": "./x, ~/y"}


def test_the_commands_of_the_sanitizer(context):
    lines = gpu_run.sanitizer(context, 60.0)
    assert [line[line.index("--tool") + 1] for line in lines] == ["memcheck", "racecheck"]
    assert all(line[0] == "compute-sanitizer" and "--error-exitcode" in line for line in lines)
    assert all(line[-2:] == ["--seconds", "22"] for line in lines)


def test_every_command_is_a_file_of_this_folder(context):
    for phase in gpu_run.PHASES:
        for line in phase.commands(context, 30.0):
            modules = [part.removeprefix("gpu.") for part in line if part.startswith("gpu.")]
            scripts = [part for part in line if part.endswith(".py") and part.startswith(str(HERE))]
            assert all(Path(script).exists() for script in (*scripts, *(HERE / f"{m}.py" for m in modules))), line


def test_every_kernel_is_given_to_the_sanitizer():
    cases = sanitize.chosen()
    assert {op for op, *_ in cases} == set(CASES) == set(OPS)
    kernels = {kernel for op, i, chip in cases for kernel, _ in kernels_of(op, CASES[op][i].dims, chip)}
    runs = dict(sanitize.parts())["kernels of several calls"]
    kernels |= {f"{pattern}{suffix or '_ffma'}" for pattern, suffix, _ in (run.args for run in runs)}
    assert kernels == set(KERNELS)


# --- tables -----------------------------------------------------------------------------------------------------------


def record():
    step = {"size": "a", "least": 1.0, "most": 9.0, "rounds": 5}
    pair = {"size": "a", "ours": "aaecore:burst", "clean": 5, "pairs": 5, "decided": True}
    return {
        "machine": {"gpu": "NVIDIA X", "capability": [9, 0], "multiprocessors": 132, "cores": 16, "L2 MB": 50},
        "versions": {"torch": "2.11.0", "python": "3.12.3"}, "date": "today", "seconds": 500.0,
        "phases": {
            "tests": {"status": "failed", "seconds": 99.0, "message": "status 1: 1 failed"},
            "steps": {"status": "ok", "seconds": 150.0, "message": ""},
        },
        "results": {
            "tests": [{"tests": "tests", "summary": "1 failed, 8000 passed"}],
            "steps": [
                {**step, "who": "aaecore:eager", "us": 700.0}, {**step, "who": "aaecore:burst", "us": 120.0},
                {**step, "who": "aaecore:burst:bf16", "us": 115.0}, {**step, "who": "torch:eager", "us": 1200.0},
                {**pair, "peer": "torch:eager", "ratio": 10.0}, {**pair, "peer": "jax:scan", "ratio": 2.4},
                {**pair, "peer": "torch:graph:bf16", "ratio": 2.6}, {**pair, "peer": "jax:scan:bf16", "ratio": 3.0},
                {"left out": "jax:jit at a", "why": "out of memory"},
            ],
            "kernels": [
                {"size": "a", "precision": "fp32", "kernel": "copy 1x1", "dims": "N4", "count": 3, "us": 2.0,
                 "bound us": 1.0, "fraction": 0.5},
                {"size": "a", "precision": "fp32", "step us": 120.0, "one by one us": 136.0},
            ],
            "ceilings": [{"what": "copy beyond the cache", "value": 3.1e12, "unit": "B/s"}],
            "epochs": [
                {"precision": "fp32", "epoch": 0.09, "first": 3.0}, {"what": "5 runs, fp32", "same bits": False},
            ],
        },
    }  # fmt: skip


def test_goals_are_met_missed_or_not_measured():
    met = {row["goal of"]: row["met"] for row in table.goals(record())}
    assert met == {
        "step 784-1000-1000-8, batch 100, fp32, us": True,
        "step 784-1000-1000-8, batch 100, tf32, us": None,
        "step 784-1000-1000-8, batch 100, bf16, us": False,
        "step 784-1000-1000-8, batch 4096, bf16, us": None,
        "step 784-1000-1000-8, batch 4096, tf32, us": None,
        "PyTorch eager / ours at a, fp32": True,
        "JAX scan / ours at a, fp32": False,
        "compiled peers / ours at a, tf32": None,
        "PyTorch graph bf16 / ours at a, bf16": True,
        "epoch of 60000 rows, fp32, s": True,
    }


def test_the_short_table_is_short_and_says_what_matters():
    text = table.short(record())
    assert len(text.splitlines()) <= 30
    assert "1 failed" in text
    assert "us a: fp32 eager/graph/burst 700/-/120, bf16 115, eager 10.0x, best fp32 2.4x, best bf16 2.6x" in text
    assert "NOT THE SAME BITS: 5 runs, fp32" in text
    assert table.short({**record(), "results": {}, "phases": {}}).startswith("NVIDIA X")


def test_all_tables():
    text = table.markdown(record())
    assert "| PyTorch eager | 1200 |" in text
    assert "| copy beyond the cache | 3.1e12 | B/s |" in text
    assert "| copy 1x1 | N4 | 3 | 2 | 1 | 0.50 |" in text
    assert "| jax:jit at a | out of memory |" in text
    assert "The step's graph takes 120 us, 136 with a kernel for each call." in text
    assert json.loads(json.dumps(record())) == record()


# --- measuring, on the emulated device --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "ffma", "tf32", "bf16"])
@pytest.mark.parametrize("variant", ["eager", "replay", "burst", "trainer"])
def test_a_step_is_timed_on_the_device(variant, precision, emulated, monkeypatch):
    monkeypatch.syspath_prepend(HERE.parent / "peers")
    import aaecore_peer
    import peer

    options = peer.Options(TINY, variant, precision, 1, "cuda")
    timed = aaecore_peer.step(options, [np.full((7, 12), 0.5, np.float32)] * 2)
    assert timed.steps == (aaecore_peer.BURST if variant == "burst" else 1)
    assert all(ms > 0 for ms in peer._timings(timed, 0.0, 1))


def test_ffma_is_another_arithmetic_and_leaves_the_environment_alone(emulated, monkeypatch):
    monkeypatch.setenv("AAECORE_CUDA_FP32", "tf32x3")
    chosen = [model.make_model(TINY, p, "cuda").backend.chip.fp32 for p in ("fp32", model.FFMA)]
    assert chosen == ["tf32x3", "ffma"]
    assert model.os.environ["AAECORE_CUDA_FP32"] == "tf32x3"


def test_our_step_on_the_device_is_that_of_the_cpu(emulated, tmp_path):
    for device in ("cuda", "cpu"):
        (tmp_path / device).mkdir()
    made = {d: equal.our_steps(model.make_model(TINY, "fp32", d), TINY, tmp_path / d) for d in ("cuda", "cpu")}
    for (_, here), (_, there) in zip(made["cuda"], made["cpu"], strict=True):
        np.testing.assert_allclose(here.losses, there.losses, rtol=1e-4)
