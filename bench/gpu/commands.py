"""The phases of a run on a GPU, in the order of what they tell, and the commands of each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from gpu.environment import BENCH, ROOT
from gpu.phases import Context, Phase
from gpu.processes import module

STAND_IN = "test_cupy_driver"  # of CuPy: not for a GPU
MODELS = [  # files that train in their process; those of the command line start others
    "tests/models/test_vae.py", "tests/models/test_users_models.py", "tests/models/test_users_functions.py",
    "tests/data/test_labels.py", "tests/training/test_dials.py",
]  # fmt: skip
ON_DEVICE = ("cuda", "gpu", "graphs_of_many", "on_the_device", "devices_agree")  # in the names of their tests
HANGING = 12  # seconds after which a test of those says where it is
DRY_TESTS = ["tests/backends/cuda/test_cuda_training.py", "-k", "not burst"]  # the emulator is no GPU
DRY_EPOCH = ["--size", "12-9-2-7", "--rows", "40"]
SANITIZER = {"memcheck": 0.35, "racecheck": 0.65}  # of its time; races take several times as long to find
Lines = list[list[str]]


def _seconds(seconds: float) -> list[str]:
    return ["--seconds", f"{seconds:.0f}"]


def preflight(context: Context, seconds: float) -> Lines:
    return [module("preflight")]


def build(context: Context, seconds: float) -> Lines:
    line = module("build", "--folder", str(context.build))
    return [line, [*line, "--kernels"]]


def tests(context: Context, seconds: float) -> Lines:
    """Those of the CUDA backend, in several processes if pytest-xdist is there; then whole training.

    The latter are few: one process, which makes one context and loads each kernel once. It says every test by name, so
    that the log has which were done where the time is up. Warnings of libraries that the project has not seen are no
    errors. If all fail, the log stays readable.
    """
    line = [context.python, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "-W", "default"]
    line += ["--tb=short", "--maxfail=60"]
    models = [*line, "-vv", "-o", f"faulthandler_timeout={HANGING}", "--durations=5", *MODELS]
    if importable(context, "xdist"):
        line += ["-p", "xdist.plugin", "-n", str(min(6, len(os.sched_getaffinity(0))))]
    if context.dry:
        return [[*line, *DRY_TESTS]]
    folder = ROOT / "tests" / "backends" / "cuda"
    files = sorted(str(path.relative_to(ROOT)) for path in folder.glob("test_*.py") if path.stem != STAND_IN)
    return [[*line, *files], [*models, "-k", " or ".join(ON_DEVICE)]]


def own(context: Context, seconds: float) -> Lines:
    return [module("own", *_seconds(seconds), "--sizes", *context.sizes)]


def timeline(context: Context, seconds: float) -> Lines:
    options = ["--sizes", *context.sizes[:2], "--out", str(context.logs)]
    return [module("timeline", *_seconds(seconds), *options)]


def ceilings(context: Context, seconds: float) -> Lines:
    return [module("ceilings", *(["--quick"] if context.quick else []), *_seconds(seconds))]


def switches(context: Context, seconds: float) -> Lines:
    return [module("switches", *_seconds(seconds))]


def kernels(context: Context, seconds: float) -> Lines:
    return [module("profile", "--record", str(context.record), *_seconds(seconds))]


def steps(context: Context, seconds: float) -> Lines:
    line = module("compared", "--sizes", *context.sizes, *_seconds(seconds))
    return [[*line, *(["--quick"] if context.quick else [])]]


def beside(context: Context, phases: Sequence[str]) -> list[str]:
    """What runs beside phases that time nothing: it compiles the peers' steps, if they take part, for their caches on
    the disk; else it reads PyTorch, which is large, from a disk that may be cold."""
    if "steps" not in phases:
        return [context.python, "-P", "-c", "import torch"]
    return module("compared", "--warm", "--sizes", *context.sizes, *(["--quick"] if context.quick else []))


def sanitizer(context: Context, seconds: float) -> Lines:
    """API errors are not reported: CuPy tries what may fail."""
    line = ["compute-sanitizer", "--error-exitcode", "86", "--print-limit", "20", "--report-api-errors", "no"]
    watched = {tool: module("sanitize", *_seconds(max(1.0, part * seconds - 8))) for tool, part in SANITIZER.items()}
    first = next(iter(watched.values()))
    return [first] if context.dry else [[*line, "--tool", tool, *command] for tool, command in watched.items()]


def ncu(context: Context, seconds: float) -> Lines:
    return [module("ncu", *_seconds(seconds), "--out", str(context.logs))]


def epochs(context: Context, seconds: float) -> Lines:
    return [module("epoch", *_seconds(seconds), *(DRY_EPOCH if context.dry else []))]


def suite(context: Context, seconds: float) -> Lines:
    """Ops, and steps of two sizes; pytest-benchmark's own file lies beside the log."""
    line = [context.python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin", "--no-header"]
    line += [f"--benchmark-json={context.logs / 'gpu-suite.json'}"]
    line += ["--benchmark-only", "-k", "test_op[fill" if context.dry else "test_op or test_step[a or test_step[e"]
    return [[*line, str(BENCH / "gpu" / "test_speed.py")]]


ALWAYS = ("preflight", "build")
PHASES = [
    Phase("preflight", 15, preflight, needs=(), timed=False),
    Phase("build", 12, build, needs=("gpu",), timed=False),
    Phase("tests", 60, tests, tests=True, timed=False),
    Phase("sanitizer", 70, sanitizer, tool="compute-sanitizer", apart=True, timed=False),
    Phase("own", 25, own),
    Phase("timeline", 40, timeline),
    Phase("ceilings", 30, ceilings, needs=("gpu",)),
    Phase("switches", 40, switches),
    Phase("kernels", 25, kernels),
    Phase("steps", 170, steps, needs=("gpu",)),
    Phase("ncu", 30, ncu, tool="ncu"),
    Phase("epochs", 20, epochs),
    Phase("suite", 20, suite, package="pytest_benchmark", tests=True),
]


def importable(context: Context, name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    line = [context.python, "-c", code]
    return subprocess.run(line, env=dict(context.environment), check=False).returncode == 0
