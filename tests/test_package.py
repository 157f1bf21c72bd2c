"""The package as a whole: layering, what an import does to its process, stubs, forbidden calls."""

import ast
import inspect
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aaecore
from aaecore.kernels import cpu as compiled
from aaecore.models.registry import MODELS

PACKAGE = Path(aaecore.__file__).parent

# A storey may import those before it. Within a room imports may go either way, but never in a circle.
STOREYS = [
    ["_version", "errors", "arguments"],
    ["options"],
    ["core", "files"],
    ["backends", "functions", "datasets"],
    ["_info", "nn", "optim", "priors", "data"],
    ["models"],
    ["training"],
    ["evaluation", "extras"],
    ["app"],
    ["__main__"],
]
ROOMS = {room: height for height, rooms in enumerate(STOREYS) for room in rooms}
NAMES_ALONE = {"callbacks", "posteriors", "random", "schedules", "kernels"}  # of modules that stand in rooms


def module_name(path):
    """("core", "ops") of aaecore/core/ops.py, and ("core",) of the room's own `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_name(p): p for p in PACKAGE.rglob("*.py")}


def imports(name):
    """All modules of the package that a module imports: also inside functions and for type checkers only."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(a.name.split(".")[0] == "aaecore" for a in node.names), f"{path}: import it relatively"
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            assert not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != "aaecore", path
            continue
        base = package[: len(package) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
        for alias in node.names:
            inner = (*base, alias.name)
            yield inner if inner in MODULES else base


def test_imports_point_down():
    rooms = {name[0] for name in MODULES if name} - NAMES_ALONE
    assert rooms == set(ROOMS), "give every room a storey"
    for name in MODULES:
        if not name or name[0] in NAMES_ALONE:
            continue
        for other in imports(name):
            if other[:1] == ("kernels",):
                continue
            assert other, f"{'.'.join(name)} imports from the package itself, which imports all rooms"
            same_room = other[0] == name[0]
            assert same_room or ROOMS[other[0]] < ROOMS[name[0]], f"{'.'.join(name)} imports {'.'.join(other)}"


def test_no_imports_in_a_circle():
    graph = {name: {other for other in imports(name) if other in MODULES and other != name} for name in MODULES}
    left = dict(graph)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted('.'.join(name) for name in left)}"


def test_what_serves_all_models_names_none():
    """Adding a model changes none of these files; an example in a docstring would be a name too."""
    names = {name for name, cls in MODELS.items() if cls.__module__.startswith("aaecore.")}
    assert {"AAE", "GAN", "VAE"} < names
    rooms = ("app", "backends", "core", "training")
    paths = [PACKAGE / "files" / "checkpoint.py", *(p for room in rooms for p in (PACKAGE / room).rglob("*.py"))]
    assert len(paths) > 40
    for path in paths:
        found = set(re.findall(r"\w+", path.read_text())) & names
        assert not found, f"{path.relative_to(PACKAGE)} names {', '.join(found)}"


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_optional_package():
    heavy = ["h5py", "cupy", "matplotlib", "click", "rich", "scipy", "torch", "jax", "sklearn", "pandas"]
    assert run(f"import sys, aaecore; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_import_changes_no_global_state():
    """Random state, floating-point flags (denormals and errstate), handlers, warnings, threads, files."""
    print_state = """
import numpy as np, signal, warnings, os, threading, random, locale
def state():
    tiny = float(np.float32(1e-38) * np.float32(1e-3)), 1e-310 * 0.5
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
    return repr((np.random.get_state()[1].tolist(), random.getstate(), tiny, np.geterr(), handlers, warnings.filters,
                 tasks, sorted(os.environ), os.getcwd(), locale.getlocale(), sorted(os.listdir("."))))
before = state()
import aaecore
print(before == state() and "e-4" in before)
"""
    assert run(print_state) == "True"


@pytest.mark.parametrize("isa", compiled.supported())
def test_every_instruction_set_can_be_forced_and_trains(isa):
    code = """
import numpy as np, aaecore
m = aaecore.AAE(33, 2, (20,), seed=0)
losses = aaecore.Trainer(m, 8).step(np.full((8, 33), 0.25, np.float32))
print(m.backend.isa, round(losses.reconstruction, 3))
"""
    assert run(code, AAECORE_CPU_ISA=isa).split()[0] == isa
    assert run(code, AAECORE_CPU_ISA=isa).split()[1] == run(code).split()[1]


# Every level needs the features of those after it as well; the names are the kernel's (Linux).
LEVELS = {
    "v4bf16": "avx512_bf16",
    "v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
    "v3": "avx2 fma bmi2",
    "v2": "ssse3 sse4_1 sse4_2 popcnt",
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the CPU has: run it on Linux")
def test_no_instruction_set_of_this_cpu_is_missed():
    """The dispatcher against the operating system: what it overlooks would silently drop out of every test."""
    if platform.machine() in ("aarch64", "arm64"):
        assert compiled.supported() == ["neon"]
        return
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    runs = [set(needs.split()) <= flags for needs in LEVELS.values()]
    assert compiled.supported() == [name for i, name in enumerate(LEVELS) if all(runs[i:])]


def test_an_unknown_instruction_set_is_one_clear_error():
    code = "try: import aaecore\nexcept Exception as e: print(type(e).__name__, e)"
    isas = compiled.supported()
    for name in ("v9", "V3", "sse"):
        expected = f"DeviceError AAECORE_CPU_ISA: expected one of {', '.join(isas)} on this CPU, got {name!r}"
        assert run(code, AAECORE_CPU_ISA=name) == expected
    assert run("import aaecore; print(aaecore.AAE(3, 2, (4,)).backend.isa)", AAECORE_CPU_ISA="") == isas[0]


def test_a_cpu_that_runs_none_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(compiled, "supported", list)
    monkeypatch.setattr(compiled, "missing", lambda: "sse4.2")
    with pytest.raises(aaecore.DeviceError, match=r"cpu: expected a CPU of level x86-64-v2, this one has no sse4\.2"):
        aaecore.backends.cpu.CpuBackend("v2")


def test_set_num_threads():
    before = aaecore.get_num_threads()
    aaecore.set_num_threads(3)
    assert aaecore.get_num_threads() == 3
    aaecore.set_num_threads(before)
    for bad in (0, -1, 257, 1.5, True, "2"):
        with pytest.raises(ValueError, match="n: expected an integer from 1 to 256"):
            aaecore.set_num_threads(bad)


def test_show_config(capsys):
    aaecore.show_config()
    text = capsys.readouterr().out
    for word in ("aaecore", "compiler", "instruction set", "threads", "numpy", "h5py", "cupy"):
        assert word in text
    assert np.__version__ in text


def test_stubs_name_what_the_module_has():
    tree = ast.parse((Path(inspect.getfile(aaecore.kernels)).parent / "cpu.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert callable(getattr(compiled, node.name))
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                name = member.name if isinstance(member, ast.FunctionDef) else member.target.id
                assert hasattr(getattr(compiled, node.name), name)
    stubbed = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    public = {n for n in vars(compiled) if not n.startswith("_") and not inspect.ismodule(getattr(compiled, n))}
    assert public == stubbed


def test_every_public_name_exists_and_is_documented():
    for name in aaecore.__all__:
        value = getattr(aaecore, name)
        assert name == "__version__" or value.__doc__, name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_no_dangerous_calls(path):
    """No code is loaded from data."""
    text = path.read_text()
    for pattern in (
        r"\bpickle\b",
        r"\beval\(",
        r"\bexec\(",
        r"allow_pickle=True",
        r"yaml\.load",
        r"shell=True",
        r"os\.system",
    ):
        assert not re.search(pattern, text), pattern
