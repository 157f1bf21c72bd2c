"""What `Trainer.fit` costs beyond its steps: epochs through fit and the same steps replayed bare, in turn.

    python overhead.py --size f --rounds 9

All in one process. The bare steps are the very plan that the trainer recorded, gather of the uint8 rows included, in
one native call, so all of the trainer's own Python is the difference. Prints a line of JSON per round: seconds of both,
and the cores that other processes used meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np
from alternate import ENOUGH_PAIRS, Answer, is_clean
from machine import machine_seconds, process_seconds
from sizes import Size, parse_size
from steps import make_model, make_trainer

from aaecore.core.plan import Plan

BLOCK = 0.3  # seconds of epochs at the least, on either side


def both_ways(size: Size, rows: int, precision: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """An epoch of `rows`, a multiple of the batch, through fit and bare."""
    model = make_model(size, precision=precision)
    trainer = make_trainer(model, size.batch)
    x = np.random.default_rng(0).integers(0, 256, (rows, size.inputs), np.uint8)
    plans: list[Plan] = []
    capture = model.backend.capture

    def watched(*arguments: object, **options: object) -> Plan:
        plans[:] = [capture(*arguments, **options)]
        return plans[0]

    def fit() -> None:
        model.backend.capture = watched
        trainer.fit(x, trainer.epoch + 1, progress=False)

    def bare() -> None:
        for call in plans[0].calls:
            if call.name == "cursor_advance":  # of the rows, and of the tables of rates and losses
                model.backend.upload(call.buffers[0], np.zeros(1, np.int64))
        plans[0].replay(times=rows // size.batch)

    return fit, bare


def seconds(epoch: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        epoch()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default="f")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    batch = options.size.batch
    fit, bare = both_ways(options.size, options.rows // batch * batch, options.precision)
    fit()
    times = 1 + int(BLOCK / seconds(bare, 1))
    made: list[Answer] = []
    while len(made) < options.rounds or (len(made) < 2 * options.rounds and sum(map(is_clean, made)) < ENOUGH_PAIRS):
        machine, own, start = machine_seconds(), process_seconds(os.getpid()), time.perf_counter()
        made.append({"fit": seconds(fit, times), "bare": seconds(bare, times)})
        foreign = machine_seconds() - machine - (process_seconds(os.getpid()) - own)
        made[-1]["foreign"] = max(0.0, foreign) / (time.perf_counter() - start)
        print(json.dumps(made[-1]), flush=True)


if __name__ == "__main__":
    main()
