"""What `make gpu` needs before anything long starts: checked by name, with what to do about each.

    python -m gpu.preflight            a line of JSON for every check; fails if something needed is missing
    python -m gpu.preflight --warm     compiles the CUDA kernels for this GPU into the cache, several at a time

Only the standard library is imported until it is known to be enough.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

OLDEST_PYTHON = (3, 11)
PROBE = 'extern "C" __global__ void probe(int* out) { *out = 42; }'
Row = dict[str, Any]


class Missing(Exception):
    """What is not there, and how to get it."""


class Check(NamedTuple):
    name: str
    look: Callable[[], str]  # what was found; raises `Missing`
    required: bool = True


def python() -> str:
    if sys.version_info < OLDEST_PYTHON:
        raise Missing(f"expected Python 3.11 or newer, this is {sys.version.split()[0]}; GPU_PYTHON=... for another")
    return sys.version.split()[0]


def headers() -> str:
    folder = Path(sysconfig.get_path("include"))
    if not (folder / "Python.h").exists():
        raise Missing(f"Python.h is not in {folder}: install this Python's headers (Debian, Ubuntu: python3-dev)")
    return "Python.h"


def compiler() -> str:
    """The one that setuptools takes: the one that this Python was built with, if there is no other word."""
    command = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()[0]
    found = shutil.which(command)
    if found is None:
        other = "; CC=gcc CXX=g++ makes it use g++" if shutil.which("g++") else " (Debian, Ubuntu: g++)"
        raise Missing(f"no C++ compiler: {command} is not on the PATH{other}")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [command])[0]


def package(name: str, distribution: str = "", least: tuple[int, ...] = ()) -> Callable[[], str]:
    """Looks whether a package is there, without importing it, and is new enough."""

    def look() -> str:
        known = distribution or name
        if importlib.util.find_spec(name) is None:
            raise Missing(f"{known} is not installed (pip install {known}, or a wheel of it in GPU_WHEELS)")
        try:
            version = metadata.version(known)
        except metadata.PackageNotFoundError:
            return "found"
        numbers = tuple(int(part) for part in version.split(".")[: len(least)] if part.isdecimal())
        if numbers < least:
            wanted = ".".join(map(str, least))
            raise Missing(f"{known} {version} is too old: expected {wanted} or newer (pip install '{known}>={wanted}')")
        return version

    return look


def tool(name: str) -> Callable[[], str]:
    def look() -> str:
        if shutil.which(name) is None:
            raise Missing(f"{name} is not on the PATH")
        return "found"

    return look


def cupy() -> str:
    try:
        import cupy as library
    except Exception as error:  # whatever its libraries raise
        raise Missing(f"cupy cannot be imported ({error}); pip install cupy-cuda13x or cupy-cuda12x") from None
    return str(library.__version__)


def nvrtc() -> str:
    try:
        from cupy.cuda import nvrtc as library

        return "{}.{}".format(*library.getVersion())
    except Exception as error:
        raise Missing(f"NVRTC cannot be loaded ({error}); pip install nvidia-cuda-nvrtc, or a CUDA toolkit") from None


def gpu() -> str:
    """A kernel is compiled, loaded and run."""
    try:
        import cupy as library
        from cupy.cuda import nvrtc as compiler

        properties = library.cuda.runtime.getDeviceProperties(library.cuda.runtime.getDevice())
        program = compiler.createProgram(PROBE, "probe.cu", [], [])
        compiler.compileProgram(program, ("--gpu-architecture=sm_{major}{minor}".format(**properties),))
        module = library.cuda.function.Module()
        module.load(compiler.getCUBIN(program) + b"\0")
        out = library.zeros(1, "int32")
        module.get_function("probe")((1,), (1,), (out.data.ptr,))
        assert int(out.get()[0]) == 42, "a kernel ran and left another number than it should"
    except Exception as error:
        raise Missing(f"no usable GPU: {error}") from None
    return str(properties["name"].decode())


CHECKS = [
    Check("python", python),
    Check("Python.h", headers),
    Check("C++ compiler", compiler),
    Check("numpy", package("numpy", least=(2, 0))),
    Check("h5py", package("h5py", least=(3, 11))),
    Check("cython", package("Cython", "cython", (3, 1))),
    Check("setuptools", package("setuptools", least=(77,))),
    Check("pytest", package("pytest", least=(8,))),
    Check("cupy", cupy),
    Check("NVRTC", nvrtc),
    Check("GPU", gpu),
    Check("pytest-benchmark", package("pytest_benchmark", "pytest-benchmark", (5,)), required=False),
    Check("pytest-xdist", package("xdist", "pytest-xdist"), required=False),
    Check("torch", package("torch"), required=False),
    Check("jax", package("jax"), required=False),
    *(Check(t, tool(t), required=False) for t in ("compute-sanitizer", "nvcc", "cuobjdump", "nvidia-smi")),
]


def look(check: Check) -> Row:
    row: Row = {"check": check.name, "required": check.required}
    try:
        return row | {"found": check.look()}
    except Missing as missing:
        return row | {"missing": str(missing)}


def describe() -> Row:
    """The GPU, for the head of a result."""
    import cupy as library

    runtime = library.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "gpu": properties["name"].decode(),
        "capability": [properties["major"], properties["minor"]],
        "multiprocessors": properties["multiProcessorCount"],
        "memory MB": properties["totalGlobalMem"] >> 20,
        "L2 MB": properties["l2CacheSize"] >> 20,
        "driver": runtime.driverGetVersion(),
        "CUDA": runtime.runtimeGetVersion(),
    }


def preflight() -> int:
    """Checks in order; the GPU is not tried where a package is missing that it is tried with."""
    missing: list[str] = []
    for check in CHECKS:
        if check.name in ("NVRTC", "GPU") and any(name in missing for name in ("cupy", "NVRTC")):
            continue
        row = look(check)
        print(json.dumps(row), flush=True)
        if check.required and "missing" in row:
            missing.append(check.name)
    if not missing:
        print(json.dumps(describe()), flush=True)
    return len(missing)


def warm() -> int:
    """Compiles every source for the GPU that is there, in processes beside each other."""
    import cupy as library

    from aaecore import nvrtc as compiler

    runtime = library.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    arch = compiler.architecture((properties["major"], properties["minor"]))
    code = "import sys; from aaecore import nvrtc; nvrtc.cubin(*sys.argv[1:])"
    begin = time.perf_counter()
    names = [name for name in compiler.sources() if name.endswith(".cu")]
    running = {name: subprocess.Popen([sys.executable, "-P", "-c", code, name, arch]) for name in names}
    failed = [name for name, process in running.items() if process.wait()]
    row: Row = {"kernels": len(names), "arch": arch, "seconds": round(time.perf_counter() - begin, 1)}
    print(json.dumps(row | ({"error": f"not compiled: {', '.join(failed)}"} if failed else {})), flush=True)
    return len(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", action="store_true")
    sys.exit(min(1, (warm if parser.parse_args().warm else preflight)()))


if __name__ == "__main__":
    main()
