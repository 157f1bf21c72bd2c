"""Measures aaecore by itself and beside the peers that are installed, and writes tables and pictures: `make bench`.

    python run.py                            everything, up to 40 minutes with all peers
    python run.py --quick                    a first impression in some minutes
    python run.py --sizes a d --rounds 15 --parts steps --peers torch:eager jax:scan
    python run.py --parts models normed --store    renews parts of the stored result of this machine
    python run.py --gate                     fails where a ratio is worse than the stored one: `make bench-compare`
    python run.py --docs                     renews the tables in the README and the docs: `make bench-docs`

The whole run goes to bench/results/<machine>.json with its tables and pictures; anything less goes to .benchmarks/, so
that it never replaces a whole one. PyTorch and JAX are looked for in this Python's environment, or in that of
AAECORE_PEERS_PYTHON. Progress is on standard error, tables are on standard output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import alone
import compared
import report
from alternate import Spec, parse_spec, say
from machine import describe
from protocol import Unavailable
from ratios import gate_command
from settings import Run
from sizes import SIZES
from works import WORKS

from aaecore.backends.cpu import default_isa

HERE = Path(__file__).resolve().parent
RESULTS, PARTIAL = HERE / "results", HERE.parent / ".benchmarks"
DOCS = [HERE.parent / "README.md", HERE.parent / "docs" / "performance.md"]
PARTS = {**compared.PARTS, **alone.PARTS}
SUITE = "suite"  # the pytest-benchmark suites: ops, steps and ratios
QUICK: dict[str, Any] = {
    "sizes": ["a", "e"], "works": ["semi-joint"], "rounds": 8, "seconds": 0.1, "starts": 1, "rows": 6000,
    "growth": [64, 512, 4096],
    "peers": [Spec("torch", "eager"), Spec("jax", "scan"), Spec("numpy", "inplace")],
}  # fmt: skip


def suite() -> dict[str, Any]:
    """pytest-benchmark's own file, whose keys a result therefore has too: `--benchmark-compare` reads it."""
    log = PARTIAL / "suite.txt"
    say(f"{SUITE}: ops, steps and ratios in pytest-benchmark, its tables in {log.relative_to(HERE.parent)}")
    with TemporaryDirectory() as folder, log.open("w") as output:
        file = Path(folder) / "suite.json"
        command = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", f"--benchmark-json={file}"]
        code = subprocess.run(command, stdout=output, stderr=output, check=False, cwd=HERE.parent).returncode
        if code or not file.exists():
            say(f"{SUITE}: pytest ended with {code}; see the file")
        return json.loads(file.read_text()) if file.exists() else {}


def measure(run: Run, parts: list[str]) -> dict[str, Any]:
    """All results; what is there after each part is kept, in case a later one fails."""
    isa, start = default_isa(), time.monotonic()
    settings = {"rounds": run.rounds, "seconds": run.seconds, "threads": run.threads, "sizes": [*run.sizes, *run.works]}
    settings |= {"rows": run.rows, "growth": run.growth}
    record: dict[str, Any] = {
        "machine": describe(isa), "versions": run.installed | {"python": sys.version.split()[0]}, "settings": settings,
        "date": time.strftime("%Y-%m-%d"), "results": {},
    }  # fmt: skip
    for part in [p for p in PARTS if p in parts]:
        say(f"{part}: {PARTS[part].__doc__}")
        rows = record["results"][part] = []
        try:
            for row in PARTS[part](run):
                rows.append(row)
                report.write(record, PARTIAL, pictures=False)
        except Unavailable as reason:  # a process that had begun ended
            say(f"{part}: not finished: {reason}")
    if SUITE in parts:
        record |= suite()
    record["minutes"] = round((time.monotonic() - start) / 60, 1)
    return record


def stored() -> Path:
    """The whole result of this machine."""
    path = RESULTS / f"{describe(default_isa())['slug']}.json"
    if not path.exists():
        raise SystemExit(f"no stored result of this machine: expected {path}; `make bench` writes it")
    return path


def renewed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A stored result with the parts that were measured anew, and when that was; of "equal" its sizes.

    A part without a row, as one of peers that are not installed, stays what it was.
    """
    results = {part: rows for part, rows in new["results"].items() if rows}
    measured = {"commit": new["machine"]["commit"], "date": new["date"]}
    later = old.get("later", {}) | dict.fromkeys(results, measured)
    sizes = {row["size"] for row in results.get("equal", [])}
    results["equal"] = [r for r in old["results"]["equal"] if r["size"] not in sizes] + results.get("equal", [])
    merged = {**old["results"], **results}
    return {**old, "results": {part: merged[part] for part in PARTS if part in merged}, "later": later}


def gate() -> int:
    return subprocess.run(gate_command(stored()), check=False, cwd=HERE.parent).returncode


def docs() -> None:
    record = json.loads(stored().read_text())
    report.write(record, RESULTS)
    for path in DOCS:
        report.renew(path, record, RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=[*SIZES, *WORKS], metavar="SIZE")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, help="of each process in each round")
    parser.add_argument("--peers", nargs="+", type=parse_spec, metavar="LIBRARY:VARIANT[:PRECISION]")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, SUITE], metavar="PART", help=", ".join([*PARTS, SUITE]))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--store", action="store_true", help="put the parts into the stored result of this machine")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    if options.gate:
        sys.exit(gate())
    if options.docs:
        return docs()
    given = {k: v for k in ("sizes", "rounds", "threads", "seconds", "peers") if (v := getattr(options, k)) is not None}
    if options.sizes:
        given |= {"sizes": [s for s in options.sizes if s in SIZES], "works": [s for s in options.sizes if s in WORKS]}
    parts = options.parts or [*PARTS, *([] if options.quick else [SUITE])]
    if {"steps", "models", "epochs", "cold", "load"} & set(parts):
        parts = ["equal", *parts]  # no time of a peer without it
    if options.store and (given or options.quick or not options.parts):
        parser.error("--store: expected --parts, measured as in a whole run, and none of the other options")
    if options.store and SUITE in parts:
        parser.error(f"--store: expected parts other than {SUITE}, which belongs to a whole run")
    old = json.loads(stored().read_text()) if options.store else {}
    PARTIAL.mkdir(exist_ok=True)
    record = measure(Run(**{**(QUICK if options.quick else {}), **given}), parts)
    whole = not (given or options.parts or options.quick)
    if options.store:
        if empty := [part for part, rows in record["results"].items() if not rows]:
            say(f"no rows of {', '.join(empty)}: what is stored of them stays")
        record = renewed(old, record)
    written = report.write(record, RESULTS if whole or options.store else PARTIAL)
    print(written[1].read_text())
    say(f"{record['minutes']} minutes; wrote {', '.join(str(p) for p in written)}")


if __name__ == "__main__":
    main()
