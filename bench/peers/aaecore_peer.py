"""Training steps of aaecore: `replay` (recorded), `eager` (its launches, from Python), `trainer` (`Trainer.step`), and
`burst` (recorded and replayed many times in one call, on one x).

An epoch is one of `Trainer.fit` with its defaults, whatever the variant. On a GPU x is there already, and `replay` and
`eager` copy it into place. `ffma` is float32 without tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np
import peer
import protocol
import work_steps
from gpu.model import BURST, clock_of, make_model
from steps import launches_of, make_step, make_trainer

import aaecore
from aaecore.core.memory import Buffer
from aaecore.kernels import cpu as compiled

VARIANTS = ("replay", "eager", "trainer", "burst")


def model_of(options: peer.Options) -> aaecore.AAE:
    aaecore.set_num_threads(options.threads)
    try:
        return make_model(options.size, options.precision, options.device)
    except (TypeError, ValueError, aaecore.DeviceError) as error:
        raise protocol.Unavailable(str(error)) from None


def step(options: peer.Options, batches: protocol.Arrays) -> peer.Timed:
    model, xs, batch = model_of(options), cycle(batches), options.size.batch
    if options.variant == "trainer":
        trainer = make_trainer(model, batch)
        return peer.Timed(lambda: trainer.step(next(xs)))
    launches, x, _ = make_step(model, batch)
    if options.device == "cpu":
        return _on_host(options, model, launches, x, batches)
    backend = model.backend
    turns = cycle([backend.from_host(each) for each in batches])
    plan = None if options.variant == "eager" else backend.capture(launches)

    def call() -> None:
        backend.copy(x, next(turns))
        launches() if plan is None else plan.replay()

    def burst() -> None:
        assert plan is not None
        plan.replay(times=BURST)

    backend.copy(x, next(turns))
    timed, steps = (burst, BURST) if options.variant == "burst" else (call, 1)
    return peer.Timed(timed, steps, clock_of(backend, timed))


def _on_host(
    options: peer.Options, model: aaecore.AAE, launches: Callable[[], None], x: Buffer, batches: protocol.Arrays
) -> peer.Timed:
    xs = cycle(batches)
    if options.variant == "eager":

        def eager() -> None:
            model.backend.upload(x, next(xs))
            launches()

        return peer.Timed(eager)
    plan = model.backend.capture(launches, inputs=[x])
    model.backend.upload(x, next(xs))
    if options.variant == "burst":
        return peer.Timed(lambda: plan.replay(times=BURST), BURST)
    return peer.Timed(lambda: plan.replay(next(xs)))


def work_step(options: peer.Options, batches: protocol.Arrays) -> peer.Timed:
    """`replay` of a work."""
    aaecore.set_num_threads(options.threads)
    work = options.size
    model = work_steps.make_model(work, options.precision)
    rows = [work_steps.as_inputs(work, each) for each in work_steps.rows_of(work, len(batches))]
    inputs = {name: model.backend.empty(array.shape) for name, array in rows[0].items()}
    plan = model.backend.capture(launches_of(model, inputs)[0], inputs=list(inputs.values()))
    turns = cycle([tuple(each[name] for name in inputs) for each in rows])
    return peer.Timed(lambda: plan.replay(*next(turns)))


def epoch(options: peer.Options, rows: np.ndarray) -> peer.Timed:
    trainer = make_trainer(model_of(options), options.size.batch)

    def fit(x: np.ndarray = rows) -> None:
        trainer.fit(x, trainer.epoch + 1, progress=False)

    fit(rows[: 2 * options.size.batch + 1])
    return peer.Timed(fit, -(-len(rows) // options.size.batch))


def probe(seconds: float) -> float:
    return compiled.Kernels(aaecore.backends.cpu.default_isa()).fma_rate(seconds)


if __name__ == "__main__":
    variants = dict.fromkeys(VARIANTS, ("fp32", "ffma", "tf32", "bf16"))
    works = peer.Library({"replay": ("fp32", "bf16")}, work_step, probe=probe, apart=compiled.round_trip_ns)
    peer.main(peer.Library(variants, step, epoch, probe=probe, apart=compiled.round_trip_ns, works=works))
