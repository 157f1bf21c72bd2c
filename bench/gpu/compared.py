"""Training steps on a GPU: ours in all modes and precisions, and the peers that are installed, in turn.

    python -m gpu.compared --sizes a g e --seconds 150
    python -m gpu.compared --sizes a g --warm             only compiles the peers' steps, for their caches on the disk

Before anything is timed, the check of `gpu/equal.py`, once for every network; a peer whose step is not ours is not
timed. Prints a line of JSON for each check, for each time (the median of the rounds) and for each ratio (the median of
the rounds' ratios, peer / ours in bursts). Sizes are taken in the given order, as far as the seconds go. Where our own
process does not start, the peers' times are theirs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alternate import ELSEWHERE, Answer, Spec, ended_after, judge, parse_spec, say, versions
from protocol import Request, Unavailable
from sizes import Size

from gpu.goals import DRY, GPU_SIZES, LARGE, MODE
from gpu.servers import Group, Server, prepare_all, serving

Row = dict[str, Any]
COMPILED = ("a", LARGE)  # sizes at which those take part that compile for long
ROUNDS = {} if DRY else {"a": 5}  # else
FEWER = 1 if DRY else 3
ENOUGH = 2  # clean rounds of a ratio
REQUEST = Request(seconds=0.08, warmup=0.02, calls=3)
PREPARING, CHECKING = 0.4, 0.3  # at most, of the seconds that are left when a size is begun
LOADING = 5.0  # seconds of those that are prepared last, at the least
WARMING = 600.0  # seconds of a size at the most, in the background
HANGING = 20.0  # seconds after which a process that should answer within one is ended
TOO_LATE = 15.0  # seconds without which no further size is begun
OURS = [
    Spec("aaecore", "eager"), Spec("aaecore", "replay"), Spec("aaecore", "replay", "tf32"),
    Spec("aaecore", "replay", "bf16"), Spec("aaecore", MODE), Spec("aaecore", MODE, "ffma"),
    Spec("aaecore", MODE, "tf32"), Spec("aaecore", MODE, "bf16"),
]  # fmt: skip
OURSELVES = "aaecore"
PRECISIONS = ("fp32", "tf32", "bf16")
STAND_IN: Group = ("numpy", [Spec("numpy", "inplace")])  # a peer of a dry run, on the CPU
PEERS: list[Group] = [("torch", [Spec("torch", "eager", p) for p in PRECISIONS])]
# A process each: they compile at the same time, and one that is late costs no other. torch.compile without a graph of
# the whole step is bound by the host on a fast GPU, alike in all precisions, so one of them tells enough.
COMPILED_PEERS: list[Group] = [
    (f"{library} {variant} {precision}", [Spec(library, variant, precision)])
    for library, variant, precisions in (
        ("torch", "graph", PRECISIONS), ("jax", "scan", PRECISIONS), ("jax", "jit", ("fp32", "bf16")),
        ("torch", "compile", ("fp32",)),
    )
    for precision in precisions
]  # fmt: skip


def groups(installed: Mapping[str, str], sizes: Sequence[str]) -> list[Group]:
    """Ours, and the peers that are installed."""
    peers = [*PEERS, *(COMPILED_PEERS if set(sizes) & set(COMPILED) else []), *([STAND_IN] if DRY else [])]
    return [(OURSELVES, OURS), *(g for g in peers if g[1][0].library in installed)]


def matters(spec: Spec) -> bool:
    """Of those that are prepared first: ours, and PyTorch's eager steps and whole graphs in every precision.

    With all others beside them on the cores of a borrowed machine, the graph in bfloat16 was not ready in time.
    """
    return spec.library not in ELSEWHERE or (spec.library == "torch" and spec.variant != "compile")


def prepare_in_turns(servers: Sequence[Server], size: Size, seconds: float) -> None:
    """First those that matter; the others have what is left of the seconds, and enough to load what is compiled."""
    end = time.monotonic() + seconds
    prepare_all([s for s in servers if matters(s.specs[0])], size, seconds)
    prepare_all([s for s in servers if not matters(s.specs[0])], size, max(LOADING, end - time.monotonic()))


def taking_part(servers: Mapping[str, Server], size: str) -> list[Server]:
    late = {name for name, _ in COMPILED_PEERS} if size not in COMPILED else set()
    return [s for name, s in servers.items() if name not in late and s.process.poll() is None]


def equal_work(size: str, servers: Sequence[Server], device: str, seconds: float, ours: Sequence[str]) -> Iterator[Row]:
    """The check in our precisions; who fails it, or is not done with it in time, is left out from now on."""
    from gpu.equal import check  # which needs our library

    rivals = [s for s in servers if s.library in ELSEWHERE]
    theirs = {spec.precision for s in rivals for spec in s.ready}
    asked = [p for p in PRECISIONS if p in ours and p in theirs]
    for row in check(GPU_SIZES[size], asked, rivals, device, seconds):
        yield {**row, "size": size}
        if not row["equal"]:
            yield {"left out": f"{row['peer']} from {size} on", "why": row.get("error", "its step is not ours")}
            for server in rivals:
                server.specs = [spec for spec in server.specs if str(spec) != row["peer"]]


def rounds_of(size: str, servers: Sequence[Server], end: float) -> list[dict[str, Answer]]:
    """What every competitor answered in every round; who fails is left out."""
    made: list[dict[str, Answer]] = []
    while len(made) < ROUNDS.get(size, FEWER) and (not made or time.monotonic() < end):
        answers: dict[str, Answer] = {}
        made.append(answers)
        for server, spec in [(each, spec) for each in servers for spec in each.ready]:
            if time.monotonic() > end:
                return made
            try:
                with ended_after(HANGING, server.process):
                    answers[str(spec)] = server.measure(GPU_SIZES[size], spec, REQUEST)
            except (Unavailable, OSError) as reason:
                server.left_out[spec] = str(reason)
    return made


def ours_of(precision: str) -> str:
    return str(Spec("aaecore", MODE, precision))


def summed_up(size: str, made: Sequence[Mapping[str, Answer]]) -> Iterator[Row]:
    """A row for every competitor, and for every peer a ratio to ours of the same precision."""
    for who in dict.fromkeys(name for answers in made for name in answers):
        times = [answers[who]["med"] * 1e3 for answers in made if who in answers]
        yield {
            "size": size, "who": who, "us": round(statistics.median(times), 3), "least": round(min(times), 3),
            "most": round(max(times), 3), "rounds": len(times),
        }  # fmt: skip
        precision = parse_spec(who).precision
        ours = ours_of(precision)
        both = [answers for answers in made if who in answers and ours in answers]
        if not who.startswith("aaecore") and both:
            ratios = [(answers[who]["med"] / answers[ours]["med"], True) for answers in both]
            yield {"size": size, "peer": who, "ours": ours, **judge(ratios, ENOUGH).as_dict()}


def compared(sizes: Sequence[str], device: str, seconds: float, found: Sequence[Group]) -> Iterator[Row]:
    end = time.monotonic() + seconds
    checked: set[object] = set()
    threads = max(1, len(os.sched_getaffinity(0)) // 4)
    with serving(found, GPU_SIZES[sizes[0]], threads, device) as servers:
        for name, _ in found:
            if name not in servers:
                yield {"left out": name, "why": "its process did not start; see the log"}
        for size in sizes:
            left = end - time.monotonic()
            if left < TOO_LATE and checked:
                yield {"left out": f"steps at {size}", "why": "out of time"}
                continue
            say(f"steps {size}: prepare, {left:.0f} s left")
            part = taking_part(servers, size)
            prepare_in_turns(part, GPU_SIZES[size], max(10.0, PREPARING * left))
            network = _network(size)
            if network not in checked and OURSELVES in servers:
                say(f"steps {size}: equal work")
                ours = [spec.precision for spec in servers[OURSELVES].ready]
                yield from equal_work(size, part, device, CHECKING * left, ours)
            checked.add(network)
            say(f"steps {size}: in turn")
            yield from summed_up(size, rounds_of(size, part, end))
            for server in part:
                for spec, reason in server.left_out.items():
                    yield {"left out": f"{spec} at {size}", "why": reason}
        for server in servers.values():
            server.process.kill()  # at once: to end one after the other would take seconds


def warm(sizes: Sequence[str], device: str, found: Sequence[Group]) -> None:
    """Makes every step of the peers once, and the checks that they are ours, which compile too.

    All sizes of those that matter come before the first of the others: it may be ended at any time.
    """
    peers = [g for g in found if g[0] != OURSELVES]
    for turn in (True, False):
        if chosen := [g for g in peers if matters(g[1][0]) == turn]:
            _warm(sizes, device, chosen)


def _warm(sizes: Sequence[str], device: str, peers: Sequence[Group]) -> None:
    threads = max(1, len(os.sched_getaffinity(0)) // 4)
    with serving(peers, GPU_SIZES[sizes[0]], threads, device) as servers:
        for size in sizes:
            part = taking_part(servers, size)
            say(f"compile {size}: {', '.join(str(spec) for server in part for spec in server.specs)}")
            prepare_all(part, GPU_SIZES[size], WARMING)
            left_out = [f"{spec}: {why}" for server in part for spec, why in server.left_out.items()]
            say(f"compiled {size}; left out: {'; '.join(left_out) or 'none'}")
            for row in equal_work(size, part, device, WARMING, PRECISIONS if device == "cuda" else ()):
                say(f"checked {size}: {row}")


def _network(size: str) -> object:
    """What a check is good for: other batches of it make the same step, but the largest is checked too."""
    network: Size = GPU_SIZES[size]
    return network if size == LARGE else network[:3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=list(GPU_SIZES))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="without peers that compile")
    parser.add_argument("--warm", action="store_true", help="only compile the peers' steps")
    options = parser.parse_args()
    installed = versions()
    for library in ELSEWHERE:
        if library not in installed:
            print(json.dumps({"left out": library, "why": "not installed"}), flush=True)
    found = [g for g in groups(installed, options.sizes) if not (options.quick and g in COMPILED_PEERS)]
    if options.warm:
        return warm(options.sizes, options.device, found)
    for row in compared(options.sizes, options.device, options.seconds, found):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
