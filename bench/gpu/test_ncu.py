"""What ncu prints, and what it watches, without it."""

from __future__ import annotations

import sys
import time

import cuda_devices
import fake_cupy
import pytest
from emulator.emulator import EmulatedDriver

from gpu import ncu

PRINTED = """==PROF== Connected to process 1234 (/usr/bin/python3.12)
==PROF== Profiling "linear_forward_tf32x3_small" - 0: 0%....50%....100% - 4 passes
==PROF== Disconnected from process 1234
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","dram__bytes.sum","gpu__time_duration.sum","launch__registers_per_thread","sm__warps_active.avg.pct_of_peak_sustained_active","sm__cycles_active.avg"
"","","","","","","","","","","","byte","ns","register/thread","%","cycle"
"0","1234","python3.12","a-host","linear_forward_tf32x3_small","1","7","(128, 1, 1)","(32, 4, 1)","0","9.0","4,718,592","7,168.00","154","12.48","9,876.5"
"1","1234","python3.12","a-host","bce_logits_sum","1","7","(32, 1, 1)","(1, 1, 1)","0","9.0","n/a","2,048","38","1.56","100"
"""  # noqa: E501 as it is printed


def test_numbers_of_ncu():
    rows = list(ncu.parse(PRINTED))
    first = {"kernel": "linear_forward_tf32x3_small", "grid": "32x4"}
    assert rows[:4] == [
        first | {"metric": "duration", "value": 7168.0, "unit": "ns"},
        first | {"metric": "bytes of memory", "value": 4718592.0, "unit": "byte"},
        first | {"metric": "warps, of the most", "value": 12.48, "unit": "%"},
        first | {"metric": "registers of a thread", "value": 154.0, "unit": "register/thread"},
    ]
    assert [row["metric"] for row in rows[4:]] == ["duration", "warps, of the most", "registers of a thread"]
    assert list(ncu.parse("==ERROR== ERR_NVGPUCTRPERM")) == []


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a program called ncu on the PATH."""

    def make(body):
        path = tmp_path / "bin" / "ncu"
        path.parent.mkdir()
        (tmp_path / "printed").write_text(PRINTED)
        read = f"args, printed = sys.argv[1:], open({str(tmp_path / 'printed')!r}).read()"
        path.write_text(f"#!{sys.executable}\nimport sys\n{read}\n{body}")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))

    return make


def test_the_programs_numbers_are_rows_without_the_hosts_name(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ncu.platform, "node", lambda: "a-host")
    fake("assert args[args.index('--clock-control') + 1] == 'none'\nprint(printed)")
    rows = list(ncu.profiled(["a"], 60.0, tmp_path / "out"))
    assert len(rows) == 2 * 7
    assert rows[0] == {"size": "a", "precision": "fp32", **next(ncu.parse(PRINTED))}
    written = (tmp_path / "out" / "ncu.csv").read_text()
    assert "linear_forward_tf32x3_small" in written
    assert "a-host" not in written


def test_where_a_name_is_unknown_sections_are_asked_for(fake):
    fake("print(printed if '--section' in args else '==ERROR== Failed to find metric x')")
    assert len(list(ncu.profiled(["a"], 60.0, None))) == 2 * 7


def test_why_there_are_no_numbers_is_said(fake, monkeypatch):
    fake("print('==ERROR== ERR_NVGPUCTRPERM - no permission', file=sys.stderr); sys.exit(1)")
    rows = list(ncu.profiled(["a"], 60.0, None))
    assert [row["left out"] for row in rows] == ["counters at a, fp32", "counters at a, bf16"]
    assert rows[0]["why"] == "ncu said: ==ERROR== ERR_NVGPUCTRPERM - no permission"
    assert [row["why"] for row in ncu.profiled(["a"], 1.0, None)] == ["out of time"] * 2
    monkeypatch.setenv("PATH", "/nowhere")
    assert [row["why"] for row in ncu.profiled(["a"], 60.0, None)] == ["ncu is not on the PATH"] * 2


def test_launches_end_in_time_however_long_ncu_takes_to_start(fake):
    """In the time that the phase has for both precisions; the program is told an instant, not a length."""
    fake("import time\ntime.sleep(3)\nuntil = float(args[args.index('--until') + 1])\n"
         "time.sleep(max(0, until - time.monotonic()))\nprint(printed)")  # fmt: skip
    assert len(list(ncu.profiled(["a"], 24.0, None))) == 2 * 7


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(fake, monkeypatch):
    monkeypatch.setattr(ncu, "STARTING", 0.0)
    fake(f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])")
    begin = time.monotonic()
    assert [row["why"] for row in ncu.profiled(["a"], 1.0, None)] == ["not done after 0 s"] * 2
    assert time.monotonic() - begin < 30, "its child holds the same pipe"


def test_every_different_kernel_of_a_step_is_launched_once(emulator, tiny, monkeypatch):
    with fake_cupy.installed(EmulatedDriver(cuda_devices.MODE, cuda_devices.SEED)) as world:
        runtime, launched, watched = sys.modules["cupy"].cuda.runtime, [], []
        launch = world.emulator.launch
        monkeypatch.setattr(world.emulator, "launch", lambda each: launched.append(each) or launch(each))
        runtime.profilerStart = launched.clear
        runtime.profilerStop = lambda: watched.extend(launched)
        ncu.launches(tiny, "bf16", time.monotonic() + 600.0)
    kernels = [(each.kernel, each.grid) for each in watched]
    assert len(kernels) == len(set(kernels)) > 10
    names = {kernel for kernel, _ in kernels}
    assert {"linear_forward_bf16_small", "forward_forward_bf16", "bce_logits", "bce_logits_sum"} <= names
    threads = [each.grid[0] * each.grid[1] * each.threads for each in watched]
    assert threads == sorted(threads, reverse=True)
