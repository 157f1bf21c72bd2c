"""What NVRTC makes of the CUDA kernels, without a GPU: registers, memory, occupancy and instructions of each.

As a program: a table of the kernels on an architecture, and with --budgets what `aaecore.backends.cuda.kernels` should
allow them.

    python tests/cuda_check/cubins.py sm_90a
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from aaecore.backends.cuda import nvrtc
from aaecore.backends.cuda.kernels import KERNELS
from aaecore.errors import DeviceError

INSTALL = "pip install 'aaecore[cuda13x]' nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
TENSOR_CORES = ("bf16", "tf32", "tf32x3")  # arithmetics that need sm_80


@dataclass(frozen=True)
class Multiprocessor:
    """What one holds at a time. Registers are 65,536 everywhere, a quarter of them for each of its four schedulers."""

    warps: int
    blocks: int
    shared: int  # bytes
    shared_of_block: int  # bytes a block may ask for
    reserved: int = 1024  # bytes of shared memory the system takes for each block
    unit: int = 128  # bytes of shared memory, allocated at a time


MULTIPROCESSORS = {
    "sm_75": Multiprocessor(32, 16, 64 << 10, 64 << 10, reserved=0, unit=256),
    "sm_80": Multiprocessor(64, 32, 164 << 10, 163 << 10),
    "sm_86": Multiprocessor(48, 16, 100 << 10, 99 << 10),
    "sm_89": Multiprocessor(48, 24, 100 << 10, 99 << 10),
    "sm_90a": Multiprocessor(64, 32, 228 << 10, 227 << 10),
    "sm_100": Multiprocessor(64, 32, 228 << 10, 227 << 10),
    "sm_120": Multiprocessor(48, 24, 100 << 10, 99 << 10),
}


@dataclass(frozen=True)
class Compiled:
    """A kernel as compiled for one architecture."""

    name: str
    source: str
    arch: str
    registers: int  # of a thread
    stack: int  # bytes of a thread
    spills: int  # bytes stored and loaded
    static_shared: int  # bytes
    threads: int  # of a block at most, by the launch bound
    instructions: Counter[str] = field(repr=False)  # by opcode with its modifiers, as in "LDG.E.128"
    under_way: int  # loads of 16 bytes that are asked for before one of them is used, at most

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block: static, and dynamic as launched."""
        return self.static_shared + KERNELS[self.name].shared

    @property
    def of_warp(self) -> int:
        """Registers of a warp, which are allocated 256 at a time."""
        return -(-self.registers * 32 // 256) * 256

    @property
    def blocks(self) -> int:
        """How many blocks a multiprocessor holds at a time."""
        on = MULTIPROCESSORS[self.arch]
        warps = -(-self.threads // 32)
        most = [on.blocks, on.warps // warps, 4 * (65536 // 4 // self.of_warp) // warps]
        if taken := self.shared + on.reserved:
            most.append(on.shared // (-(-taken // on.unit) * on.unit))
        return min(most)

    @property
    def occupancy(self) -> float:
        """The share of a multiprocessor's warps that those blocks have."""
        return self.blocks * -(-self.threads // 32) / MULTIPROCESSORS[self.arch].warps

    def count(self, pattern: str) -> int:
        """How many instructions have an opcode that begins as the pattern says."""
        return sum(n for opcode, n in self.instructions.items() if re.match(pattern, opcode))


def sources() -> list[str]:
    """The names of the CUDA sources, those that take longest to compile first."""
    return sorted((s for s in nvrtc.sources() if s.endswith(".cu")), key=lambda s: not s.startswith("linear"))


def expected(arch: str) -> set[str]:
    """The kernels that an architecture has."""
    old = arch == "sm_75"
    return {name for name in KERNELS if not (old and set(name.split("_")) & set(TENSOR_CORES))}


def missing() -> str:
    """What these checks lack on this machine and how to install it; empty if nothing."""
    try:
        nvrtc.compile_source("data.cu", "sm_90a")
    except DeviceError as error:
        if "cannot be loaded" in str(error):
            return f"{error}; {INSTALL}"
    lacking = [name for name in ("cuobjdump", "nvdisasm") if shutil.which(name, path=_path()) is None]
    return f"no {' and no '.join(lacking)}; {INSTALL}" if lacking else ""


def leave_to_cuda_check() -> None:
    """Skips a test that compiles for minutes, unless these checks were asked for."""
    import pytest

    if os.environ.get("AAECORE_REQUIRE_CUDA_CHECK") != "1":
        pytest.skip("compiles all kernels for minutes: make cuda-check does it")


def skip(reason: str) -> NoReturn:
    """Of tests that lack something; AAECORE_REQUIRE_CUDA_CHECK=1 makes them fail instead."""
    import pytest  # not needed to print the table

    if os.environ.get("AAECORE_REQUIRE_CUDA_CHECK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def compile_kernels(source: str, arch: str) -> list[Compiled]:
    """The kernels of a source file, in no particular order."""
    code, log = nvrtc.compile_source(source, arch, ("--ptxas-options=-v",))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cubin"
        file.write_bytes(code)
        threads, sass = _launch_bounds(_cuobjdump("-elf", file)), _lines(_cuobjdump("-sass", file))
    return [
        Compiled(name, source, arch, *used, threads[name], Counter(op for op, _ in sass[name]), _under_way(sass[name]))
        for name, used in _resources(log).items()
    ]


class Compilation:
    """Compiles every source for some architectures, several at a time in the background."""

    def __init__(self, archs: list[str]) -> None:
        nvrtc.compile_source("data.cu", archs[0])  # NVRTC must not be loaded by two threads at once
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._jobs: dict[str, list[Future[list[Compiled]]]] = {
            arch: [self._pool.submit(compile_kernels, source, arch) for source in sources()] for arch in archs
        }

    def kernels(self, arch: str) -> list[Compiled]:
        """All kernels of an architecture, by name."""
        return sorted((kernel for job in self._jobs[arch] for kernel in job.result()), key=lambda kernel: kernel.name)

    def close(self) -> None:
        """Drops what is not yet begun."""
        self._pool.shutdown(cancel_futures=True)


def _resources(log: str) -> dict[str, tuple[int, int, int, int]]:
    """Registers, stack, spills and static shared memory of each kernel out of the log of ptxas."""
    found = {}
    for name, text in _sections(r"Compiling entry function '(\w+)'", log):
        stack, stores, loads = map(int, _search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", text))
        (registers,) = _search(r"Used (\d+) registers", text)
        shared = re.search(r"(\d+) bytes smem", text)
        found[name] = int(registers), stack, stores + loads, int(shared[1]) if shared else 0
    return found


def _launch_bounds(elf: str) -> dict[str, int]:
    found = {}
    for name, text in _sections(r"^\.nv\.info\.(\w+)", elf):
        x, y, z = (int(v, 16) for v in _search(r"EIATTR_MAX_THREADS\s+Format:.*\s+Value:\s+(\w+) (\w+) (\w+)", text))
        found[name] = x * y * z
    return found


def _lines(sass: str) -> dict[str, list[tuple[str, str]]]:
    """(opcode, operands) of each kernel's instructions."""
    line = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*)", re.M)
    return {name: line.findall(text) for name, text in _sections(r"Function : (\w+)", sass)}


def _under_way(lines: list[tuple[str, str]]) -> int:
    """By the order of the program: whatever touches a register that a load fills waits for all loads so far."""
    most, waiting = 0, set[int]()
    for opcode, operands in lines:
        registers = [int(number) for number in re.findall(r"\bR(\d+)", operands)]
        if waiting.intersection(registers):
            waiting.clear()
        if re.match(r"LDG\.E\.(\w+\.)*128", opcode):
            waiting.update(range(registers[0], registers[0] + 4))
            most = max(most, len(waiting) // 4)
        elif opcode in ("EXIT", "RET"):
            waiting.clear()
    return most


def _sections(heading: str, text: str) -> Iterator[tuple[str, str]]:
    """Each heading's group with the text that follows, up to the next heading."""
    parts = re.split(heading, text, flags=re.M)
    return zip(parts[1::2], parts[2::2], strict=True)


def _search(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the CUDA tools' output has changed: no {pattern!r} in it")
    return found.groups()


@cache
def _path() -> str:
    """PATH, and behind it where the wheels of NVIDIA have their programs."""
    found = find_spec("nvidia")
    wheels = found.submodule_search_locations if found else None
    folders = [str(folder) for root in wheels or [] for folder in Path(root).glob("cu*/bin")]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])


def _cuobjdump(option: str, file: Path) -> str:
    program = shutil.which("cuobjdump", path=_path()) or "cuobjdump"
    environment = os.environ | {"PATH": _path()}  # it looks for nvdisasm there
    done = subprocess.run([program, option, file], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"cuobjdump {option}: {done.stdout}{done.stderr}")
    return done.stdout


def table(kernels: list[Compiled]) -> str:
    """A line for each kernel."""
    lines = [f"{'kernel':44} registers  shared bytes  blocks/SM  occupancy"]
    for k in kernels:
        lines.append(f"{k.name:44} {k.registers:9}  {k.shared:12}  {k.blocks:9}  {k.occupancy:9.0%}")
    return "\n".join(lines)


def budgets(kernels: list[Compiled]) -> str:
    """The registers most and the blocks least used, of groups of kernels over all architectures given."""
    groups: dict[str, list[Compiled]] = {}
    for k in kernels:
        found = re.fullmatch(r"linear_\w+?_(ffma|tf32|tf32x3|bf16)_(\w+)", k.name)
        name = " ".join(found.groups()) if found else k.name
        tile = KERNELS[k.name].tile
        groups.setdefault(f"{name} sliced" if tile and tile.sliced else name, []).append(k)
    lines = [f"{'kernels':26} registers  blocks/SM"]
    for name, group in sorted(groups.items()):
        most, least = max(group, key=lambda k: k.registers), min(group, key=lambda k: k.blocks)
        lines.append(f"{name:26} {most.registers:9}  {least.blocks:9}  {most.arch} {most.name}; {least.arch}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description="What NVRTC makes of the CUDA kernels.")
    parser.add_argument("arch", nargs="*", help=f"of {', '.join(MULTIPROCESSORS)}; sm_90a if none is given")
    parser.add_argument("--budgets", action="store_true", help="over all the architectures, instead of the tables")
    given = parser.parse_args(arguments)
    archs = given.arch or (list(MULTIPROCESSORS) if given.budgets else ["sm_90a"])
    if unknown := set(archs) - set(MULTIPROCESSORS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if lacking := missing():
        print(lacking, file=sys.stderr)
        return 1
    compilation = Compilation(archs)
    if given.budgets:
        print(budgets([kernel for arch in archs for kernel in compilation.kernels(arch)]))
    else:
        print("\n\n".join(f"{arch}\n{table(compilation.kernels(arch))}" for arch in archs))
    compilation.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
