"""The regression gate: ratios, which a drifting clock and another machine change less than times.

They are recorded as pytest-benchmark's "times" (see `ratios.py`): the smaller the better, and the unit is not seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import goals
import pytest
from alone import PROBE, of_the_limit
from alternate import Competitor, Round, Spec, judge, pair, running, take_turns
from protocol import Request
from pytest_benchmark.fixture import BenchmarkFixture
from ratios import counted, keep
from settings import OURS, Run
from sizes import SIZES

PEERS = [Spec("numpy", "inplace"), Spec("torch", "eager"), Spec("jax", "jit")]
ROUNDS = 9


def _ratios(
    benchmark: BenchmarkFixture, competitors: list[Competitor], of: Callable[[Round], tuple[float, bool]], probe: float
) -> list[tuple[float, bool]]:
    """(ratio, whether it is clean) of every round; a single, untimed one with --benchmark-disable."""
    request = Request(0.0, 0.0, 1, probe) if benchmark.disabled else Request(probe=probe)

    def enough(made: list[Round]) -> bool:
        return benchmark.disabled or judge([of(r) for r in made]).decided

    return [of(r) for r in take_turns(competitors, request, 1 if benchmark.disabled else ROUNDS, enough)]


@pytest.mark.benchmark(timer=counted)
@pytest.mark.parametrize("size", goals.ONE_THREAD)
def test_one_thread_by_the_machines_limit(size: str, benchmark: BenchmarkFixture) -> None:
    """A step's time / (operations of its matrix products / the rate of multiply-adds before and after it)."""
    benchmark.group = "ratio: one thread / the machine's limit"
    with running([OURS], SIZES[size], 1) as competitors:
        made = _ratios(benchmark, competitors, lambda r: of_the_limit(r[str(OURS)], SIZES[size], 1), PROBE)
    keep(benchmark, made)


@pytest.mark.benchmark(timer=counted)
@pytest.mark.parametrize("peer", PEERS, ids=str)
@pytest.mark.parametrize("size", ["a", "d", "f"])
def test_step_by_a_peers(size: str, peer: Spec, benchmark: BenchmarkFixture) -> None:
    """Our step's time / the peer's, on all cores."""
    benchmark.group = "ratio: ours / the peer's"
    run = Run(peers=[peer])
    if peer.library not in run.installed:
        pytest.skip(f"{peer.library} is not installed: install it, or set AAECORE_PEERS_PYTHON to a Python that has it")
    with running([peer, OURS], SIZES[size], run.threads) as competitors:
        assert len(competitors) == 2, f"{peer} is installed, so both should run; the line above says why one did not"
        # The pair of ours and the peer's: larger is worse, as of a time.
        made = _ratios(benchmark, competitors, lambda r: pair([r], str(OURS), str(peer))[0], 0.0)
    keep(benchmark, made)
