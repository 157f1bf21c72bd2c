"""What has to wait for what in a list of launches, by the memory that each reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Access(NamedTuple):
    """Bytes `start` to `stop` of the device, written or only read."""

    start: int
    stop: int
    writes: bool


def _regions(ranges: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """A number for every range, the same for those that overlap, directly or through others."""
    numbers: dict[tuple[int, int], int] = {}
    end, number = -1, -1
    for start, stop in sorted(ranges):
        if start >= end:
            number += 1
        numbers[start, stop] = number
        end = max(end, stop)
    return numbers


def dependencies(launches: Sequence[Sequence[Access]]) -> list[tuple[int, ...]]:
    """For every launch the earlier ones that it must wait for: those that wrote what it reads or writes, and those that
    read what it writes. Others that these wait for are left out."""
    region = _regions(sorted({(a.start, a.stop) for accesses in launches for a in accesses if a.stop > a.start}))
    writer: dict[int, int] = {}  # of each region, the last one,
    readers: dict[int, list[int]] = {}  # and the launches that read it since
    waits = []
    for number, accesses in enumerate(launches):
        touched: dict[int, bool] = {}
        for a in accesses:
            if a.stop > a.start:
                touched[region[a.start, a.stop]] = touched.get(region[a.start, a.stop], False) or a.writes
        after = set()
        for r, writes in touched.items():
            since = readers.get(r, [])
            if writes and since:
                after.update(since)
            elif r in writer:
                after.add(writer[r])
        for r, writes in touched.items():
            if writes:
                writer[r], readers[r] = number, []
            else:
                readers.setdefault(r, []).append(number)
        waits.append(tuple(sorted(after)))
    return waits
