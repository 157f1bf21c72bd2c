"""What all commands of a run on a GPU find: paths, tools, the compiler, wheels, folders for what libraries compile."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parent
STAND_IN = ROOT / "tests" / "stand_in"  # where `import cupy` finds the emulator
TOOLS = ("/usr/local/cuda/bin", "/opt/nvidia/nsight-compute/*")  # where NVIDIA installs them


def tool_path(before: str, patterns: Sequence[str] = TOOLS) -> str:
    """PATH, and after it the folders of NVIDIA's tools that are there, the newest version first."""
    folders = [f for pattern in patterns for f in sorted(glob.glob(pattern), reverse=True) if os.path.isdir(f)]
    return os.pathsep.join(p for p in (before, *folders) if p)


def compiler(before: Mapping[str, str], configured: str | None = sysconfig.get_config_var("CXX")) -> dict[str, str]:
    """CC and CXX where the compiler that setuptools would take is missing and g++ is there."""
    command = (before.get("CXX") or configured or "c++").split()[0]
    there = shutil.which(command, path=before.get("PATH")) or not shutil.which("g++", path=before.get("PATH"))
    return {} if there else {"CC": "gcc", "CXX": "g++"}


def environment(folder: Path, before: Mapping[str, str], *, dry: bool = False) -> dict[str, str]:
    """That of all commands. What libraries compile is kept below the folder, and found by the next process."""
    paths = [str(STAND_IN), str(ROOT / "tests")] if dry else []
    paths += [str(folder / "lib"), str(folder / "wheels"), str(BENCH), before.get("PYTHONPATH", "")]
    return {
        **before,
        **compiler(before),
        **({"AAECORE_GPU_DRY": "1"} if dry else {}),
        "PATH": tool_path(before.get("PATH", os.defpath)),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else is installed there
        "AAECORE_REQUIRE_GPU": "1",
        "AAECORE_CACHE": str(folder / "kernels"),
        "CUPY_CACHE_DIR": str(folder / "cupy"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "3",  # of each of several processes that compile at the same time
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "all",  # which products and kernels were found to be the fastest
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take the GPU's memory from the others
    }


def unpack(wheels: Sequence[Path], folder: Path) -> list[str]:
    """Puts wheels where commands find them, before what is installed; gives the names of those not for this Python.

    A wheel is an archive of what would be installed, so neither pip nor a network is needed.
    """
    tags = ("none-any", f"cp{sys.version_info.major}{sys.version_info.minor}", "abi3")
    fitting = [wheel for wheel in wheels if any(tag in wheel.name for tag in tags)]
    for wheel in fitting:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return [wheel.name for wheel in wheels if wheel not in fitting]
