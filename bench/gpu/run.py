"""All that wants a GPU, in ten minutes: build, tests, sanitizers, ceilings, kernels, steps beside peers: `make gpu`.

    python -m gpu.run                              everything, for the Python that runs it; no network, no environment
    python -m gpu.run --sizes a g --phases steps   some phases (the build comes first), some sizes
    python -m gpu.run --quick                      a first impression in three minutes
    python -m gpu.run --out FOLDER                 results elsewhere than bench/results/

It writes gpu-<name>.json after every phase and gpu-<name>.md at the end, and what all commands say into gpu.log; a
short table comes last on standard output. Anything less than a whole run goes to .benchmarks/, and so does the log
unless there is an --out. The status is 0 if no phase failed. AAECORE_GPU_BUDGET are the seconds of the whole run,
GPU_WHEELS is a folder of wheels to be put on the path.
What is compiled lies below build/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gpu import table
from gpu.phases import Budget, Context, Outcome, Phase, run

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent
ROOT = BENCH.parent
MODULE = ("-P", "-m")  # not from the current folder, whose sources have no compiled module
BUDGET = 560.0  # seconds
QUICK_BUDGET = 180.0
SIZES = ("a", "g", "e", "f", "d", "c", "b")  # g: the network of a at batch 4096; the first ones matter most
Record = dict[str, Any]


def preflight(context: Context, seconds: float) -> list[list[str]]:
    return [[context.python, *MODULE, "gpu.preflight"]]


def build(context: Context, seconds: float) -> list[list[str]]:
    line = [context.python, "setup.py", "build", "--force", "-j", str(len(os.sched_getaffinity(0)))]
    line += ["--build-base", str(context.build / "base"), "--build-lib", str(context.build / "lib")]
    return [line, [context.python, *MODULE, "gpu.preflight", "--warm"]]


def tests(context: Context, seconds: float) -> list[list[str]]:
    """Those of the CUDA backend first, in several processes if pytest-xdist is there; not those of the emulator.

    Warnings of libraries that the project has not seen are no errors. If all fail, the log stays readable.
    """
    line = [context.python, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "-W", "default"]
    line += ["--tb=short", "--maxfail=60"]
    if importable(context, "xdist"):
        line += ["-p", "xdist.plugin", "-n", str(min(6, len(os.sched_getaffinity(0))))]
    cuda = [*sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_cuda*.py")), "tests/test_fusion.py"]
    if context.quick:
        return [[*line, *cuda]]
    emulated = ("--ignore=tests/cuda_check", "--ignore=tests/test_cupy_driver.py", "--ignore-glob=*/test_emulator*.py")
    others = [*(f"--ignore={name}" for name in cuda), *emulated, "tests"]
    return [[*line, *cuda], [*line, *others]]


def sanitizer(context: Context, seconds: float) -> list[list[str]]:
    """API errors are not reported: CuPy tries what may fail."""
    line = ["compute-sanitizer", "--error-exitcode", "86", "--print-limit", "20", "--report-api-errors", "no"]
    script = [context.python, *MODULE, "gpu.sanitize", "--seconds", f"{max(1, seconds / 2 - 8):.0f}"]
    return [[*line, "--tool", tool, *script] for tool in ("memcheck", "racecheck")]


def ceilings(context: Context, seconds: float) -> list[list[str]]:
    return [[context.python, *MODULE, "gpu.ceilings", *(["--quick"] if context.quick else [])]]


def kernels(context: Context, seconds: float) -> list[list[str]]:
    return [[context.python, *MODULE, "gpu.profile", "--record", str(context.record), *_limit(seconds)]]


def steps(context: Context, seconds: float) -> list[list[str]]:
    line = [context.python, *MODULE, "gpu.compared", "--sizes", *context.sizes, *_limit(seconds)]
    return [[*line, *(["--quick"] if context.quick else [])]]


def epochs(context: Context, seconds: float) -> list[list[str]]:
    return [[context.python, *MODULE, "gpu.epoch", *_limit(seconds)]]


def suite(context: Context, seconds: float) -> list[list[str]]:
    """Ops, and steps of two sizes; pytest-benchmark's own file lies beside the log."""
    line = [context.python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin", "--no-header"]
    line += [f"--benchmark-json={context.logs / 'gpu-suite.json'}"]
    line += ["--benchmark-only", "-k", "test_op or test_step[a or test_step[e"]
    return [[*line, str(HERE / "test_speed.py")]]


def _limit(seconds: float) -> list[str]:
    return ["--seconds", f"{seconds:.0f}"]


BUILT = ("preflight", "build")
PHASES = [
    Phase("preflight", 25, preflight),
    Phase("build", 75, build, ("preflight",)),
    Phase("tests", 100, tests, BUILT, tests=True),
    Phase("sanitizer", 70, sanitizer, BUILT, tool="compute-sanitizer", apart=True),
    Phase("ceilings", 35, ceilings, BUILT),
    Phase("kernels", 25, kernels, BUILT),
    Phase("steps", 170, steps, BUILT),
    Phase("epochs", 25, epochs, BUILT),
    Phase("suite", 25, suite, BUILT, package="pytest_benchmark", tests=True),
]


def importable(context: Context, name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    line = [context.python, "-c", code]
    return subprocess.run(line, env=dict(context.environment), check=False).returncode == 0


def environment(build_folder: Path, before: Mapping[str, str]) -> dict[str, str]:
    """That of all commands. What libraries compile is kept below the build folder."""
    paths = [str(build_folder / "lib"), str(build_folder / "wheels"), str(BENCH), before.get("PYTHONPATH", "")]
    return {
        **before,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else is installed there
        "AAECORE_REQUIRE_GPU": "1",
        "AAECORE_CACHE": str(build_folder / "kernels"),
        "CUPY_CACHE_DIR": str(build_folder / "cupy"),
        "TORCHINDUCTOR_CACHE_DIR": str(build_folder / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "3",  # of each of several processes that compile at the same time
        "TRITON_CACHE_DIR": str(build_folder / "triton"),
        "JAX_COMPILATION_CACHE_DIR": str(build_folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take the GPU's memory from the others
    }


def slug(gpu: str) -> str:
    """gpu-nvidia-h200"""
    return "gpu-" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def wheels(context: Context, folder: str, log: TextIO) -> None:
    """Unpacks the wheels of a folder where commands find them; SystemExit if pip cannot."""
    found = sorted(str(p) for p in Path(folder).glob("*.whl"))
    line = [context.python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade", "--target"]
    line += [str(context.build / "wheels"), *found]
    if not found or subprocess.run(line, stdout=log, stderr=log, check=False).returncode:
        raise SystemExit(f"GPU_WHEELS={folder}: no wheels there, or pip could not unpack them; see {log.name}")


def outcome_of(phase: Phase, record: Record, context: Context, seconds: float, log: TextIO) -> Outcome:
    """Runs a phase, unless something that it needs is not there."""
    bad = [name for name in phase.needs if record["phases"].get(name, {}).get("status", "ok") != "ok"]
    if bad:
        return Outcome(status="left out", message=f"{bad[0]}: {record['phases'][bad[0]]['status']}")
    if phase.tool and shutil.which(phase.tool) is None:
        return Outcome(status="left out", message=f"{phase.tool} is not on the PATH")
    if phase.package and not importable(context, phase.package):
        return Outcome(status="left out", message=f"{phase.package} is not installed")
    return run(phase, context, seconds, log)


def head(record: Record, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Puts what the preflight found where everybody looks for it; gives what is missing, by name."""
    record["versions"] = {row["check"]: row["found"] for row in rows if "found" in row}
    record["machine"] |= next((dict(row) for row in rows if "gpu" in row), {})
    return [f"{row['check']}: {row['missing']}" for row in rows if row.get("required") and "missing" in row]


def write(record: Record, context: Context) -> None:
    """The record, without the names of folders outside the repository that messages may have."""
    text = json.dumps(record, indent=1).replace(str(ROOT), ".").replace(str(Path.home()), "~")
    new = context.record.with_suffix(".new")
    new.write_text(text + "\n", encoding="utf-8")
    os.replace(new, context.record)


def measure(phases: Sequence[Phase], context: Context, budget: Budget, log: TextIO, record: Record) -> None:
    """Fills the record, which is written after every phase."""
    for i, phase in enumerate(phases):
        seconds = budget.left / 2 if phase.name in BUILT else budget.share([p.weight for p in phases[i:]])
        print(f"{time.strftime('%H:%M:%S')}  {phase.name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
        log.write(f"\n===== {phase.name}\n")
        outcome = outcome_of(phase, record, context, seconds, log)
        if phase.name == "preflight":
            missing = head(record, outcome.rows)
            outcome.message = f"missing: {'; '.join(missing)}" if missing else outcome.message
        record["phases"][phase.name] = {
            "status": outcome.status, "seconds": outcome.seconds, "message": outcome.message,
        }  # fmt: skip
        record["results"][phase.name] = outcome.rows
        write(record, context)
        if phase.name in BUILT and outcome.is_bad:
            return  # nothing else can run


def renamed(context: Context, record: Record) -> list[Path]:
    """The result under the GPU's name, with its tables."""
    stem = slug(record["machine"]["gpu"])
    made = [context.record.with_name(f"{stem}{suffix}") for suffix in (".json", ".md")]
    os.replace(context.record, made[0])
    made[1].write_text(f"# {stem}\n\n{table.markdown(record)}\n", encoding="utf-8")
    return made


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=[p.name for p in PHASES], metavar="PHASE")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, metavar="SIZE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def end(*_: object) -> None:
    raise SystemExit("ended by a signal")


def main() -> None:
    options, begin = arguments(), time.monotonic()
    whole = not (options.phases or options.sizes or options.quick)
    folder = (options.out or (BENCH / "results" if whole else ROOT / ".benchmarks")).resolve()
    logs = (options.out or ROOT / ".benchmarks").resolve()
    build_folder = ROOT / "build" / "gpu"
    for each in (folder, logs, build_folder):
        each.mkdir(parents=True, exist_ok=True)
    sizes = tuple(options.sizes or (SIZES[:2] if options.quick else SIZES))
    context = Context(
        sys.executable, ROOT, build_folder, environment(build_folder, os.environ), sizes, options.quick,
        folder / "gpu-running.json", logs,
    )  # fmt: skip
    seconds = float(os.environ.get("AAECORE_GPU_BUDGET") or (QUICK_BUDGET if options.quick else BUDGET))
    chosen = [p for p in PHASES if p.name in (*BUILT, *(options.phases or [q.name for q in PHASES]))]
    record: Record = {
        "machine": {"cores": len(os.sched_getaffinity(0))}, "date": time.strftime("%Y-%m-%d"), "sizes": sizes,
        "budget": seconds, "phases": {}, "results": {},
    }  # fmt: skip
    signal.signal(signal.SIGTERM, end)
    with (logs / "gpu.log").open("w", encoding="utf-8") as log:
        if os.environ.get("GPU_WHEELS"):
            wheels(context, os.environ["GPU_WHEELS"], log)
        try:
            measure(chosen, context, Budget(seconds), log, record)
        finally:
            record["seconds"] = round(time.monotonic() - begin, 1)
            write(record, context)
    if "gpu" in record["machine"]:
        print(f"wrote {', '.join(str(p) for p in renamed(context, record))}", file=sys.stderr)
    else:
        context.record.unlink()
    print(table.short(record))
    sys.exit(any(phase["status"] in ("failed", "out of time") for phase in record["phases"].values()))


if __name__ == "__main__":
    main()
