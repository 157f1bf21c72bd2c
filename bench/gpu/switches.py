"""What each switch of the CUDA backend does to the time of a step: with it and without it, in turn, at size a.

    python -m gpu.switches --seconds 40

Both sides make bursts of steps by turns, in one process, or, where the switch is CUDA's own, in a process each. A line
of JSON for each switch and precision: the medians, the median of ratios (with it / without; below 1 it helps), and
whether losses and weights after some steps have the same bits, as they must.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alternate import ended_after
from protocol import own_output

from aaecore.backends.cuda.backend import CudaBackend
from gpu.goals import GPU_SIZES
from gpu.model import BURST, clock_of, make_model, make_step
from gpu.processes import environment, module

Row = dict[str, Any]
SIZE, PRECISIONS = "a", ("fp32", "bf16")
EACH = 2.0  # seconds of a switch and a precision, at most
LEAST = 5  # rounds
WEIGHT = 4  # of a switch that wants two processes, which take some seconds to start; others have 1


@dataclass(frozen=True)
class Switch:
    """Attributes of the driver and the backend, or environment variables, to be set before anything is made."""

    name: str
    driver: Mapping[str, Any] = field(default_factory=dict)
    backend: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        return WEIGHT if self.environment else 1


BASE = Switch("none")
SWITCHES = (
    Switch("order linear", driver={"order": "linear"}),
    Switch("order urgent", driver={"order": "urgent"}),
    Switch("carveout 100", driver={"carveout": 100}),
    Switch("a kernel for each call", backend={"fuses": False}),
    Switch("graphs of 1 step", backend={"steps_per_graph": 1}),
    Switch("graphs of 64 steps", backend={"steps_per_graph": 64}),
    Switch("CUDA_DEVICE_MAX_CONNECTIONS=32", environment={"CUDA_DEVICE_MAX_CONNECTIONS": "32"}),
)


@dataclass(frozen=True)
class Side:
    """One of the two that take turns."""

    digest: str  # of losses and weights after some steps
    burst: Callable[[], float]  # makes steps, gives the seconds of one


def side(switch: Switch, size: str, precision: str, device: str) -> Side:
    """In this process, with a device of its own."""
    model = make_model(GPU_SIZES[size], precision, device)
    backend = model.backend
    if isinstance(backend, CudaBackend):
        for target, values in ((backend.driver, switch.driver), (backend, switch.backend)):
            for name, value in values.items():
                getattr(target, name)  # AttributeError: there is no such switch any more
                setattr(target, name, value)
    step, losses = make_step(model, GPU_SIZES[size].batch)
    plan = backend.capture(step)
    plan.replay(times=BURST + 1)  # so that graphs of many steps and of one are used
    state = model.state_dict()
    made = [backend.to_host(losses), *(state[name] for name in sorted(state))]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in made)).hexdigest()
    clock = clock_of(backend, lambda: plan.replay(times=BURST))
    return Side(digest, lambda: clock(1) / BURST)


@contextmanager
def process(switch: Switch, size: str, precision: str, device: str, seconds: float) -> Iterator[Callable[[], Side]]:
    """Begins another process, which is ended after so many seconds whatever it does; gives what waits for its side."""
    line = module("switches", "--serve", precision, "--size", size, "--device", device)
    variables = environment(**switch.environment)
    running = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)

    def answer() -> Any:
        assert running.stdout is not None
        text = running.stdout.readline()
        if not text:
            raise RuntimeError(f"a process with {switch.name} ended, or was ended after {seconds:.0f} s")
        return json.loads(text)

    def burst() -> float:
        assert running.stdin is not None
        running.stdin.write("\n")
        running.stdin.flush()
        return float(answer())

    with ended_after(seconds, running):
        try:
            yield lambda: Side(answer(), burst)
        finally:
            running.communicate()  # closes its standard input, which ends it


def serve(size: str, precision: str, device: str) -> None:
    """Makes a burst for every line."""
    answers = own_output()
    made = side(BASE, size, precision, device)
    print(json.dumps(made.digest), file=answers, flush=True)
    for _ in sys.stdin:
        print(made.burst(), file=answers, flush=True)


def in_turn(base: Side, other: Side, seconds: float) -> Row:
    """Bursts of both until the time is up, the order changing from round to round."""
    for each in (base, other):
        each.burst()
    times: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    while len(times) < LEAST or time.monotonic() < end:
        first, second = (base, other) if len(times) % 2 else (other, base)
        took = {id(each): each.burst() for each in (first, second)}
        times.append((took[id(base)], took[id(other)]))
    return {
        "us": round(statistics.median(other for _, other in times) * 1e6, 3),
        "base us": round(statistics.median(base for base, _ in times) * 1e6, 3),
        "ratio": round(statistics.median(other / base for base, other in times), 4), "rounds": len(times),
        "same bits": base.digest == other.digest,
    }  # fmt: skip


def compared(switch: Switch, base: Side, size: str, precision: str, device: str, seconds: float, left: float) -> Row:
    """Bursts for so many seconds; processes for it are ended when no time is left."""
    if not switch.environment:
        return in_turn(base, side(switch, size, precision, device), seconds)
    with (
        process(BASE, size, precision, device, left) as without,
        process(switch, size, precision, device, left) as other,
    ):
        return in_turn(without(), other(), seconds)  # both have started at the same time


def switches(size: str, precisions: Sequence[str], device: str, seconds: float) -> Iterator[Row]:
    """A row for every switch and precision, as long as there is time."""
    end, bases = time.monotonic() + seconds, {}
    asked = [(switch, precision) for switch in SWITCHES for precision in precisions]
    for number, (switch, precision) in enumerate(asked):
        left = end - time.monotonic()
        if left <= 0:
            yield {"left out": f"{switch.name}, {precision}", "why": "out of time"}
            continue
        try:
            if precision not in bases:
                bases[precision] = side(BASE, size, precision, device)
            each = min(EACH, left / sum(later.weight for later, _ in asked[number:]))
            row = compared(switch, bases[precision], size, precision, device, each, left)
            yield {"size": size, "precision": precision, "switch": switch.name, **row}
        except Exception as error:  # the others go on
            yield {"left out": f"{switch.name}, {precision}", "why": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", choices=GPU_SIZES, default=SIZE)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--serve", metavar="PRECISION", help="make a burst for every line of standard input")
    options = parser.parse_args()
    if options.serve:
        return serve(options.size, options.serve, options.device)
    different = 0
    for row in switches(options.size, PRECISIONS, options.device, options.seconds):
        different += not row.get("same bits", True)
        print(json.dumps(row), flush=True)
    raise SystemExit(f"not the same bits: {different}" if different else 0)


if __name__ == "__main__":
    main()
