"""Epochs of `Trainer.fit` on a GPU, and whether training gives the same bits however it is made.

    python -m gpu.epoch --seconds 25

60000 uint8 rows at batch 100 in the network of the paper: shuffled anew, gathered, scaled and trained on, with the
guard; all epochs in one `fit`, since each uploads the rows and records the steps anew. "first" is the first epoch, with
the upload, the compiler and the recording; "epoch" the fastest of the later ones, "median" their median. Then: recorded
and launched one by one, and five runs with one seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np
from sizes import Size, parse_size
from steps import make_trainer

from aaecore import Trainer
from aaecore.training.callbacks import Callback
from gpu.model import make_model

Row = dict[str, Any]
ROWS, EPOCHS = 60000, 8
SAME = 40  # steps after which bits are compared
RUNS = 5


def images(size: Size, rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, size.inputs), np.uint8)


class Clock(Callback):
    """Seconds of every epoch: of the first from when this was made, of each other from the end of the one before."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [end - begin for begin, end in pairwise(self.ends)]


def epochs(size: Size, precision: str, device: str, rows: int = ROWS, count: int = EPOCHS) -> Row:
    trainer, x = make_trainer(make_model(size, precision, device), size.batch), images(size, rows)
    clock = Clock()
    trainer.fit(x, count, callbacks=[clock], progress=False)
    first, *later = clock.seconds
    return {
        "precision": precision, "rows": rows, "batch": size.batch, "first": round(first, 4),
        "epoch": round(min(later), 5), "median": round(statistics.median(later), 5),
    }  # fmt: skip


def digest(size: Size, precision: str, device: str, *, record: bool = True, steps: int = SAME) -> str:
    """Of all weights after some steps."""
    trainer = make_trainer(make_model(size, precision, device), size.batch, record=record)
    trainer.fit(images(size, steps * size.batch), 1, progress=False)
    state = trainer.model.state_dict()
    return hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()


def same_bits(size: Size, precision: str, device: str, steps: int = SAME, runs: int = RUNS) -> Iterator[Row]:
    first = digest(size, precision, device, steps=steps)
    eager = digest(size, precision, device, record=False, steps=steps)
    yield {"what": f"recorded and one by one, {precision}", "same bits": first == eager, "steps": steps}
    others = {digest(size, precision, device, steps=steps) for _ in range(runs - 1)}
    yield {"what": f"{runs} runs, {precision}", "same bits": others == {first}, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=parse_size, default="a")
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    end, different = time.monotonic() + options.seconds, 0
    parts: list[tuple[str, Callable[[str], Iterable[Row]]]] = [
        ("epochs", lambda precision: [epochs(options.size, precision, options.device, options.rows)]),
        ("same bits", lambda precision: same_bits(options.size, precision, options.device)),
    ]
    for (what, part), precision in product(parts, ("fp32", "tf32", "bf16")):
        try:
            if time.monotonic() > end:
                raise TimeoutError("out of time")
            for row in part(precision):
                different += not row.get("same bits", True)
                print(json.dumps(row), flush=True)
        except Exception as error:  # the others go on
            print(json.dumps({"left out": f"{what}, {precision}", "why": str(error)}), flush=True)
    raise SystemExit(f"not the same bits: {different}" if different else 0)


if __name__ == "__main__":
    main()
