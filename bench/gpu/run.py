"""All that wants a GPU, in the order of what it tells, each part with a limit of time: `make gpu`.

    python -m gpu.run                                    everything, for the Python that runs it; no network
    python -m gpu.run --budget 220 --phases tests own    some phases, in so many seconds; preflight and build come first
    python -m gpu.run --sizes a g                        some sizes
    python -m gpu.run --quick                            a first impression in three minutes
    python -m gpu.run --out FOLDER                       results elsewhere than bench/results/
    python -m gpu.run --dry                              on the emulator at tiny sizes: tries the run itself

It writes gpu-<name>.json and gpu-<name>.md after every phase, and what all commands say into gpu.log; a short table
comes last on standard output. Anything less than a whole run goes to .benchmarks/, and so does the log unless there is
an --out. The status is 0 if no phase failed. GPU_WHEELS is a folder of wheels to be put on the path.
What is compiled lies below build/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from gpu import pack, preflight, table
from gpu.commands import ALWAYS, PHASES, beside, importable, module
from gpu.document import document
from gpu.environment import BENCH, ROOT, environment, unpack
from gpu.phases import Background, Budget, Context, Outcome, Phase, run

BUDGET, QUICK_BUDGET = 560.0, 180.0  # seconds
SIZES = ("a", "g", "e", "f", "d", "c", "b")  # g: the network of a at batch 4096; the first ones matter most
PATIENCE = 90.0  # seconds for a phase that all others need
WAITING = 0.25  # of the seconds of the steps, for what compiles beside the phases: what is under way would be lost
LEAST = 2.0  # seconds without which no phase is begun
SCRATCH = ROOT / ".benchmarks"
Record = dict[str, Any]


def slug(gpu: str) -> str:
    """gpu-nvidia-h200"""
    return "gpu-" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def put_wheels(folder: Path, given: str | None, packed: Path = pack.FOLDER) -> list[str]:
    """Unpacks all wheels of a given folder, and of the pack's those of what is missing or too old; what is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    chosen = sorted(Path(given).glob("*.whl")) if given else []
    wrong = [f"GPU_WHEELS={given}: no wheels there"] if given and not chosen else []
    known = pack.read(packed).get("wheels", {})
    for check in (each for each in preflight.CHECKS if each.name in known):
        if "missing" in preflight.look(check):
            why = pack.why_not(known[check.name], packed)
            wrong += [f"wheel of {check.name}: {why}"] if why else []
            chosen += [] if why else [packed / known[check.name]["file"]]
    return wrong + [f"{name} is not for this Python" for name in unpack(chosen, folder)]


def outcome_of(phase: Phase, record: Record, context: Context, seconds: float, log: TextIO) -> Outcome:
    """Runs a phase, unless something that it needs is not there."""
    lacking = [f"{part}: {record['lacking'][part]}" for part in phase.needs if part in record["lacking"]]
    if lacking:
        return Outcome(status="left out", message=lacking[0])
    if phase.tool and not context.dry and shutil.which(phase.tool, path=context.environment["PATH"]) is None:
        return Outcome(status="left out", message=f"{phase.tool} is not on the PATH")
    if phase.package and not importable(context, phase.package):
        return Outcome(status="left out", message=f"{phase.package} is not installed")
    if seconds < LEAST:
        return Outcome(status="left out", message="no time is left")
    return run(phase, context, seconds, log)


def take_preflight(record: Record, outcome: Outcome) -> None:
    """Puts what the preflight found where everybody looks for it; what is missing becomes its message."""
    rows = outcome.rows
    record["versions"] = {row["check"]: row["found"] for row in rows if "found" in row}
    record["machine"] |= next((dict(row) for row in rows if "gpu" in row), {})
    missing = [
        f"missing {row['needed']}: {row['check']}: {row['missing']}"
        for row in rows
        if row.get("needed") and "missing" in row
    ]
    outcome.message = "; ".join(missing) or outcome.message
    for row in rows:
        if row.get("check") in ("cupy", "GPU") and "missing" in row:
            record["lacking"]["gpu"] = row["missing"]


def take_build(record: Record, outcome: Outcome) -> None:
    """Says what was taken from the pack and what was not; notes that there is no extension."""
    made = {row["part"]: row for row in outcome.rows if "part" in row}
    if outcome.status != "left out" and "from" not in made.get("extension", {}):
        record["lacking"]["extension"] = made.get("extension", {}).get("missing", "it was not built in time")
    outcome.message = "; ".join([*filter(None, [outcome.message]), *(table.built(row) for row in made.values())])


TAKE = {"preflight": take_preflight, "build": take_build}


@dataclass
class Results:
    """The files of a run, written again after every phase, under the GPU's name as soon as it is known."""

    folder: Path
    logs: Path

    def paths(self, record: Record) -> list[Path]:
        gpu = record["machine"].get("gpu")
        stem = (self.folder / slug(gpu)) if gpu else self.logs / "gpu-unknown"
        return [stem.with_name(f"{stem.name}{suffix}") for suffix in (".json", ".md")]

    def write(self, record: Record) -> list[Path]:
        """Without the names of folders outside the repository that messages may have."""
        paths = self.paths(record)
        texts = json.dumps(record, indent=1), f"# {paths[0].stem}\n\n{made_of(record, document)}"
        for path, text in zip(paths, texts, strict=True):
            new = path.with_name(f"{path.name}.new")
            new.write_text(without_folders(text) + "\n", encoding="utf-8")
            os.replace(new, path)
        return paths


def without_folders(text: str) -> str:
    """The repository and the user's folder have no names. A home at the root is none to hide: / is in all units."""
    home = os.path.expanduser("~")
    text = text.replace(str(ROOT), ".")
    return text.replace(home, "~") if len(home) > 1 else text


def made_of(record: Record, make: Callable[[Record], str]) -> str:
    """A table. A row that is not as it should be costs the table, not the run."""
    try:
        return make(record)
    except Exception as error:
        return f"No table could be made of this record: {type(error).__name__}: {error}"


def waited_for(background: Background, log: TextIO, seconds: float) -> tuple[str, float]:
    """What became of it, and how long it took."""
    begin = time.monotonic()
    said = background.end(log, seconds)
    waited = time.monotonic() - begin
    return f"{said}, waited for {waited:.0f} s" if waited >= 1 else said, waited


def measure(
    phases: Sequence[Phase], context: Context, budget: Budget, log: TextIO, record: Record, results: Results
) -> None:
    """Fills the record, which is written after every phase."""
    background: Background | None = None
    try:
        for i, phase in enumerate(phases):
            seconds = budget.share([p.limit for p in phases[i:]])
            if phase.name == "steps" and background:  # its caches are used from now on
                (record["background"], waited), background = waited_for(background, log, WAITING * seconds), None
                seconds -= waited
            if background:
                background.run_only_if(not phase.timed)
            if phase.name in ALWAYS:  # all others stand on these: a cold disk, or no pack, must not end them
                seconds = min(PATIENCE, budget.left / 2)
            print(f"{time.strftime('%H:%M:%S')}  {phase.name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
            log.write(f"\n===== {phase.name}\n")
            outcome = outcome_of(phase, record, replace(context, record=results.paths(record)[0]), seconds, log)
            TAKE.get(phase.name, lambda *_: None)(record, outcome)
            record["phases"][phase.name] = {
                "status": outcome.status, "seconds": outcome.seconds, "message": outcome.message,
            }  # fmt: skip
            record["results"][phase.name] = outcome.rows
            results.write(record)
            if phase.name == "build" and "gpu" not in record["lacking"]:
                background = Background(beside(context, [p.name for p in phases]), context)
    finally:
        if background:
            record["background"] = background.end(log)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, metavar="SECONDS")
    parser.add_argument("--phases", nargs="+", choices=[p.name for p in PHASES], metavar="PHASE")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, metavar="SIZE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def chosen(names: Sequence[str] | None) -> list[Phase]:
    """In the order of the table, those that come always among them."""
    return [p for p in PHASES if p.name in (*ALWAYS, *(names or [q.name for q in PHASES]))]


def prepare_stand_in(context: Context) -> None:
    """What stands for a GPU in a dry run needs the library, and its kernels compiled for the CPU, before any phase."""
    for line in (module("build", "--folder", str(context.build)), [context.python, "-P", "-c", "import cupy"]):
        subprocess.run(line, env=dict(context.environment), cwd=ROOT, stdout=sys.stderr, check=True)


def prepare(options: argparse.Namespace) -> tuple[Context, Results]:
    """Folders, environment and settings; SystemExit for wheels that cannot be used."""
    whole = not (options.phases or options.sizes or options.quick or options.dry)
    dry = SCRATCH / "gpu-dry" if options.dry else None
    logs = (dry or options.out or SCRATCH).resolve()
    folder = BENCH / "results" if whole and not options.out else logs
    build_folder = ROOT / "build" / ("gpu-dry" if options.dry else "gpu")
    for each in (folder, logs, build_folder):
        each.mkdir(parents=True, exist_ok=True)
    sizes = tuple(options.sizes or (SIZES[:2] if options.quick or options.dry else SIZES))
    found = environment(build_folder, os.environ, dry=options.dry)
    context = Context(
        sys.executable, ROOT, build_folder, found, sizes, options.quick, logs / "gpu-unknown.json", logs, options.dry
    )
    return context, Results(folder, logs)


def end(*_: object) -> None:
    raise SystemExit("ended by a signal")


def main() -> None:
    options, begin = arguments(), time.monotonic()
    context, results = prepare(options)
    seconds = options.budget or (QUICK_BUDGET if options.quick else BUDGET)
    record: Record = {
        "machine": {"cores": len(os.sched_getaffinity(0))}, "date": time.strftime("%Y-%m-%d"), "sizes": context.sizes,
        "budget": seconds, "dry": options.dry, "phases": {}, "results": {}, "lacking": {},
    }  # fmt: skip
    record["wheels"] = put_wheels(context.build / "wheels", os.environ.get("GPU_WHEELS"))
    if options.dry:
        prepare_stand_in(context)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background without it
    budget = Budget(seconds)
    with (context.logs / "gpu.log").open("w", encoding="utf-8") as log:
        try:
            measure(chosen(options.phases), context, budget, log, record, results)
        finally:  # of a run that is told to end, too
            record["seconds"] = round(time.monotonic() - begin, 1)
            print(f"wrote {', '.join(str(path) for path in results.write(record))}", file=sys.stderr)
            print(made_of(record, table.short), flush=True)
    sys.exit(any(phase["status"] in ("failed", "out of time") for phase in record["phases"].values()))


if __name__ == "__main__":
    main()
