"""What one run of the benchmarks is to measure, and which competitors take part."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from alternate import ELSEWHERE, Spec, say, versions
from machine import cores
from sizes import SIZES
from steps import make_model
from works import WORKS

import aaecore

OURS = Spec("aaecore", "replay")  # the recorded step, with a copy of x
FIT = Spec("aaecore", "trainer")  # what a user starts: Trainer.step, or an epoch of Trainer.fit
PEERS = [
    Spec("torch", "eager"), Spec("torch", "compile"), Spec("jax", "jit"), Spec("jax", "scan"), Spec("numpy", "inplace"),
    Spec("torch", "eager", "bf16"), Spec("torch", "compile", "bf16"), Spec("torch", "medium", "bf16"),
    Spec("jax", "jit", "bf16"),
]  # fmt: skip
PRECISIONS = ("fp32", "bf16")


@dataclass
class Run:
    """The settings of a run, the same for all of its parts."""

    sizes: list[str] = field(default_factory=lambda: list(SIZES))
    works: list[str] = field(default_factory=lambda: list(WORKS))
    rounds: int = 9
    seconds: float = 0.3  # of each competitor in each round
    starts: int = 5  # fresh processes of each
    rows: int = 60000  # of an epoch
    growth: list[int] = field(default_factory=lambda: [2**n for n in range(6, 13)])
    threads: int = field(default_factory=cores)
    peers: list[Spec] = field(default_factory=lambda: list(PEERS))
    unequal: set[tuple[str, Spec]] = field(default_factory=set)  # (size, peer) whose times are not quoted

    @cached_property
    def installed(self) -> dict[str, str]:
        """Versions of the peers' libraries, with a line on each that is missing."""
        found = versions()
        for library in sorted({p.library for p in self.peers} - set(found)):
            hint = " (or set AAECORE_PEERS_PYTHON to a Python that has it)" if library in ELSEWHERE else ""
            say(f"left out: {library}: not installed{hint}")
        return found

    @cached_property
    def precisions(self) -> list[str]:
        """Those that aaecore has, with a line on each that it has not."""
        return [p for p in PRECISIONS if _available(p)]

    def rivals(self, size: str, precision: str, among: list[Spec] | None = None) -> list[Spec]:
        """The peers at a size that are installed and do the same work."""
        return [
            p
            for p in (self.peers if among is None else [a for a in among if a in self.peers])
            if p.precision == precision and p.library in self.installed and (size, p) not in self.unequal
            if size not in WORKS or p.library in ELSEWHERE
        ]


def ours(spec: Spec, precision: str) -> Spec:
    return spec._replace(precision=precision)


def _available(precision: str) -> bool:
    try:
        make_model(SIZES["e"], precision=precision)
    except (TypeError, ValueError, aaecore.DeviceError) as error:
        say(f"left out: {precision}: {error}")
        return False
    return True
