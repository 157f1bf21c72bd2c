"""The stand-in for CuPy has CuPy's names, and the parameters that they have there, by CuPy's own documentation."""

from __future__ import annotations

import inspect
import re

import cubins
import fake_cupy
import fake_nvrtc
import pytest

CLASSES = ("cuda.Stream", "cuda.Event", "cuda.Graph", "cuda.function.Module", "cuda.function.Function", "ndarray")
FUNCTIONS = (
    "empty", "zeros", "asarray", "asnumpy", "from_dlpack", "cuda.get_current_stream", "cuda.get_elapsed_time",
)  # fmt: skip
RUNTIME = (
    "CUDARuntimeError", "deviceSynchronize", "getDeviceProperties", "getDeviceCount", "getDevice", "driverGetVersion",
    "runtimeGetVersion",
)  # fmt: skip
NVRTC = [name for name, value in vars(fake_nvrtc).items() if inspect.isfunction(value)]
ATTRIBUTES = {"ndarray": ("data", "device", "flags"), "cuda.Stream.null": ("ptr",), "cuda.function.Function": ("ptr",)}


def _cupy() -> object:
    try:
        import cupy
    except ImportError as error:
        cubins.skip(f"needs CuPy ({error}): pip install 'aaecore[cuda-check]'")
    return cupy


def _find(path: str) -> object:
    found = _cupy()
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _documented(found: object) -> list[str]:
    """The names of the parameters: Cython has them in the first line of the documentation."""
    try:
        names = list(inspect.signature(found).parameters)  # type: ignore[arg-type]
    except ValueError:
        line = re.search(r"\((.*)\)", (found.__doc__ or "").splitlines()[0])
        assert line is not None, found
        parts = [part.split("=")[0].split(" ")[-1] for part in line[1].split(", ") if part]
        names = [part.lstrip("*") for part in parts if part not in ("*", "/")]
    return [name for name in names if name != "self"]


def _methods() -> list[tuple[str, str]]:
    stand_ins = {"cuda.MemoryPointer": fake_cupy.MemoryPointer}
    stand_ins |= {path: getattr(fake_cupy, path.rsplit(".", 1)[-1]) for path in CLASSES}
    return [
        (path, name)
        for path, stand_in in stand_ins.items()
        for name, value in vars(stand_in).items()
        if inspect.isfunction(value) and not name.startswith("_") and name != "touch"
    ]


@pytest.mark.parametrize(("path", "name"), _methods())
def test_methods_take_the_parameters_of_cupy(path: str, name: str) -> None:
    stand_in = getattr(getattr(fake_cupy, path.rsplit(".", 1)[-1]), name)
    ours = [p for p in inspect.signature(stand_in).parameters if p != "self"]
    theirs = _documented(getattr(_find(path), name))
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_required_is_not_skipped(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AAECORE_REQUIRE_CUDA_CHECK", required)
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="a reason") as raised:
        cubins.skip("a reason")
    assert raised.type is outcome  # of `pytest.raises` alone the other one would skip this test


def test_there_are_methods_to_compare() -> None:
    assert {("cuda.Stream", "end_capture"), ("cuda.MemoryPointer", "memset_async"), ("ndarray", "set")} <= set(
        _methods()
    )


@pytest.mark.parametrize("path", FUNCTIONS)
def test_functions_take_the_parameters_of_cupy(path: str) -> None:
    ours = list(inspect.signature(getattr(fake_cupy, path.rsplit(".", 1)[-1])).parameters)
    assert ours == _documented(_find(path))[: len(ours)]


@pytest.mark.parametrize("name", NVRTC)
def test_nvrtc_takes_the_parameters_of_cupy(name: str) -> None:
    ours = list(inspect.signature(getattr(fake_nvrtc, name)).parameters)
    assert ours == _documented(_find(f"cuda.nvrtc.{name}"))


@pytest.mark.parametrize("path", ["cuda.Stream", "cuda.Event"])
def test_constructors_take_the_parameters_of_cupy(path: str) -> None:
    ours = list(inspect.signature(getattr(fake_cupy, path.rsplit(".", 1)[-1])).parameters)
    theirs = _documented(_find(f"{path}.__init__"))
    assert [name for name in ours if name in theirs] == theirs


def test_what_else_is_used_exists() -> None:
    assert hasattr(_find("cuda.Device"), "__enter__")
    assert hasattr(_find("cuda"), "set_allocator")
    assert hasattr(_find("cuda.nvrtc"), "NVRTCError")
    for name in RUNTIME:
        assert hasattr(_find("cuda.runtime"), name)
    for path, names in ATTRIBUTES.items():
        assert all(hasattr(_find(path), name) for name in names)
    _cupy()
    from cupy_backends.cuda.api import driver

    assert _documented(driver.funcSetAttribute) == ["f", "attribute", "value"]
