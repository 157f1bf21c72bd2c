"""The memory of a model and its recorded step: measured, and by the formula in sizes.py.

    python memory.py --size 784-256-8-128

Prints one line of JSON, in bytes: `formula`; `plan`, all buffers that the recorded step touches; and `measured`, the
peak of the process after some steps above its peak before the model was made.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from machine import peak_mb
from sizes import parse_size, step_bytes
from steps import make_model, make_step, plan_buffers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default="f")
    size = parser.parse_args().size
    x = np.random.default_rng(0).random((size.batch, size.inputs), np.float32)
    before = peak_mb()
    model = make_model(size)
    launches, buffer, _ = make_step(model, size.batch)
    plan = model.backend.capture(launches)
    model.backend.upload(buffer, x)
    for _ in range(3):
        plan.replay()
    measured = (peak_mb() - before) * 2**20
    print(json.dumps({"formula": step_bytes(size), "plan": plan_buffers(plan), "measured": round(measured)}))


if __name__ == "__main__":
    main()
