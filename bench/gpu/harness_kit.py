"""What the tests of the harness share: a context below a temporary folder, commands of it, and a record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gpu.environment import environment
from gpu.phases import Commands, Context


def make_context(folder: Path, **changes: Any) -> Context:
    given = {"sizes": ("a",), "quick": False, "record": folder / "r.json", "logs": folder} | changes
    return Context(sys.executable, folder, folder, environment(folder, {"PATH": "/usr/bin:/bin"}), **given)


def commands(*codes: str) -> Commands:
    """Programs in Python."""
    return lambda context, seconds: [[context.python, "-c", code] for code in codes]


def new_record() -> dict[str, Any]:
    return {"machine": {"cores": 2}, "date": "today", "phases": {}, "results": {}, "lacking": {}}
