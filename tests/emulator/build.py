"""Compiles the kernels with g++, and the emulator's runtime, into one shared library, kept in a cache folder.

The folder is AAECORE_EMULATOR_CACHE, or one below the temporary folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

Mode = Literal["fast", "check", "asan"]

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[1] / "kernels"

COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-ffp-contract=off", "-fno-fast-math"]
# For file and line of a report. addr2line (binutils 2.40) takes wrong names of included files out of DWARF 5.
DEBUG = ["-g1", "-gdwarf-4"]
# CUDA's indices are unsigned, and everybody compares them with int: nvcc says nothing either.
WARNINGS = ["-Wall", "-Wextra", "-Wno-sign-compare"]
KERNEL_FLAGS: dict[Mode, list[str]] = {
    "fast": ["-O3", "-DEMU_UNROLL"],
    "check": ["-O1", "-DEMU_CHECK", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"],
    "asan": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
}
RUNTIME_FLAGS: dict[Mode, list[str]] = {
    "fast": ["-O3"],
    "check": ["-O3", "-DEMU_CHECK"],
    "asan": ["-O1", "-fsanitize=address"],
}
LINK_FLAGS: dict[Mode, list[str]] = {"fast": [], "check": [], "asan": ["-fsanitize=address,undefined"]}

KEEP_S = 30 * 86400  # what nobody has used for so long goes


class BuildError(RuntimeError):
    """What g++ had to say."""


def unavailable() -> str | None:
    """Why there can be no emulator on this machine, or None if there can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the emulator switches stacks in x86-64 assembly, and this is {platform.machine()}: run it on x86-64"
    if not shutil.which("g++"):
        return "the emulator needs g++, which is missing: install it (Debian, Ubuntu: apt install g++)"
    return None


def build(
    mode: Mode = "fast", sources: Mapping[str, str] | None = None, replace_all: bool = False, sm80: bool = True
) -> Path:
    """The library of all kernels. `sources` (file name -> text) stands in for files of kernels/, or adds to them;
    with `replace_all` its .cu files are the only ones. Without `sm80` kernels see a chip older than sm_80."""
    texts = (
        read_texts(KERNELS / "cuda", (".cu", ".cuh")) | read_texts(KERNELS / "shared", (".h",)) | dict(sources or {})
    )
    units = [n for n in texts if n.endswith(".cu") and (not replace_all or n in (sources or {}))]
    texts |= read_texts(HERE, (".cpp", ".h")) | {wrapper(n): wrap(n) for n in units}
    runtime = [f.name for f in sorted(HERE.glob("*.cpp")) if mode == "check" or f.stem not in ("checker", "profile")]
    kernel_flags = [*COMMON, *DEBUG, *host_flags(), *WARNINGS, *KERNEL_FLAGS[mode], f"-DHAS_SM80={int(sm80)}"]
    runtime_flags = [*COMMON, *DEBUG, *host_flags(), *WARNINGS, *RUNTIME_FLAGS[mode]]
    objects = {wrapper(n): kernel_flags for n in sorted(units)} | dict.fromkeys(runtime, runtime_flags)
    keys = {name: key(texts, name, flags) for name, flags in objects.items()}
    library = cache() / f"{digest(compiler(), *LINK_FLAGS[mode], *keys.values())}.so"
    if not is_fresh(library):
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            compile_all(Path(folder), texts, objects, keys)
            link(Path(folder), library, list(keys.values()), LINK_FLAGS[mode])
        prune()
    return library


def compile_all(
    folder: Path, texts: Mapping[str, str], objects: Mapping[str, list[str]], keys: Mapping[str, str]
) -> None:
    """Compiles what the cache lacks, two at a time. Who builds the same at the same time writes the same files."""
    for name, text in texts.items():
        (folder / name).write_text(text)

    def compile_one(name: str) -> None:
        target = cache() / f"{keys[name]}.o"
        if not is_fresh(target):
            call(folder, ["g++", *objects[name], "-I.", "-c", name, "-o", target.name])
            os.replace(folder / target.name, target)

    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(compile_one, objects):
            pass


def link(folder: Path, library: Path, keys: list[str], flags: list[str]) -> None:
    """Links objects of the cache into a library, which is there whole or not at all."""
    objects = [str(cache() / f"{k}.o") for k in keys]
    call(folder, ["g++", "-shared", *objects, *flags, "-Wl,-Bsymbolic", "-o", library.name])
    os.replace(folder / library.name, library)


def call(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(" ".join(command) + "\n" + done.stderr)


def read_texts(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    return {f.name: f.read_text() for f in sorted(folder.iterdir()) if f.suffix in suffixes}


def wrapper(unit: str) -> str:
    return f"unit_{unit}.cpp"


def wrap(unit: str) -> str:
    """Each file in a namespace of its own: two of them may use one name for different things, and the linker would
    take the inline functions of one for those of the other."""
    namespace = re.sub(r"\W", "_", f"unit_{unit}")
    return f'#include "cuda_emu.h"\nnamespace {namespace} {{\n#include "{unit}"\n}}\n'


def key(texts: Mapping[str, str], name: str, flags: list[str]) -> str:
    """Changes when the object file of a source would: with its text, the headers it includes, or how it is compiled."""
    needed: dict[str, str] = {}
    todo = [name]
    while todo:
        n = todo.pop()
        if n in texts and n not in needed:
            needed[n] = texts[n]
            todo += re.findall(r'^\s*#\s*include\s*"(.*?)"', texts[n], re.MULTILINE)
    return digest(compiler(), *flags, *(part for n in sorted(needed) for part in (n, needed[n])))


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def is_fresh(file: Path) -> bool:
    """Whether a file of the cache is there; if so, it has been used now."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def prune() -> None:
    """Every change of a source leaves old libraries behind."""
    for file in cache().glob("*.*o"):
        try:
            if file.stat().st_mtime < time.time() - KEEP_S:
                file.unlink()
        except FileNotFoundError:
            continue  # another process was faster


@functools.cache
def cache() -> Path:
    """The folder of what has been compiled: ours alone, as its libraries get loaded."""
    given = os.environ.get("AAECORE_EMULATOR_CACHE")
    folder = Path(given or Path(tempfile.gettempdir()) / f"aaecore_emulator_{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or (not given and folder.stat().st_mode & 0o077):
        raise BuildError(f"{folder} belongs to somebody else, or others can write there")
    return folder.resolve()


@functools.cache
def compiler() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def host_flags() -> list[str]:
    """fmaf in one instruction where the CPU has it; the library's function gives the same bits elsewhere."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    return ["-mavx2", "-mfma"] if {"avx2", "fma"} <= set(flags) else []


def asan_environment() -> dict[str, str]:
    """What the environment of a process needs before it can load a library of the mode `asan`."""

    def path(name: str) -> str:
        command = ["g++", f"-print-file-name={name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return {"LD_PRELOAD": f"{path('libasan.so')} {path('libubsan.so')}", "ASAN_OPTIONS": "detect_leaks=0"}
