"""Values in and out of TOML."""

from __future__ import annotations

import os
import tomllib
from typing import Any


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values in a TOML file, not yet checked.

    Raises:
        ValueError: the file is not TOML. OSError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # editors on Windows begin with a byte order mark
            return tomllib.loads(file.read())
    except ValueError as error:  # also of bytes that are not UTF-8
        raise ValueError(f"{os.fspath(path)}: not a TOML file: {error}") from None


def values(text: str, brackets: str) -> list[Any]:
    values = []
    for candidate in (text, f"{brackets[:1]}{text}{brackets[1:]}"):
        try:
            table = tomllib.loads(f"value = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
        values += [table["value"]] if len(table) == 1 else []  # more: the text had a line of its own
    return values


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(c) for c in value) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(text, value)) + "]"
    return repr(value)


def _escaped(c: str) -> str:
    return f"\\{c}" if c in '"\\' else f"\\u{ord(c):04x}" if ord(c) < 0x20 or c == "\x7f" else c
