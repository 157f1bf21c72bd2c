"""Phases: their limits, what they keep, how they end, what runs beside them, and what goes on without a part."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpu import commands as phase_commands
from gpu import run as gpu_run
from gpu import table
from gpu.commands import ALWAYS, PHASES
from gpu.harness_kit import commands, make_context, new_record
from gpu.phases import Background, Budget, Context, Phase, run

HERE = Path(__file__).resolve().parent
FAILING = "print('FAILED tests/test_x.py::test_y'); print('1 failed'); raise SystemExit(1)"
SECONDS = {"first": 222.0, "second": 433.0}  # BUDGET of the two calls of README.md
LOAN, START, ENDING = 900.0, 95.0, 25.0  # seconds that are lent, of a start, and beyond the BUDGET of a call
CALLS = {
    "first": "tests own timeline ceilings switches",
    "second": "tests sanitizer ceilings kernels steps ncu epochs",
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


def measured(phases: list[Phase], context: Context, **more: object) -> dict[str, object]:
    """The record of a run of some phases."""
    record = new_record() | more
    with (context.logs / "log").open("w") as log:
        gpu_run.measure(phases, context, Budget(60.0), log, record, gpu_run.Results(context.logs, context.logs))
    return record


def statuses(record: dict) -> list[str]:
    return [phase["status"] for phase in record["phases"].values()]


# --- time -------------------------------------------------------------------------------------------------------------


def test_no_phase_has_more_than_its_limit_and_all_fit_the_time():
    now = [0.0]
    budget = Budget(100.0, lambda: now[0])
    assert budget.share([10, 30]) == 10
    assert budget.share([40, 80, 80]) == pytest.approx(20)
    now[0] = 90.0
    assert budget.share([80, 80]) == pytest.approx(5)
    now[0] = 200.0
    assert budget.left == budget.share([60]) == 0.0


def test_all_phases_fit_the_time_of_a_whole_run():
    assert sum(phase.limit for phase in PHASES) <= gpu_run.BUDGET <= 570
    assert {part for phase in PHASES for part in phase.needs} <= {"gpu", "extension"}


@pytest.mark.parametrize("call", CALLS)
def test_the_calls_of_the_manual_fit_their_time(call):
    """With a pack, each phase has all of its limit."""
    names = [*ALWAYS, *CALLS[call].split()]
    assert sum(p.limit for p in PHASES if p.name in names) <= SECONDS[call]
    text = (HERE / "README.md").read_text()
    assert f'PHASES="{CALLS[call]}"' in text
    assert f"BUDGET={SECONDS[call]:.0f} " in text


def test_both_calls_and_their_starts_fit_the_loan():
    limits = [seconds + ENDING for seconds in SECONDS.values()]
    assert sum(limits) < 780
    assert sum(limits) + len(limits) * START <= LOAN
    text = (HERE / "README.md").read_text()
    assert all(f"a limit of {limit:.0f} s" in text for limit in limits)


# --- a phase ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "status", "rows"),
    [
        (['print(\'{"a": 1}\'); print("noise"); print(\'{"b": 2}\')'], "ok", [{"a": 1}, {"b": 2}]),
        (["print('{\"a\": 1}')", "import sys; sys.exit('it broke')", "print('{}')"], "failed", [{"a": 1}]),
        (["print('{\"a\": 1}', flush=True); import time; time.sleep(60)"], "out of time", [{"a": 1}]),
    ],
)
def test_a_phase_keeps_its_rows_and_says_how_it_ended(codes, status, rows, context, tmp_path):
    with (tmp_path / "log").open("w") as log:
        outcome = run(Phase("p", 1, commands(*codes)), context, 1.0 if status == "out of time" else 30.0, log)
    assert (outcome.status, outcome.rows) == (status, rows)
    assert ("it broke" in outcome.message) == (status == "failed")
    assert "noise" in (tmp_path / "log").read_text() or status != "ok"


def test_what_a_command_started_ends_with_it(context, tmp_path):
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '77']); print(p.pid, flush=True); p.wait()"
    with (tmp_path / "log").open("w") as log:
        run(Phase("p", 1, commands(code)), context, 1.0, log)
    assert gone((tmp_path / "log").read_text().splitlines()[-1])


def gone(pid: str) -> bool:
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and state(pid) != "Z":
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def state(pid: str | int) -> str:
    """T: stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_tests_go_on_after_a_failure_and_leave_their_last_line(context, tmp_path):
    phase = Phase("tests", 1, commands(FAILING, "print('== 7 passed ==')"), tests=True)
    with (tmp_path / "log").open("w") as log:
        outcome = run(phase, context, 30.0, log)
    assert [row["summary"] for row in outcome.rows if "summary" in row] == ["1 failed", "7 passed"]
    assert outcome.rows[0] == {"not passed": "FAILED tests/test_x.py::test_y"}
    assert outcome.status == "failed"


def test_the_processes_of_tests_have_one_thread_each(context, tmp_path):
    names = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"]
    code = f"import os, json; print(json.dumps([os.environ.get(name) for name in {names}]))"
    for tests, threads in ((True, '["1", "1"]'), (False, "[null, null]")):
        with (tmp_path / "log").open("w") as log:
            run(Phase("p", 1, commands(code), tests=tests), context, 30.0, log)
        assert (tmp_path / "log").read_text().splitlines()[-1] == threads


@pytest.mark.parametrize(
    ("first", "status"), [("import time; time.sleep(60)", "out of time"), ("raise SystemExit(86)", "failed")]
)
def test_commands_that_do_not_need_each_other_all_run(first, status, context, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu.phases.GRACE", 0.5)
    phase = Phase("sanitizer", 1, commands(first, "print('{\"n\": 2}')"), apart=True)
    with (tmp_path / "log").open("w") as log:
        outcome = run(phase, context, 4.0, log)
    assert (outcome.status, outcome.rows) == (status, [{"n": 2}])


# --- a run ------------------------------------------------------------------------------------------------------------

FOUND = 'print(\'{"gpu": "NVIDIA X 1", "check": "GPU", "found": "X"}\')'
BUILT = 'print(\'{"part": "extension", "from": "pack"}\')'


def test_a_phase_that_fails_is_recorded_and_the_next_ones_run(context):
    phases = [
        Phase("preflight", 1, commands(FOUND), needs=()),
        Phase("broken", 1, commands("raise SystemExit(3)")),
        Phase("after", 1, commands("print('{\"n\": 1}')")),
        Phase("toolless", 1, commands("print()"), tool="no-such-tool"),
        Phase("packageless", 1, commands("print()"), package="no_such_package"),
    ]
    record = measured([replace(p, limit=12) for p in phases], context)
    assert statuses(record) == ["ok", "failed", "ok", *["left out"] * 2]
    assert record["results"]["after"] == [{"n": 1}]
    made = [context.logs / f"gpu-nvidia-x-1{suffix}" for suffix in (".json", ".md")]
    assert json.loads(made[0].read_text()) == record
    assert "toolless   left out" in made[1].read_text()


def test_the_table_is_written_after_every_phase(context):
    """So that a run that is killed leaves it."""
    table_now = f"print(open({str(context.logs / 'gpu-nvidia-x-1.md')!r}).read())"
    phases = [Phase("preflight", 20, commands(FOUND), needs=()), Phase("after", 20, commands(table_now))]
    measured(phases, context)
    assert "preflight  ok" in (context.logs / "log").read_text()


def missing(check: str, needed: str = "for all") -> str:
    row = {"check": check, "needed": needed, "missing": "it is not there"}
    return f"import json; print(json.dumps({row})); raise SystemExit({needed == 'for all'})"


@pytest.mark.parametrize(
    ("preflight", "build", "expected"),
    [
        (missing("pytest"), BUILT, ["failed", "ok", "ok", "ok"]),
        (missing("cython", "to compile"), BUILT, ["ok", "ok", "ok", "ok"]),
        (missing("GPU"), BUILT, ["failed", "left out", "left out", "left out"]),
        (missing("cupy"), BUILT, ["failed", "left out", "left out", "left out"]),
        (FOUND, "raise SystemExit('no compiler')", ["ok", "failed", "left out", "ok"]),
        (FOUND, 'print(\'{"part": "extension", "missing": "no"}\')', ["ok", "ok", "left out", "ok"]),
        (FOUND, "import time; time.sleep(60)", ["ok", "out of time", "left out", "ok"]),
    ],
)
def test_what_does_not_need_a_missing_part_runs(preflight, build, expected, context):
    phases = [
        Phase("preflight", 15, commands(preflight), needs=()),
        Phase("build", 2, commands(build), needs=("gpu",)),
        Phase("tests", 15, commands("print()")),
        Phase("ceilings", 15, commands("print()"), needs=("gpu",)),
    ]
    record = measured(phases, context)
    assert statuses(record) == expected
    text = table.short(record)
    assert ("it is not there" in text) == ("it is not there" in preflight or "pytest" in preflight)
    assert ("no gpu: it is not there" in text) == (expected[3] == "left out")
    assert ("no extension" in text) == (expected[2:] == ["left out", "ok"])


def test_a_row_that_is_not_as_it_should_be_costs_the_table_and_not_the_run(context):
    phases = [Phase("preflight", 20, commands(FOUND), needs=()), Phase("own", 20, commands("print('{\"us\": 1}')"))]
    record = measured(phases, context)
    assert statuses(record) == ["ok", "ok"]
    assert "No table could be made of this record: KeyError" in (context.logs / "gpu-nvidia-x-1.md").read_text()


def test_what_all_others_stand_on_may_take_longer_than_planned(context, capsys):
    """A cold disk, or to compile without a pack: half of what is left, 90 s at the most."""
    phases = [Phase(n, limit, commands(BUILT), needs=()) for n, limit in (("build", 20), ("own", 60), ("steps", 180))]
    measured(phases, context)
    limits = [float(line.split(" at most ")[1].split()[0]) for line in capsys.readouterr().err.splitlines()]
    assert limits == pytest.approx([30, 15, 60], abs=2)


def test_no_folder_outside_the_repository_is_written(context):
    results = gpu_run.Results(context.logs, context.logs)
    paths = results.write(new_record() | {"message": f"{gpu_run.ROOT}/x, {Path.home()}/y"})
    assert json.loads(paths[0].read_text())["message"] == "./x, ~/y"
    assert [p.name for p in paths] == ["gpu-unknown.json", "gpu-unknown.md"]


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_at_the_root_takes_nothing_out_of_units(home, monkeypatch):
    monkeypatch.setenv("HOME", home)
    assert gpu_run.without_folders(f"3 TB/s, {gpu_run.ROOT}/x") == "3 TB/s, ./x"


# --- beside the phases ------------------------------------------------------------------------------------------------


def test_what_runs_beside_is_stopped_while_times_are_measured(context):
    """With all that it started; and it is gone at the end."""
    code = "import subprocess; p = subprocess.Popen(['sleep', '77']); print(p.pid, flush=True); p.wait()"
    background = Background([context.python, "-c", code], context)
    log, end = context.build / "gpu-background.log", time.monotonic() + 10
    while not log.read_text().strip() and time.monotonic() < end:
        time.sleep(0.02)
    pids = [background.process.pid, int(log.read_text())]
    for nothing_is_timed, expected in ((False, "T"), (True, "S"), (False, "T")):
        background.run_only_if(nothing_is_timed)
        end = time.monotonic() + 5
        while [state(pid) for pid in pids] != [expected] * 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert [state(pid) for pid in pids] == [expected] * 2
    said = io.StringIO()
    assert background.end(said) == "ended before it was done"
    assert all(gone(str(pid)) for pid in pids)
    assert str(pids[1]) in said.getvalue(), "what it said is in the log of the run"


def test_what_runs_beside_may_be_waited_for(context):
    """Also where it is stopped."""
    background = Background([context.python, "-c", "import time; time.sleep(0.5)"], context)
    background.run_only_if(False)
    begin = time.monotonic()
    assert background.end(io.StringIO(), 30.0) == "done, status 0"
    assert time.monotonic() - begin < 20
    background = Background([context.python, "-c", "import time; time.sleep(77)"], context)
    assert background.end(io.StringIO(), 0.2) == "ended before it was done"


def test_peers_are_compiled_while_nothing_is_timed(context, monkeypatch):
    """From the build on, until their steps are timed; where these are not among the phases, PyTorch is read."""
    told: list[object] = []

    class Told:
        def __init__(self, command: list[str], _: Context) -> None:
            told.append(command[-1] if "-c" in command else command[3])

        def run_only_if(self, nothing_is_timed: bool) -> None:
            told.append(nothing_is_timed)

        def end(self, _: object, seconds: float = 0.0) -> str:
            told.append(f"ended after {seconds:.2g}")
            return "done"

    monkeypatch.setattr(gpu_run, "Background", Told)  # whose command would be compiling
    build = Phase("build", 15, commands(BUILT), needs=(), timed=False)
    tests, own, steps = (Phase(n, 15, commands("print()"), timed=n != "tests") for n in ("tests", "own", "steps"))
    assert measured([build, tests, own, steps], context)["background"] == "done"
    assert told == ["gpu.compared", True, False, "ended after 3.8"], "a quarter of the limit of 15 s"
    told.clear()
    measured([build, tests, own], context)
    assert told == ["import torch", True, False, "ended after 0"]
    assert {p.name for p in PHASES if not p.timed} == {"preflight", "build", "tests", "sanitizer"}


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_commands_of_the_sanitizer(context):
    lines = phase_commands.sanitizer(context, 60.0)
    assert [line[line.index("--tool") + 1] for line in lines] == ["memcheck", "racecheck"]
    assert all(line[0] == "compute-sanitizer" and "--error-exitcode" in line for line in lines)
    assert [line[-2:] for line in lines] == [["--seconds", "13"], ["--seconds", "31"]], "8 s less, to start in"


def test_only_tests_of_the_gpu_take_its_time(context):
    backend, models = phase_commands.tests(context, 30.0)
    files = [part for part in backend if part.startswith("tests/")]
    assert {Path(file).parent.as_posix() for file in files} == {"tests/backends/cuda"}
    assert {"test_cuda_ops", "test_fusion"} <= {Path(file).stem for file in files}
    assert "test_cupy_driver" not in {Path(file).stem for file in files}
    assert models[-2:] == ["-k", " or ".join(phase_commands.ON_DEVICE)]
    assert "-n" not in models


@pytest.mark.parametrize("file", phase_commands.MODELS)
def test_what_trains_on_the_gpu_is_chosen_by_name(file):
    """All tests of the file that need the device, and none of the command line, which start other processes."""
    text = (gpu_run.ROOT / file).read_text()
    names = re.findall(r"^@cuda_devices\.needs_device\n(?:@.*\n)*def (\w+)", text, re.MULTILINE)
    names += re.findall(r"^def (test_\w+)\(.*\):\n    if cuda_devices\.MISSING", text, re.MULTILINE)
    assert names or 'pytest.param("cuda"' in text
    assert all(any(word in name for word in phase_commands.ON_DEVICE) for name in names), names
    starting = re.findall(r"^def (test_\w+)\(.*(?:\n    .*|\n)*?\n    .*\bcommand\(", text, re.MULTILINE)
    assert not [name for name in starting if any(word in name for word in phase_commands.ON_DEVICE)]


def test_every_command_is_a_file_of_this_folder(context):
    for phase in PHASES:
        for line in [*phase.commands(context, 30.0), phase_commands.beside(context, ["steps"])]:
            modules = [part.removeprefix("gpu.") for part in line if part.startswith("gpu.")]
            scripts = [part for part in line if part.endswith(".py") and part.startswith(str(HERE))]
            assert all(Path(script).exists() for script in (*scripts, *(HERE / f"{m}.py" for m in modules))), line
