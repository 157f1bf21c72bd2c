"""Phases of a run on a GPU: commands with a limit of time, whose lines of JSON are kept as they come.

Where less time is left than the limits of all phases that are still to come, they shrink by one factor, so that each
has its part; what one saves the next ones have. A phase that fails, or has to be ended, is recorded as such, and the
next one runs. A command in the background is stopped while a phase measures times.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

Row = dict[str, Any]
ROWS = 50  # of tests that failed, for the record
GRACE = 3.0  # seconds between asking a command to end and ending it
MARGIN = 3.0  # seconds that a command that knows its time has beyond it, within the limit of its phase
NEEDED = ("gpu", "extension")  # parts of a machine that phases need


@dataclass(frozen=True)
class Context:
    """What commands are made of."""

    python: str
    root: Path  # of the repository
    build: Path
    environment: Mapping[str, str]
    sizes: tuple[str, ...]
    quick: bool
    record: Path  # the result so far, for phases that need earlier ones
    logs: Path
    dry: bool = False  # on the stand-in for a GPU


Commands = Callable[[Context, float], Sequence[Sequence[str]]]  # of the seconds that the commands should take


@dataclass(frozen=True)
class Phase:
    name: str
    limit: float  # seconds at the most
    commands: Commands
    needs: tuple[str, ...] = NEEDED
    tool: str = ""  # on the PATH, without which it is left out,
    package: str = ""  # and a package
    tests: bool = False  # its commands are pytest's, whose last line is a row
    apart: bool = False  # its commands do not need each other: each has its share of the time
    timed: bool = True  # what runs beside it would be measured


@dataclass
class Outcome:
    """What running commands came to."""

    rows: list[Row] = field(default_factory=list)
    status: str = "ok"  # ok, failed, out of time, left out
    message: str = ""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        return self.status in ("failed", "out of time")


class Budget:
    """The time of a whole run."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - self._clock())

    def share(self, limits: Sequence[float]) -> float:
        """Seconds for the first of the phases that are still to come."""
        return limits[0] * min(1.0, self.left / sum(limits))


def _environment(context: Context, tests: bool) -> dict[str, str]:
    """Tests and all that they start must not find the sources in the current folder: those have no compiled module.

    There are several processes of them, so a BLAS must not start a thread for every core in each.
    """
    more = {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} if tests else {}
    return {**context.environment, **more}


class Background:
    """A command beside the phases, in a process group of its own; what it says goes to a log of its own."""

    def __init__(self, command: Sequence[str], context: Context) -> None:
        self._log = (context.build / "gpu-background.log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=context.root,
            env=context.environment, start_new_session=True,
        )  # fmt: skip

    def _signal(self, sign: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, sign)

    def run_only_if(self, nothing_is_timed: bool) -> None:
        self._signal(signal.SIGCONT if nothing_is_timed else signal.SIGSTOP)

    def end(self, log: TextIO, seconds: float = 0.0) -> str:
        """What became of it, after so many seconds at the most: what it has compiled is on the disk.

        What it said goes to the log of the run.
        """
        self._signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        code = self.process.poll()
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        self._log.close()
        log.write(f"\n===== beside the phases\n{Path(self._log.name).read_text('utf-8', 'replace')}")
        return "ended before it was done" if code is None else f"done, status {code}"


class _Running:
    """A command in a process group of its own; its lines of JSON become rows, all else goes to the log."""

    def __init__(self, command: Sequence[str], context: Context, rows: list[Row], log: TextIO, tests: bool) -> None:
        self.last = ""
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", cwd=context.root, env=_environment(context, tests), start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(rows, log, tests), daemon=True)
        self._reader.start()

    def _read(self, rows: list[Row], log: TextIO, tests: bool) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            log.write(line)
            log.flush()
            text = line.strip()
            self.last = text or self.last
            if tests and text.startswith(("FAILED ", "ERROR ")) and len(rows) < ROWS:
                rows.append({"not passed": text[:200]})
            if text.startswith("{") and not tests:
                try:
                    rows.append(json.loads(text))
                except ValueError:
                    continue

    def wait(self, seconds: float) -> int | None:
        """The exit status; None if the command had to be ended."""
        try:
            code: int | None = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        self.end()
        self._reader.join(GRACE)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()
        return code

    def end(self) -> None:
        """Whatever is left of the group."""
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):  # pytest sums up when it is interrupted
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                return
            if sign != signal.SIGKILL:
                try:
                    self.process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    continue


def run(phase: Phase, context: Context, seconds: float, log: TextIO) -> Outcome:
    """The commands of a phase one after the other, until one fails that others need, or the time is up."""
    outcome, begin = Outcome(), time.monotonic()
    margin = seconds / 2 if context.dry else MARGIN  # on the emulator a single measurement takes seconds
    commands = phase.commands(context, max(1.0, seconds - margin))
    for number, command in enumerate(commands):
        left = seconds - (time.monotonic() - begin)
        left /= len(commands) - number if phase.apart else 1
        if left <= 0:
            outcome.status, outcome.message = "out of time", f"not begun: {' '.join(command)[-80:]}"
            break
        running = _Running(command, context, outcome.rows, log, phase.tests)
        try:
            code = running.wait(left)
        except BaseException:
            running.end()
            raise
        if phase.tests:
            outcome.rows.append({"tests": command[-1], "summary": running.last.strip("= ")})
        if code is None:
            outcome.status, outcome.message = "out of time", f"ended after {left:.0f} s: {' '.join(command)[-80:]}"
            if not phase.apart:
                break
        if code:
            outcome.status, outcome.message = "failed", f"status {code}: {running.last[-300:]}"
            if not (phase.tests or phase.apart):
                break
    outcome.seconds = round(time.monotonic() - begin, 1)
    return outcome
