"""A second place in memory for the batch that a recorded step gathers, for every other step of a graph of many.

A gather has to wait for the last kernel that reads the batch before, and the first layer waits for the gather: in one
place it is a link of the chain of all steps. In two, a batch is gathered while the step before is still being made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...core.memory import Buffer
from ...core.ops import OPS
from ...core.plan import Call
from .dependencies import Access, accesses, conflict

GATHERS = ("gather_rows", "gather_rows_u8")


def _output(call: Call) -> Buffer:
    (number,) = (i for i, arg in enumerate(OPS[call.name].args) if arg.role == "out")
    return call.buffers[number]


def _can_move(buffer: Buffer, gather: int, calls: Sequence[Call]) -> bool:
    """Whether the gather alone writes a buffer, nothing reads it before, and no other buffer lies across its ends."""
    start, stop = buffer.pointer, buffer.pointer + buffer.nbytes
    for other in (b for call in calls for b in call.buffers):
        first, last = other.pointer, other.pointer + other.nbytes
        if first < stop and start < last and not (start <= first and last <= stop):
            return False
    written = [Access(start, stop, True)]
    read = [written[0]._replace(writes=False)]
    return not any(
        conflict(written if number < gather else read, accesses(call))
        for number, call in enumerate(calls)
        if number != gather
    )


def _moved(buffer: Buffer, source: Buffer, storage: Any) -> Buffer:
    """A buffer in the memory of `source`, at its place in other memory."""
    at = (buffer.pointer - source.pointer) // buffer.storage.dtype.itemsize
    part = storage.view(buffer.storage.dtype)[at : at + buffer.storage.size]
    return Buffer(buffer.backend, buffer.shape, buffer.kind, part)


def in_second_place(calls: Sequence[Call], allocate: Callable[[int], Any]) -> list[Call]:
    """The calls of a step, its gathered batches in other memory: what `allocate` gives for a number of bytes."""
    made = list(calls)
    for number, gather in enumerate(calls):
        if gather.name not in GATHERS or not _can_move(source := _output(gather), number, calls):
            continue
        storage, stop = allocate(source.nbytes), source.pointer + source.nbytes
        for i, call in enumerate(made):
            buffers = [_moved(b, source, storage) if source.pointer <= b.pointer < stop else b for b in call.buffers]
            made[i] = Call(call.name, tuple(buffers), call.dims, call.scalars)
    return made
