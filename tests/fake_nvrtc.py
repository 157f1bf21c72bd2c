"""What the library and bench/gpu use of CuPy's NVRTC; machine code is the name of its source and the architecture."""

from __future__ import annotations

import re
from collections.abc import Sequence


class NVRTCError(RuntimeError):
    """CuPy's error."""


def createProgram(src: str, name: str, headers: Sequence[bytes], include_names: Sequence[bytes]) -> dict[str, str]:
    return {"name": name}


def compileProgram(prog: dict[str, str], options: Sequence[str]) -> None:
    found = re.search(r"--gpu-architecture=(sm_\w+)", " ".join(options))
    if found is None:
        raise NVRTCError("no --gpu-architecture")
    prog["code"] = f"{prog['name']} for {found[1]}"


def getCUBIN(prog: dict[str, str]) -> bytes:
    return prog["code"].encode()  # without the zero at its end, as CuPy's


def getProgramLog(prog: dict[str, str]) -> str:
    return ""


def destroyProgram(prog: dict[str, str]) -> None:
    prog.clear()


def getVersion() -> tuple[int, int]:
    return 0, 0
