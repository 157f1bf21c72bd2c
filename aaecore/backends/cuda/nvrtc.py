"""Compiles the CUDA kernels at run time to machine code of one architecture, by NVRTC through CuPy, and keeps it.

No GPU is needed for that. The cache is a folder: AAECORE_CACHE, else aaecore in XDG_CACHE_HOME or ~/.cache, else one of
the user's own in the system's temporary folder. An entry is named by everything it depends on and begins with the
digest of what follows, so a damaged one is made again. Where no folder can be written, every process compiles anew.
What was compiled elsewhere can be put there (`store`), and is taken whatever version of NVRTC there is, or none.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path

from ...errors import DeviceError
from ...files import atomic

# As on the CPU: nothing contracts but what is written as fmaf, denormals are zero, division and roots are rounded well.
OPTIONS = ("-std=c++17", "-fmad=false", "-ftz=true", "-prec-div=true", "-prec-sqrt=true", "-w")


@cache
def sources() -> dict[str, str]:
    """The text of every CUDA source and header, by file name."""
    kernels = resources.files("aaecore.kernels")
    files = [f for room in ("cuda", "shared") for f in (kernels / room).iterdir()]
    return {f.name: f.read_text("utf-8") for f in sorted(files, key=lambda f: f.name)}


def architecture(capability: tuple[int, int]) -> str:
    """What NVRTC calls a compute capability: "sm_80"; Hopper's with its own instructions is "sm_90a"."""
    major, minor = capability
    return f"sm_{major}{minor}" + ("a" if capability == (9, 0) else "")


def compile_source(name: str, arch: str, options: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """The cubin of a source file and the compiler's log, without the cache.

    Raises:
        DeviceError: NVRTC is missing or refuses the source.
    """
    nvrtc = _nvrtc()
    texts = sources()
    headers = {n: text.encode() for n, text in texts.items() if not n.endswith(".cu")}
    program = nvrtc.createProgram(texts[name], name, list(headers.values()), [n.encode() for n in headers])
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={arch}", *OPTIONS, *options))
        # CuPy cuts the last byte off, a zero without which the binary tools refuse the file.
        return nvrtc.getCUBIN(program) + b"\0", nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise DeviceError(
            f"{name}: NVRTC cannot compile it for {arch}: {error}\n{nvrtc.getProgramLog(program)}"
        ) from None
    finally:
        nvrtc.destroyProgram(program)


def cubin(name: str, arch: str) -> bytes:
    """The machine code of a source file for an architecture, from the cache if it is there.

    Raises:
        DeviceError: NVRTC is missing or refuses the source.
    """
    key = _key(name, arch)
    if (code := _read(key)) is None:
        key += "-nvrtc{}.{}".format(*_nvrtc().getVersion())
        if (code := _read(key)) is None:
            code, _ = compile_source(name, arch)
            _keep(key, code)
    return code


def store(name: str, arch: str, code: bytes) -> None:
    """Keeps machine code that was compiled elsewhere, by whatever version of NVRTC: `cubin` takes it from then on.

    Raises:
        OSError: the cache has no folder that can be written.
    """
    if not _keep(_key(name, arch), code):
        raise OSError("no folder for compiled kernels can be written; AAECORE_CACHE=folder chooses another")


def digest(name: str, arch: str) -> str:
    """What machine code depends on, but for the compiler's version: its source, the headers, options, architecture."""
    made = hashlib.sha256(repr((arch, OPTIONS)).encode())
    for file, text in sources().items():
        if file == name or not file.endswith(".cu"):
            made.update(f"{file}\0{text}\0".encode())
    return made.hexdigest()


def _key(name: str, arch: str) -> str:
    return f"{Path(name).stem}-{arch}-{digest(name, arch)[:32]}"


def _read(key: str) -> bytes | None:
    for folder in _folders():
        with suppress(OSError):
            stored = (folder / key).read_bytes()
            if hashlib.sha256(stored[32:]).digest() == stored[:32]:
                return stored[32:]
    return None


def _keep(key: str, code: bytes) -> bool:
    """Whether there is a folder for it."""
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(folder / key, hashlib.sha256(code).digest() + code)
            return True
    return False


def _folders() -> Iterator[Path]:
    if chosen := os.environ.get("AAECORE_CACHE"):
        yield Path(chosen)
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    yield Path(home) / "aaecore"
    mine = Path(tempfile.gettempdir()) / f"aaecore-{os.getuid()}"
    with suppress(OSError):
        mine.mkdir(mode=0o700, exist_ok=True)
        found = mine.lstat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077 == 0:  # nobody else can put code there
            yield mine


def _nvrtc():  # type: ignore[no-untyped-def]
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy raises many kinds where a library is missing
        raise DeviceError(
            f"NVRTC, which compiles the CUDA kernels, cannot be loaded ({error}); "
            "pip install 'aaecore[cuda13x]' or 'aaecore[cuda12x]'"
        ) from None
    return nvrtc
