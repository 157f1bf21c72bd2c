"""How many cores this process may use: what its environment, its affinity and its control groups say."""

from __future__ import annotations

import os
from collections.abc import Iterator

MAX_THREADS = 256  # of kernels/cpu/threads.h


def default_num_threads() -> int:
    """AAECORE_NUM_THREADS, else the cores that this process may use: its affinity, and its quota rounded down.

    Raises:
        ValueError: AAECORE_NUM_THREADS is set, and not an integer from 1 to 256.
    """
    text = os.environ.get("AAECORE_NUM_THREADS", "")
    if not text:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return int(max(1, min(cores, cgroup_cpus(), MAX_THREADS)))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_THREADS):
        raise ValueError(f"AAECORE_NUM_THREADS: expected an integer from 1 to {MAX_THREADS}, got {text!r}")
    return int(text)


def cgroup_cpus(root: str = "/") -> float:
    """The smallest CPU quota of this process's control groups and their ancestors, in cores; infinite without one.

    Both versions of control groups count: with version 1 the group of the controller "cpu" has the quota. `root` is
    where the files of the system are found.
    """
    try:
        groups = [line.split(":", 2) for line in _lines(f"{root}/proc/self/cgroup")]
        mounts = [line.split(" ") for line in _lines(f"{root}/proc/self/mountinfo")]
    except OSError:
        return float("inf")
    quotas = [float("inf")]
    for _, controllers, path in groups:
        version = 2 if not controllers else 1
        if version == 2 or "cpu" in controllers.split(","):
            for folder in _folders(path, version, mounts):
                quotas.append(_quota(root + folder, version))
    return min(quotas)


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def _folders(path: str, version: int, mounts: list[list[str]]) -> Iterator[str]:
    """The folder of the group `path` and those of its ancestors, as far as they are mounted."""
    for mount in mounts:  # id parent device root place options ... - type source super-options
        if mount[mount.index("-") + 1] != ("cgroup2" if version == 2 else "cgroup"):
            continue  # a mount of another controller of version 1 has no file of a quota
        top, place = mount[3].rstrip("/"), mount[4].rstrip("/")
        inside = f"{path.rstrip('/')}/".startswith(f"{top}/")  # in a container the path may be the host's
        parts = path[len(top) :].strip("/").split("/") if inside else [""]
        for n in range(len(parts) + 1):
            yield "/".join([place, *parts[:n]])


def _quota(folder: str, version: int) -> float:
    try:
        if version == 2:
            quota, period = _lines(f"{folder}/cpu.max")[0].split()
        else:
            (quota,), (period,) = _lines(f"{folder}/cpu.cfs_quota_us"), _lines(f"{folder}/cpu.cfs_period_us")
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return float("inf")
