"""A training step of aaecore: replay (recorded), eager (its launches, from Python) or trainer (`Trainer.step`)."""

from __future__ import annotations

from itertools import cycle

import peer
from sizes import Size
from steps import make_model, make_step

import aaecore


def make(size: Size, variant: str, threads: int) -> peer.Timed:
    aaecore.set_num_threads(threads)
    model, xs = make_model(size), cycle(peer.batches(size))
    if variant == "trainer":
        trainer = aaecore.Trainer(model, batch_size=size.batch, lr=peer.LR)
        return peer.Timed(lambda: trainer.step(next(xs)))
    step, x, _ = make_step(model, size.batch)
    if variant == "replay":
        plan = model.backend.capture(step, inputs=[x])
        return peer.Timed(lambda: plan.replay(next(xs)))

    def eager() -> None:
        model.backend.upload(x, next(xs))
        step()

    return peer.Timed(eager)


if __name__ == "__main__":
    peer.main(make, ["replay", "eager", "trainer"])
