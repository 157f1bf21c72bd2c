"""The pack, and the build that takes from it what belongs to the working tree and is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cuda_devices
import fake_cupy
import pytest
from emulator.emulator import EmulatedDriver

from aaecore.backends.cuda import nvrtc
from aaecore.kernels import cpu as compiled
from gpu import build, pack


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack of this Python's own extension, and of machine code that is a text."""
    folder = tmp_path / "pack"
    folder.mkdir()
    shutil.copyfile(compiled.__file__, folder / "cpu.so")
    extension = {"digest": pack.extension_digest(), "tag": build.TAG, "file": "cpu.so"}
    manifest = {"extension": extension, "kernels": {}, "wheels": {}}
    for name in ("data.cu", "loss.cu"):
        (folder / f"{name}bin").write_bytes(f"packed {name}".encode())
        manifest["kernels"][name] = {"digest": nvrtc.digest(name, "sm_90a"), "file": f"{name}bin"}
    for part in (extension, *manifest["kernels"].values()):
        part["sha256"] = pack.sha256(folder / part["file"])
    write(folder, manifest)
    monkeypatch.setenv("AAECORE_CACHE", str(tmp_path / "cache"))
    return folder


def write(folder: Path, manifest: dict) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_the_extension_of_the_pack_is_used(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compile_extension", lambda folder: pytest.fail("it is in the pack"))
    assert build.extension(tmp_path, packed) == {"part": "extension", "from": "pack"}
    library = tmp_path / "lib" / "aaecore"
    assert (library / "kernels" / f"cpu{build.TAG}").exists()
    assert {"training", "datasets", "kernels"} <= {p.name for p in library.iterdir()}
    assert {"linear.cu", "device.cuh", "scalar.h", "__init__.py"} <= {p.name for p in (library / "kernels").rglob("*")}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder, part: part.update(digest="0" * 64), "the pack is for another digest: 000"),
        (lambda folder, part: part.update(tag=".cpython-39.so"), "the pack is for another tag: .cpython-39"),
        (lambda folder, part: damage(folder / "cpu.so"), "cpu.so of the pack is damaged"),
        (lambda folder, part: (folder / "cpu.so").unlink(), "cpu.so of the pack is damaged"),
        (lambda folder, part: part.clear(), "not in the pack"),
    ],
)  # fmt: skip
def test_an_extension_that_does_not_belong_here_is_compiled(change, why, packed, tmp_path, monkeypatch):
    def compile_extension(folder: Path) -> bool:
        shutil.copyfile(compiled.__file__, folder / "lib" / "aaecore" / "kernels" / f"cpu{build.TAG}")
        return True

    manifest = pack.read(packed)
    change(packed, manifest["extension"])
    write(packed, manifest)
    monkeypatch.setattr(build, "compile_extension", compile_extension)
    row = build.extension(tmp_path, packed)
    assert row["from"] == "compiled, -O1", "and the record says so"
    assert why in row["why"]
    monkeypatch.setattr(build, "compile_extension", lambda folder: False)
    assert "could not be compiled" in build.extension(tmp_path, packed)["missing"]


def test_an_extension_that_cannot_be_imported_is_compiled(packed, tmp_path, monkeypatch):
    """Such as one for another C library."""
    (packed / "cpu.so").write_bytes(b"no library")
    manifest = pack.read(packed)
    manifest["extension"]["sha256"] = pack.sha256(packed / "cpu.so")
    write(packed, manifest)
    monkeypatch.setattr(build, "compile_extension", lambda folder: False)
    assert "ImportError" in build.extension(tmp_path, packed)["why"]


def test_a_changed_source_changes_the_digest(tmp_path):
    for name in ("setup.py", "kernels"):
        source = pack.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    assert pack.extension_digest(tmp_path) == pack.extension_digest()
    for name in ("setup.py", "kernels/cpu/tile.hpp", "kernels/cpu/cpu.pyx"):
        before = pack.extension_digest(tmp_path)
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        assert pack.extension_digest(tmp_path) != before, name


def test_machine_code_of_the_pack_goes_into_the_cache(packed, monkeypatch):
    monkeypatch.setattr(nvrtc, "compile_source", lambda *_: pytest.fail("it is in the pack"))
    assert build.store_packed(["data.cu", "loss.cu"], "sm_90a", packed) == {}
    assert nvrtc.cubin("data.cu", "sm_90a") == b"packed data.cu"


def test_what_is_packed_is_what_is_taken(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(nvrtc, "cubin", lambda name, arch: f"{name} for {arch}".encode())
    folder = tmp_path / "new"
    folder.mkdir()
    write(folder, {"kernels": pack.kernels(folder)})
    names = [name for name in nvrtc.sources() if name.endswith(".cu")]
    assert build.store_packed(names, pack.ARCHITECTURE, folder) == {}
    monkeypatch.undo()
    monkeypatch.setenv("AAECORE_CACHE", str(tmp_path / "cache"))
    assert nvrtc.cubin("loss.cu", "sm_90a") == b"loss.cu for sm_90a"


def test_an_extension_that_is_packed_already_is_not_compiled_again(packed, monkeypatch):
    monkeypatch.setattr(pack, "tag_of", lambda python: build.TAG)
    monkeypatch.setattr(pack, "subprocess", None)
    manifest = pack.read(packed)
    assert pack.extension("python", manifest, packed) == manifest["extension"]


def test_machine_code_that_is_damaged_or_for_another_gpu_is_not_used(packed):
    damage(packed / "data.cubin")
    left = build.store_packed(["data.cu", "loss.cu", "optim.cu"], "sm_90a", packed)
    assert left == {"data.cu": "data.cubin of the pack is damaged", "optim.cu": "not in the pack"}
    assert set(build.store_packed(["data.cu", "loss.cu"], "sm_80", packed)) == {"data.cu", "loss.cu"}


def test_a_python_that_is_not_there_is_named(tmp_path):
    for python in (str(tmp_path / "python"), "false"):
        with pytest.raises(SystemExit, match="PACK_PYTHON: expected a Python of the other machine's version"):
            pack.tag_of(python)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_pack_without_a_manifest_is_none(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    assert pack.read(tmp_path) == pack.read(tmp_path / "nowhere") == {}
    assert build.packed_extension(tmp_path) == "not in the pack"


@pytest.mark.skipif(cuda_devices.MISSING is not None, reason=str(cuda_devices.MISSING))
def test_what_the_pack_lacks_is_compiled_and_counted(packed, monkeypatch):
    """Over the stand-in for CuPy, in whose processes nothing is compiled."""
    monkeypatch.setattr(nvrtc, "sources", lambda: dict.fromkeys(("data.cu", "loss.cu", "optim.cu"), ""))
    manifest = pack.read(packed)
    for name, part in manifest["kernels"].items():
        part["digest"] = nvrtc.digest(name, "sm_90a")
    write(packed, manifest)
    started: list[list[str]] = []

    class Process:
        def __init__(self, line: list[str]) -> None:
            started.append(line)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(build, "subprocess", SimpleNamespace(Popen=Process))
    with fake_cupy.installed(EmulatedDriver(cuda_devices.MODE)):
        row = build.kernels(packed)
    assert row == {
        "part": "kernels", "architecture": "sm_90a", "from the pack": 2, "compiled": 1, "why": "not in the pack",
    }  # fmt: skip
    assert [line[-2:] for line in started] == [["optim.cu", "sm_90a"]]
