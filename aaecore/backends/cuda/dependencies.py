"""What has to wait for what in a list of launches, by the memory that each reads and writes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

from ...core.ops import OPS
from ...core.plan import Call


class Access(NamedTuple):
    """Bytes `start` to `stop` of the device, written or only read."""

    start: int
    stop: int
    writes: bool


def accesses(call: Call, numbers: Iterable[int] | None = None) -> list[Access]:
    """What a call touches; with `numbers`, through those of its buffers."""
    args = OPS[call.name].args
    chosen = range(len(args)) if numbers is None else numbers
    return [
        Access(b.pointer, b.pointer + b.storage.nbytes, args[i].role != "in")
        for i, b in ((i, call.buffers[i]) for i in chosen)
    ]


def conflict(some: Iterable[Access], others: Sequence[Access]) -> bool:
    """Whether their order matters: one writes what the other reads or writes."""
    return any((a.writes or b.writes) and a.start < b.stop and b.start < a.stop for a in some for b in others)


def comes_after(waits: Iterable[int], before: Sequence[int]) -> int:
    """As bits, all that a launch comes after: what it waits for, and, from `before`, what these come after."""
    return reduce(or_, (before[w] | 1 << w for w in waits), 0)


def _without_implied(after: set[int], before: Sequence[int]) -> tuple[int, ...]:
    """The launches of `after` that no other of them comes after; `before` has what each comes after, as bits."""
    implied = 0
    for number in after:
        implied |= before[number]
    return tuple(sorted(number for number in after if not implied >> number & 1))


def dependencies(launches: Sequence[Sequence[Access]]) -> list[tuple[int, ...]]:
    """For every launch the earlier ones that it must wait for: those that wrote what it reads or writes, and those that
    read what it writes. Others that these wait for are left out."""
    # Memory is cut wherever an access begins or ends, so that every access is made of whole pieces.
    cuts = sorted({at for touched in launches for a in touched for at in (a.start, a.stop)})
    writer: dict[int, int] = {}  # the last one of each piece
    readers: dict[int, list[int]] = {}  # the launches that read each piece since
    before: list[int] = []
    waits = []
    for number, touched in enumerate(launches):
        pieces: dict[int, bool] = {}
        for a in touched:
            for piece in range(bisect_left(cuts, a.start), bisect_left(cuts, a.stop)):
                pieces[piece] = pieces.get(piece, False) or a.writes
        after: set[int] = set()
        for piece, writes in pieces.items():
            if writes and readers.get(piece):
                after.update(readers[piece])
            elif piece in writer:
                after.add(writer[piece])
            if writes:
                writer[piece], readers[piece] = number, []
            else:
                readers.setdefault(piece, []).append(number)
        waits.append(_without_implied(after, before))
        before.append(comes_after(waits[-1], before))
    return waits


def on_longest_chain(waits: Sequence[Sequence[int]]) -> list[bool]:
    """Whether a launch lies on a chain of launches, each waiting for the one before, that is as long as any."""
    depth: list[int] = []  # launches of the longest chain that ends with it,
    for after in waits:
        depth.append(1 + max((depth[w] for w in after), default=0))
    height = [1] * len(waits)  # and that begins with it
    for number in reversed(range(len(waits))):
        for w in waits[number]:
            height[w] = max(height[w], 1 + height[number])
    longest = max(depth, default=0)
    return [d + h - 1 == longest for d, h in zip(depth, height, strict=True)]
