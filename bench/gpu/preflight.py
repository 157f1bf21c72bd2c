"""What `make gpu` needs before anything long starts: checked by name, with what to do about each.

    python -m gpu.preflight            a line of JSON for every check; fails if something that all needs is missing

What is only needed to compile may be missing where a pack serves (`gpu/build.py`). Only the standard library is
imported until it is known to be enough.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
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
    needed: str = "for all"  # or "to compile", or ""


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


def package(
    name: str, distribution: str = "", least: tuple[int, ...] = (), broken: tuple[str, ...] = ()
) -> Callable[[], str]:
    """Looks whether a package is there, without importing it, is new enough and none of the broken versions."""

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
        if version in broken:
            raise Missing(f"{known} {version} is broken: expected another version (pip install '{known}!={version}')")
        return version

    return look


def packaging() -> str:
    """Setuptools brings its own, which an older one that is installed hides."""
    if importlib.util.find_spec("packaging") is None:
        return "setuptools' own"
    return package("packaging", least=(24, 2))()


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


def gpu() -> str:
    """Memory is filled and read."""
    try:
        import cupy as library

        properties = library.cuda.runtime.getDeviceProperties(library.cuda.runtime.getDevice())
        out = library.zeros(4, "uint8")
        out.data.memset_async(42, out.nbytes)
        assert bytes(out.get()) == b"****", "its memory does not keep what is written there"
    except Exception as error:
        raise Missing(f"no usable GPU: {error}") from None
    return str(properties["name"].decode())


def nvrtc() -> str:
    """A kernel is compiled and loaded."""
    try:
        import cupy as library
        from cupy.cuda import nvrtc as compiler

        properties = library.cuda.runtime.getDeviceProperties(library.cuda.runtime.getDevice())
        program = compiler.createProgram(PROBE, "probe.cu", [], [])
        compiler.compileProgram(program, ("--gpu-architecture=sm_{major}{minor}".format(**properties),))
        library.cuda.function.Module().load(compiler.getCUBIN(program) + b"\0")
        return "{}.{}".format(*compiler.getVersion())
    except Exception as error:
        raise Missing(f"NVRTC does not work ({error}); pip install nvidia-cuda-nvrtc, or a CUDA toolkit") from None


CHECKS = [
    Check("python", python),
    Check("Python.h", headers, "to compile"),
    Check("C++ compiler", compiler, "to compile"),
    Check("numpy", package("numpy", least=(2, 0))),
    Check("h5py", package("h5py", least=(3, 11))),
    Check("cython", package("Cython", "cython", (3, 1), ("3.2.6",)), "to compile"),
    Check("setuptools", package("setuptools", least=(77,)), "to compile"),
    Check("packaging", packaging, "to compile"),
    Check("pytest", package("pytest", least=(8,))),
    Check("cupy", cupy),
    Check("GPU", gpu),
    Check("NVRTC", nvrtc, "to compile"),
    Check("pytest-benchmark", package("pytest_benchmark", "pytest-benchmark", (5,)), ""),
    Check("pytest-xdist", package("xdist", "pytest-xdist"), ""),
    Check("torch", package("torch"), ""),
    Check("jax", package("jax"), ""),
    *(Check(t, tool(t), "") for t in ("compute-sanitizer", "ncu", "nvcc", "cuobjdump", "nvidia-smi")),
]


def look(check: Check) -> Row:
    row: Row = {"check": check.name, "needed": check.needed}
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


def main() -> None:
    """Checks in order; what needs CuPy or a GPU is not tried where that is missing."""
    missing: list[str] = []
    for check in CHECKS:
        if check.name in ("GPU", "NVRTC") and {"cupy", "GPU"} & set(missing):
            continue
        row = look(check)
        print(json.dumps(row), flush=True)
        if check.needed == "for all" and "missing" in row:
            missing.append(check.name)
        if check.name == "GPU" and "found" in row:
            print(json.dumps(describe()), flush=True)
    sys.exit(bool(missing))


if __name__ == "__main__":
    main()
