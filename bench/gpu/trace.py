"""What a profiler saw of a graph, told of its nodes: when each began, how long it took, what it waited for.

Nothing here needs a GPU. A profiler gives kernels with their grids and times, and no nodes, and several nodes of a step
have the same kernel and grid. An event is a node's if these agree and all that the node comes after has ended.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from aaecore.backends.cuda.driver import Node

Row = dict[str, Any]
Key = tuple[str, tuple[int, int]]  # kernel and grid
# Microseconds by which a node may seem to begin before the one that it waits for ends, the strictest that fits. On an
# H100 up to 3 % of such pairs seem to overlap, by 0.55 at the most: ends and beginnings are not stamped by one clock.
SLACKS = (0.1, 0.7)
TRIES = 200  # for each event, before a match is given up


class Mismatch(Exception):
    """The events cannot be those of the graph; the message says where."""


class Event(NamedTuple):
    """A kernel that ran: microseconds of the profiler's clock, and which launch of a graph it came with."""

    kernel: str
    grid: tuple[int, int]
    start: float
    us: float
    launch: int

    @property
    def end(self) -> float:
        return self.start + self.us


class Times(NamedTuple):
    """Of a node, in microseconds from the start of its graph."""

    start: float
    us: float

    @property
    def end(self) -> float:
        return self.start + self.us


@dataclass(frozen=True)
class Seen:
    """A graph as it usually ran: medians over its replays."""

    nodes: Sequence[Node]
    times: Sequence[Times]
    replays: int
    ambiguous: int  # events of a replay that could have been another node's, at the most
    overlap: float = 0.0  # microseconds by which a node seemed to begin too early, at the most

    def wait(self, number: int) -> float:
        """How long after the last node that it waits for a node began, or after the start of the graph."""
        ready = max((self.times[w].end for w in self.nodes[number].after), default=0.0)
        return self.times[number].start - ready

    def chain(self) -> list[int]:
        """The longest path by time: of the node that ended last, what ended last of what it waits for, and so on.

        Durations and waits along it add up to the time of the graph.
        """
        path = [max(range(len(self.nodes)), key=lambda n: self.times[n].end)]
        while self.nodes[path[-1]].after:
            path.append(max(self.nodes[path[-1]].after, key=lambda n: self.times[n].end))
        return path[::-1]


def events_of(trace: Mapping[str, Any]) -> list[Event]:
    """The kernels of a trace in Chrome's format, as torch.profiler writes it."""
    return [
        Event(e["name"], (e["args"]["grid"][0], e["args"]["grid"][1]), e["ts"], e["dur"], e["args"]["correlation"])
        for e in trace["traceEvents"]
        if e.get("cat") == "kernel"
    ]


def key(node: Node) -> Key:
    return node.launch.kernel, node.launch.grid


def replays(nodes: Sequence[Node], events: Sequence[Event]) -> list[list[Event]]:
    """The events of every whole replay of a graph, in order of start; other graphs' are passed over."""
    launches: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        launches[event.launch].append(event)
    kinds = Counter(key(node) for node in nodes)
    whole = [made for made in launches.values() if Counter((e.kernel, e.grid) for e in made) == kinds]
    return [sorted(made, key=lambda e: e.start) for made in whole]


def match(nodes: Sequence[Node], events: Sequence[Event], slack: float = SLACKS[0]) -> tuple[list[int], int]:
    """The node of every event of a replay, in order of start, and how many of them had several to choose from.

    Of several, that which comes first in the graph is taken, and another where this leaves a later event without one.

    Raises:
        Mismatch: no choice gives every event a node.
    """
    of_kind: defaultdict[Key, list[int]] = defaultdict(list)
    for number, node in enumerate(nodes):
        of_kind[key(node)].append(number)
    end: dict[int, float] = {}  # of the nodes that have an event
    chosen: list[int] = []
    options: list[list[int]] = []  # what is still to be tried for each event, and for the next one
    several: list[bool] = []
    furthest = tries = 0
    while len(chosen) < len(events):
        event = events[len(chosen)]
        if len(options) == len(chosen):
            left = [n for n in of_kind[event.kernel, event.grid] if n not in end]
            options.append([n for n in left if _may_begin(nodes[n], event, end, slack)])
            several[len(chosen) :] = [len(options[-1]) > 1]
        furthest, tries = max(furthest, len(chosen)), tries + 1
        if options[-1] and tries <= TRIES * len(events):
            chosen.append(options[-1].pop(0))
            end[chosen[-1]] = event.end
        elif chosen and tries <= TRIES * len(events):
            options.pop()
            del end[chosen.pop()]
        else:
            raise Mismatch(f"event {furthest}, {events[furthest].kernel}, began before what it waits for had ended")
    return chosen, sum(several)


def _may_begin(node: Node, event: Event, end: Mapping[int, float], slack: float) -> bool:
    return all(w in end and end[w] <= event.start + slack for w in node.after)


def _match(nodes: Sequence[Node], events: Sequence[Event]) -> tuple[list[int], int]:
    """As strictly as it can be."""
    for slack in SLACKS[:-1]:
        with suppress(Mismatch):
            return match(nodes, events, slack)
    return match(nodes, events, SLACKS[-1])


def _overlap(nodes: Sequence[Node], numbers: Sequence[int], events: Sequence[Event]) -> float:
    of = dict(zip(numbers, events, strict=True))
    return max((of[w].end - of[n].start for n, node in enumerate(nodes) for w in node.after), default=0.0)


def seen(nodes: Sequence[Node], events: Sequence[Event]) -> Seen:
    """Of the replays that fit the graph. Raises: Mismatch: there is none among the events."""
    made = replays(nodes, events)
    if not made:
        raise Mismatch(f"no launch among {len(events)} kernels has the {len(nodes)} kernels of the graph")
    times: list[list[Times]] = [[] for _ in nodes]
    ambiguous, overlap, wrong = 0, 0.0, []
    for replay in made:
        try:
            numbers, several = _match(nodes, replay)
        except Mismatch as reason:
            wrong.append(reason)
            continue
        ambiguous, overlap = max(ambiguous, several), max(overlap, _overlap(nodes, numbers, replay))
        for number, event in zip(numbers, replay, strict=True):
            times[number].append(Times(event.start - replay[0].start, event.us))
    if len(wrong) == len(made):
        raise wrong[0]
    usual = [Times(statistics.median(t.start for t in of), statistics.median(t.us for t in of)) for of in times]
    return Seen(nodes, usual, len(made) - len(wrong), ambiguous, overlap)


def node_rows(graph: Seen) -> list[Row]:
    """A row for every node, in order of start; microseconds."""
    chain = set(graph.chain())
    return [
        {
            "node": n, "kernel": graph.nodes[n].launch.kernel, "grid": "{}x{}".format(*graph.nodes[n].launch.grid),
            "start": round(graph.times[n].start, 2), "us": round(graph.times[n].us, 2),
            "wait": round(graph.wait(n), 2), "chain": n in chain,
        }
        for n in sorted(range(len(graph.nodes)), key=lambda n: graph.times[n].start)
    ]  # fmt: skip


def summary(graph: Seen, steps: int) -> Row:
    """The sums, of one step of a graph of so many; microseconds.

    The longest gap is that of the whole graph: a profiler may hold a graph up once, which is no wait of a step.
    """
    chain = graph.chain()
    sums = {
        "step us": max(t.end for t in graph.times), "chain us": sum(graph.times[n].us for n in chain),
        "gaps us": sum(graph.wait(n) for n in chain), "kernel us": sum(t.us for t in graph.times),
        "nodes": len(graph.nodes), "chain nodes": len(chain),
    }  # fmt: skip
    row: Row = {name: round(total / steps, 2) for name, total in sums.items()}
    longest = round(max(graph.wait(n) for n in chain), 2)
    row |= {"longest gap us": longest, "replays": graph.replays, "ambiguous": graph.ambiguous}
    return row | {"overlap us": round(graph.overlap, 2)}
