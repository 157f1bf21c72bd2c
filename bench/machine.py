"""What a result is about, and what else ran meanwhile: the machine's name, its load, the memory of a process.

Linux only: all of it is read from /proc. Nothing here names a host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # of a CPU's time in a second
INSTRUCTION_SETS = {"v4": "avx512", "v3": "avx2"}  # aaecore's names of them, and everybody's
# Microarchitectures by family, then first and last model: the speed of kernels depends on them.
AMD = {
    23: [("zen1", 0x00, 0x2F), ("zen2", 0x30, 0xFF)],
    25: [("zen3", 0x00, 0x0F), ("zen4", 0x10, 0x1F), ("zen3", 0x20, 0x5F), ("zen4", 0x60, 0xFF)],
    26: [("zen5", 0x00, 0xFF)],
}
INTEL = {
    6: [
        ("haswell", 0x3C, 0x3F), ("skylake", 0x4E, 0x4E), ("broadwell", 0x4F, 0x4F), ("skylake-server", 0x55, 0x55),
        ("skylake", 0x5E, 0x5E), ("ice-lake-server", 0x6A, 0x6C), ("ice-lake", 0x7D, 0x7E), ("tiger-lake", 0x8C, 0x8D),
        ("sapphire-rapids", 0x8F, 0x8F), ("alder-lake", 0x97, 0x9A), ("granite-rapids", 0xAD, 0xAE),
        ("raptor-lake", 0xB7, 0xBF), ("emerald-rapids", 0xCF, 0xCF),
    ],
}  # fmt: skip
VENDORS = {"AuthenticAMD": ("amd", AMD), "GenuineIntel": ("intel", INTEL)}


def slug(cpu: Mapping[str, str], cores: int, isa: str) -> str:
    """The machine's short name, such as amd-zen4-2c-avx512, from the fields of /proc/cpuinfo."""
    vendor, families = VENDORS.get(cpu.get("vendor_id", ""), (cpu.get("vendor_id", "cpu"), {}))
    family, model = int(cpu.get("cpu family", 0)), int(cpu.get("model", 0))
    named = (name for name, first, last in families.get(family, ()) if first <= model <= last)
    name = next(named, f"family{family}-model{model}")
    return re.sub(r"[^a-z0-9]+", "-", f"{vendor}-{name}-{cores}c-{INSTRUCTION_SETS.get(isa, isa)}".lower()).strip("-")


def cpu_fields(text: str) -> dict[str, str]:
    """The fields of the first processor in the text of /proc/cpuinfo."""
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def describe(isa: str) -> dict[str, str | int]:
    """The machine and the code under test, for the head of a result."""
    cpu = cpu_fields(Path("/proc/cpuinfo").read_text())
    return {
        "slug": slug(cpu, cores(), isa),
        "cpu": f"{cpu.get('model name', 'unknown')}, family {cpu.get('cpu family')} model {cpu.get('model')}",
        "cores": cores(),
        "instruction set": isa,
        "memory MB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": os.uname().release,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the checkout, with a plus sign where files differ from it; "unknown" outside one."""
    import subprocess  # slow to import, and peers measure their start

    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:  # no git
        return "unknown"
    return done.stdout.strip() or "unknown"


def machine_seconds() -> float:
    """CPU time that all processes have used: user, nice, system, interrupts."""
    fields = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return float(fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / TICKS


def process_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mb() -> float:
    """The most memory that this process has had resident. Not ru_maxrss: that begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:", 1)[1].split(None, 1)[0]) / 1024
