"""Epochs of `Trainer.fit` on a GPU, and whether training gives the same bits however it is made.

    python -m gpu.epoch --seconds 25

60000 uint8 rows at batch 100 in the network of the paper: shuffled anew, gathered, scaled and trained on, with the
guard; the fastest epoch after the first. Then: recorded and launched one by one, and five runs with one seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from protocol import LR
from sizes import Size, parse_size

from aaecore import Trainer
from gpu.model import make_model

Row = dict[str, Any]
ROWS, EPOCHS = 60000, 4
SAME = 40  # steps after which bits are compared
RUNS = 5


def images(size: Size, rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, size.inputs), np.uint8)


def epochs(size: Size, precision: str, device: str, rows: int = ROWS, count: int = EPOCHS) -> Row:
    """Seconds of the first epoch, compilation included, of the fastest and of the median of the others."""
    trainer, x = Trainer(make_model(size, precision, device), batch_size=size.batch, lr=LR), images(size, rows)
    times = []
    for epoch in range(1, count + 1):
        begin = time.perf_counter()
        trainer.fit(x, epoch, progress=False)
        times.append(time.perf_counter() - begin)
    later = sorted(times[1:])
    return {
        "precision": precision, "rows": rows, "batch": size.batch, "first": round(times[0], 4),
        "epoch": round(later[0], 5), "median": round(later[len(later) // 2], 5),
    }  # fmt: skip


def digest(size: Size, precision: str, device: str, *, record: bool = True, steps: int = SAME) -> str:
    """Of all weights after some steps."""
    trainer = Trainer(make_model(size, precision, device), batch_size=size.batch, lr=LR, record=record)
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
    for precision in ("fp32", "tf32", "bf16"):
        print(json.dumps(epochs(options.size, precision, options.device, options.rows)), flush=True)
    for precision in ("fp32", "tf32", "bf16"):
        if time.monotonic() > end:
            print(json.dumps({"left out": f"same bits, {precision}", "why": "out of time"}), flush=True)
            continue
        for row in same_bits(options.size, precision, options.device):
            different += not row["same bits"]
            print(json.dumps(row), flush=True)
    raise SystemExit(f"not the same bits: {different}" if different else 0)


if __name__ == "__main__":
    main()
