"""How many threads are used by default: the environment, the affinity and the quotas of control groups."""

import os
import subprocess
import sys

import pytest

from aaecore.backends.cores import cgroup_cpus, default_num_threads

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
HYBRID = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
NO_SOURCE = "24 1 0:22 / /dev rw -  devtmpfs  rw"  # an empty field must not shift the others
DOCKER = "40 39 0:26 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw"  # the host's path, mounted at the group itself
NONE = float("inf")


def system(tmp_path, groups, mounts, **files):
    """A file system under tmp_path; `files` are named by their path below /sys/fs/cgroup with __ for each slash."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
    (tmp_path / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
    for name, text in files.items():
        path = (
            tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs", "cpu.cfs")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "files", "expected"),
    [
        ("/", {}, NONE),
        ("/", {"cpu_max": "max 100000"}, NONE),
        ("/", {"cpu_max": "250000 100000"}, 2.5),
        ("/a/b", {"a__b__cpu_max": "300000 100000"}, 3),
        ("/a/b", {"a__cpu_max": "300000 100000", "a__b__cpu_max": "max 100000"}, 3),
        ("/a/b", {"a__cpu_max": "150000 100000", "a__b__cpu_max": "400000 100000"}, 1.5),
        ("/a/b", {"a__cpu_max": "max 100000", "cpu_max": "50000 100000"}, 0.5),
        ("/a/b", {"a__c__cpu_max": "100000 100000"}, NONE),  # somebody else's
        ("/../x", {"cpu_max": "200000 100000"}, 2),  # the group lies outside of what this process sees
        ("/", {"cpu_max": "nonsense"}, NONE),
    ],
)
def test_quota_of_version_2(tmp_path, path, files, expected):
    assert cgroup_cpus(system(tmp_path, [f"0::{path}"], [NO_SOURCE, V2], **files)) == expected


@pytest.mark.parametrize(
    ("path", "folder", "quota", "period", "expected"),
    [
        ("/", "", -1, 100000, NONE),
        ("/", "", 120000, 50000, 2.4),
        ("/a/b", "a__b__", 200000, 100000, 2),
        ("/a/b", "a__", 700000, 100000, 7),
        ("/a/b", "c__", 100000, 100000, NONE),
        ("/", "", 100000, 0, NONE),
    ],
)
def test_quota_of_version_1(tmp_path, path, folder, quota, period, expected):
    place = "cpu,cpuacct__" + folder
    files = {place + "cfs_quota_us": quota, place + "cfs_period_us": period}
    groups = ["9:name=systemd:/x", "5:memory:/y", f"4:cpu,cpuacct:{path}", "0::/z"]
    assert cgroup_cpus(system(tmp_path, groups, [V1_MEMORY, V1, HYBRID], **files)) == expected


def test_both_versions_and_a_mount_that_is_not_the_top(tmp_path):
    files = {"cpu_max": "300000 100000", "sub__cpu_max": "200000 100000"}
    assert cgroup_cpus(system(tmp_path / "a", ["0::/docker/7/sub"], [DOCKER], **files)) == 2
    assert cgroup_cpus(system(tmp_path / "b", ["0::/docker/7"], [DOCKER], **files)) == 3
    assert cgroup_cpus(system(tmp_path / "c", ["0::/docker/77/sub"], [DOCKER], **files)) == 3
    files = {
        "unified__cpu_max": "500000 100000",
        "cpu,cpuacct__cfs_quota_us": 400000,
        "cpu,cpuacct__cfs_period_us": 100000,
    }
    assert cgroup_cpus(system(tmp_path / "d", ["2:cpu,cpuacct:/", "0::/"], [V1, HYBRID], **files)) == 4


def test_without_control_groups(tmp_path):
    assert cgroup_cpus(str(tmp_path)) == NONE


@pytest.mark.parametrize(("quota", "expected"), [(0.3, 1), (1.0, 1), (2.9, 2), (NONE, 5), (1000.0, 5)])
def test_the_quota_limits_the_affinity(monkeypatch, quota, expected):
    monkeypatch.delenv("AAECORE_NUM_THREADS", raising=False)
    monkeypatch.setattr("aaecore.backends.cores.cgroup_cpus", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)
    assert default_num_threads() == expected


def _import(**environment):
    """What importing aaecore prints or raises, and the number of threads it then uses."""
    code = "try:\n import aaecore\n print(aaecore.get_num_threads())\nexcept Exception as e: print(type(e).__name__, e)"
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    ).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an affinity to read: run it on Linux")
def test_the_affinity_limits_the_threads():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert _import(AAECORE_NUM_THREADS=None) == "1"
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("good", ["1", "3", "256"])
def test_the_environment_sets_the_threads(good):
    assert _import(AAECORE_NUM_THREADS=good) == good


def test_an_empty_variable_is_no_variable():
    assert _import(AAECORE_NUM_THREADS="") == _import(AAECORE_NUM_THREADS=None)


@pytest.mark.parametrize("bad", ["0", "257", "-1", "two", "2.0", " 2", "\u0662"])
def test_a_bad_variable_is_one_clear_error(bad):
    expected = f"ValueError AAECORE_NUM_THREADS: expected an integer from 1 to 256, got {bad!r}"
    assert _import(AAECORE_NUM_THREADS=bad) == expected
