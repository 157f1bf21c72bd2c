"""Training steps of aaecore: `replay` (recorded), `eager` (its launches, from Python) or `trainer` (`Trainer.step`).

An epoch is one of `Trainer.fit` with its defaults, whatever the variant.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
import peer
import protocol
from steps import make_model, make_step

import aaecore
from aaecore.kernels import cpu as compiled

VARIANTS = ("replay", "eager", "trainer")


def model_of(options: peer.Options) -> aaecore.AAE:
    aaecore.set_num_threads(options.threads)
    try:
        return make_model(options.size, precision=options.precision)
    except (TypeError, ValueError, aaecore.DeviceError) as error:
        raise protocol.Unavailable(str(error)) from None


def step(options: peer.Options, batches: protocol.Arrays) -> peer.Timed:
    model, xs, batch = model_of(options), cycle(batches), options.size.batch
    if options.variant == "trainer":
        trainer = aaecore.Trainer(model, batch_size=batch, lr=protocol.LR)
        return peer.Timed(lambda: trainer.step(next(xs)))
    launches, x, _ = make_step(model, batch)
    if options.variant == "replay":
        plan = model.backend.capture(launches, inputs=[x])
        return peer.Timed(lambda: plan.replay(next(xs)))

    def eager() -> None:
        model.backend.upload(x, next(xs))
        launches()

    return peer.Timed(eager)


def epoch(options: peer.Options, rows: np.ndarray) -> peer.Timed:
    trainer = aaecore.Trainer(model_of(options), batch_size=options.size.batch, lr=protocol.LR)

    def fit(x: np.ndarray = rows) -> None:
        trainer.fit(x, trainer.epoch + 1, progress=False)

    fit(rows[: 2 * options.size.batch + 1])
    return peer.Timed(fit, -(-len(rows) // options.size.batch))


def probe(seconds: float) -> float:
    return compiled.Kernels(aaecore.cpu.default_isa()).fma_rate(seconds)


if __name__ == "__main__":
    variants = dict.fromkeys(VARIANTS, ("fp32", "bf16"))
    peer.main(peer.Library(variants, step, epoch, probe=probe, apart=compiled.round_trip_ns))
