"""What a run on a GPU needs: checks by name, the path of tools, the compiler, wheels."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from gpu import environment, preflight
from gpu import run as gpu_run

# --- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (preflight.package("no_such_package"), r"no_such_package is not installed \(pip install no_such_package"),
        (preflight.package("numpy", least=(99, 1)), r"numpy [\d.]+ is too old: expected 99\.1 or newer"),
        (preflight.tool("no-such-tool"), "no-such-tool is not on the PATH"),
    ],
)
def test_what_is_missing_is_named(look, message):
    with pytest.raises(preflight.Missing, match=message):
        look()


def test_an_old_python_and_a_missing_compiler_are_named(monkeypatch):
    monkeypatch.setattr(preflight.sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    assert "expected Python 3.11 or newer" in preflight.look(preflight.Check("python", preflight.python))["missing"]
    assert "no C++ compiler" in preflight.look(preflight.Check("C++ compiler", preflight.compiler))["missing"]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("packaging", "24.1", "packaging 24.1 is too old: expected 24.2 or newer"),
        ("packaging", "24.2", ""),
        ("cython", "3.2.6", "cython 3.2.6 is broken"),
        ("cython", "3.0.12", "cython 3.0.12 is too old"),
        ("cython", "3.2.7", ""),
        ("setuptools", "76.1", "setuptools 76.1 is too old"),
    ],
)
def test_versions_that_do_not_compile_it_are_named(name, version, message, monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(preflight.metadata, "version", lambda name: version)
    row = preflight.look(next(check for check in preflight.CHECKS if check.name == name))
    assert row["needed"] == "to compile"
    assert message in row.get("missing", "")
    assert ("missing" in row) == bool(message)


def test_setuptools_has_a_packaging_of_its_own(monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    assert preflight.packaging() == "setuptools' own"


def preflight_rows(monkeypatch, capsys, *gone: str) -> tuple[int, list[dict]]:
    """The status, and the rows, where all is there but some."""

    def missing():
        raise preflight.Missing("it is not there")

    checks = [c._replace(look=missing if c.name in gone else lambda: "found") for c in preflight.CHECKS]
    monkeypatch.setattr(preflight, "CHECKS", checks)
    monkeypatch.setattr(preflight, "describe", lambda: {"gpu": "NVIDIA X"})
    with pytest.raises(SystemExit) as status:
        preflight.main()
    return int(status.value.code), [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_is_only_needed_to_compile_is_no_failure(monkeypatch, capsys):
    status, rows = preflight_rows(monkeypatch, capsys, "cython", "NVRTC", "Python.h", "C++ compiler", "torch", "ncu")
    assert status == 0
    assert {"gpu": "NVIDIA X"} in rows
    assert len([r for r in rows if "missing" in r]) == 6


def test_no_gpu_is_tried_without_cupy_and_no_nvrtc_without_a_gpu(monkeypatch, capsys):
    status, rows = preflight_rows(monkeypatch, capsys, "cupy")
    assert status == 1
    assert not {"NVRTC", "GPU"} & {r["check"] for r in rows}
    status, rows = preflight_rows(monkeypatch, capsys, "GPU")
    assert status == 1
    assert "NVRTC" not in {r["check"] for r in rows}


# --- where things are -------------------------------------------------------------------------------------------------


def test_nvidias_tools_are_found_where_they_are_installed(tmp_path):
    for folder in ("cuda/bin", "nsight/2024.1", "nsight/2025.3"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "nsight" / "a file").touch()
    patterns = (f"{tmp_path}/cuda/bin", f"{tmp_path}/nsight/*", f"{tmp_path}/nowhere")
    expected = ["/bin", *(f"{tmp_path}/{f}" for f in ("cuda/bin", "nsight/2025.3", "nsight/2024.1"))]
    assert environment.tool_path("/bin", patterns).split(os.pathsep) == expected


@pytest.mark.parametrize(
    ("configured", "there", "expected"),
    [
        ("clang-99 -pthread", ("g++",), {"CC": "gcc", "CXX": "g++"}),
        ("c++", ("c++", "g++"), {}),
        ("clang-99", (), {}),  # the preflight says so
        (None, ("g++",), {"CC": "gcc", "CXX": "g++"}),
    ],
)
def test_gcc_takes_the_place_of_a_compiler_that_is_not_there(configured, there, expected, tmp_path):
    for name in there:
        (tmp_path / name).touch(mode=0o755)
    assert environment.compiler({"PATH": str(tmp_path)}, configured) == expected
    given = environment.compiler({"PATH": str(tmp_path), "CXX": "no-such-compiler"})
    assert given == ({"CC": "gcc", "CXX": "g++"} if there else {})


def test_caches_of_compiled_peers_are_used(tmp_path):
    found = environment.environment(tmp_path, {"PATH": "/bin"})
    assert found["TORCHINDUCTOR_FX_GRAPH_CACHE"] == "1"
    assert found["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] == "-1"
    folders = ("AAECORE_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    assert all(Path(found[name]).parent == tmp_path for name in folders)


# --- wheels -----------------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{name.split('-')[0]}/__init__.py", "")
    return folder / name


def test_given_wheels_are_unpacked_and_those_for_another_python_named(tmp_path):
    for name in ("one-1-py3-none-any.whl", "two-1-cp27-cp27m-linux_x86_64.whl"):
        wheel(tmp_path / "given", name)
    wrong = gpu_run.put_wheels(tmp_path / "out", str(tmp_path / "given"), tmp_path / "no pack")
    assert wrong == ["two-1-cp27-cp27m-linux_x86_64.whl is not for this Python"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["one"]
    assert gpu_run.put_wheels(tmp_path / "out", str(tmp_path), tmp_path) == [f"GPU_WHEELS={tmp_path}: no wheels there"]
    assert not (tmp_path / "out").exists(), "what an earlier run unpacked"


def test_a_wheel_of_the_pack_is_used_if_it_is_whole_and_what_is_there_is_not_enough(tmp_path, monkeypatch):
    packed, parts = tmp_path / "pack", {}
    for name in ("cython", "packaging", "setuptools"):
        path = wheel(packed, f"{name}-1-py3-none-any.whl")
        parts[name] = {"file": path.name, "sha256": gpu_run.pack.sha256(path)}
    (packed / "manifest.json").write_text(json.dumps({"wheels": parts}))
    wheel(packed, "packaging-1-py3-none-any.whl").write_bytes(b"damaged")

    def missing():
        raise preflight.Missing("it is too old")

    old, looked = ("cython", "packaging"), []
    checks = [
        c._replace(look=missing if c.name in old else lambda name=c.name: looked.append(name) or "found")
        for c in preflight.CHECKS
    ]
    monkeypatch.setattr(preflight, "CHECKS", checks)
    wrong = gpu_run.put_wheels(tmp_path / "out", None, packed)
    assert wrong == ["wheel of packaging: packaging-1-py3-none-any.whl of the pack is damaged"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cython"]
    assert looked == ["setuptools"], "this process asks for no GPU"
