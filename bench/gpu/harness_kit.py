"""What the tests of the harness share: a context below a temporary folder, commands of it, and a record."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu.environment import environment
from gpu.phases import Commands, Context


def make_context(folder: Path, **changes: Any) -> Context:
    given = {"sizes": ("a",), "quick": False, "record": folder / "r.json", "logs": folder} | changes
    return Context(sys.executable, folder, folder, environment(folder, {"PATH": "/usr/bin:/bin"}), **given)


def need(module: str) -> None:
    """Skips a test without a module of the extra; AAECORE_REQUIRE_CUDA_CHECK=1 makes it fail instead."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        reason = f"needs {module} ({error}): pip install 'aaecore[cuda-check]'"
        (pytest.fail if os.environ.get("AAECORE_REQUIRE_CUDA_CHECK") == "1" else pytest.skip)(reason)


def commands(*codes: str) -> Commands:
    """Programs in Python."""
    return lambda context, seconds: [[context.python, "-c", code] for code in codes]


def new_record() -> dict[str, Any]:
    return {"machine": {"cores": 2}, "date": "today", "phases": {}, "results": {}, "lacking": {}}
