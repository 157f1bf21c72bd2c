"""Processes that run modules of this package."""

from __future__ import annotations

import os
import sys

from gpu.environment import BENCH


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module; not from the current folder, whose sources have no compiled module."""
    return [sys.executable, "-P", "-m", f"gpu.{name}", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's own, with which the package is found, and some more variables."""
    path = os.pathsep.join(p for p in (str(BENCH), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, **more}
