"""Whether all do the same work: one training step from equal weights, ours and every peer's against float64.

Three states a size: the initial one, and after 5 and after 20 steps of training by aaecore. Weights, Adam's moments
and step counts of a state are given to a peer, which makes one step on the same x and the same prior sample, once in
float64 and once in each variant that is to be timed. The errors are relative to the peer's own step in float64:

    update    ||dw - dw64|| / ||dw64|| of each network, dw being what the step adds to its weights; the worst of them
    loss      |L - L64| / |L64|, the worst of the three losses

Single steps are compared because trajectories in float32 are chaotic. Adam divides a gradient by its own size, so
where a gradient is all but zero, rounding decides the direction of a whole step: a ReLU unit that flips for one sample
shows as a few updates that are far off, on either side. Hence the rule, in `agrees`: over the states, the median of
(our error / the peer's error) is at most 5, where errors below a floor count as the floor; and no error of either side
is above both a limit and 5 times the other's. In tf32 and bf16 the floor is the limit: libraries differ in
what they round.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import work_steps
from alternate import Spec, command, say
from protocol import PHASES, State, Stepped, batches, idle, read_stepped, write_state
from sizes import Size
from steps import make_model, make_trainer
from works import Work

import aaecore

STATES = (0, 5, 20)  # steps of training before the one that is compared
WIDEST = 1000  # features of hidden layers of a work that is checked: the states of wider ones are gigabytes
TIMES = 5.0  # that one side may be further off than the other; the order of a long sum alone makes 3
# Of update and loss. TF32 has 11 significant bits, eight times as fine as bfloat16.
LIMITS = {"fp32": (0.05, 1e-3), "tf32": (0.3, 2.5e-3), "bf16": (0.5, 0.02)}
FLOORS = {"fp32": (5e-6, 1e-7), "tf32": LIMITS["tf32"], "bf16": LIMITS["bf16"]}


class Errors(NamedTuple):
    """Of one step against the same step in float64."""

    update: float
    loss: float


def agrees(ours: Sequence[float], theirs: Sequence[float], limit: float, floor: float) -> bool:
    """The rule, for one kind of error over all states."""
    ratio = statistics.median(max(o, floor) / max(t, floor) for o, t in zip(ours, theirs, strict=True))
    both = [*zip(ours, theirs, strict=True), *zip(theirs, ours, strict=True)]
    return ratio <= TIMES and all(one <= max(limit, TIMES * other) for one, other in both)


def errors(before: State, made: Stepped, exact: Stepped) -> Errors:
    updates, compared = [], before.weights.keys() - idle(before.weights)
    for network in dict.fromkeys(name.split(".", 1)[0] for name in exact.weights):
        names = [n for n in compared if n.split(".", 1)[0] == network]
        off = sum(float(np.sum((made.weights[n].astype(np.float64) - exact.weights[n]) ** 2)) for n in names)
        all_of_it = sum(float(np.sum((exact.weights[n] - before.weights[n].astype(np.float64)) ** 2)) for n in names)
        updates.append((off / all_of_it) ** 0.5)
    losses = [abs(a - b) / abs(b) for a, b in zip(made.losses, exact.losses, strict=True)]
    return Errors(max(updates), max(losses))


def state_of(trainer: aaecore.Trainer, x: np.ndarray, z: np.ndarray) -> State:
    """Where a trainer stands, and what its next step will be made on."""
    parameters, moments = trainer.model.parameters, {}
    for phase, optimizer in trainer.optimizers.items():
        moved = [(n, id(p)) for n, p in parameters.items() if n.split(".", 1)[0] in PHASES[phase]]
        tables = [optimizer.moments[k] for k in ("m", "v")]
        moments[phase] = {n: tuple(trainer.backend.to_host(t[key]) for t in tables) for n, key in moved}
    steps = {phase: optimizer.steps for phase, optimizer in trainer.optimizers.items()}
    return State({"x": x, "z": z}, trainer.model.state_dict(), moments, steps)


def our_steps(model: aaecore.AAE, size: Size, folder: Path) -> list[tuple[State, Stepped]]:
    """The states, which are also written for the peers, and what our step makes of each."""
    trainer = make_trainer(model, size.batch)
    rng, xs = np.random.default_rng(1), batches(size, max(STATES) + len(STATES))
    made = []
    for count in STATES:
        while trainer.steps < count:
            trainer.step(xs[trainer.steps])
        x, z = xs[trainer.steps], rng.standard_normal((size.batch, size.latent)).astype(np.float32)
        state = state_of(trainer, x, z)
        write_state(folder / f"state-{count}.npz", state)
        losses = trainer.step(x, z_prior=z)
        after = trainer.model.state_dict()
        made.append((state, Stepped(after, [losses.reconstruction, losses.discriminator, losses.generator])))
    return made


def _run(specs: Sequence[Spec], size: Size | Work, threads: int, folder: Path) -> str:
    """One process makes the steps of all variants of a library, and of its first one in float64; an error, or none."""
    pairs = [f"{specs[0].variant}:fp64", *(f"{s.variant}:{s.precision}" for s in specs)]
    line, environment = command(specs[0], size, threads, "--check", str(folder), "--pairs", *pairs)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["the process ended without an error"])[-1]
    return str(json.loads(done.stdout.splitlines()[-1]).get("unavailable", ""))


def our_steps_of_work(work: Work, precision: str, folder: Path) -> list[tuple[State, Stepped]]:
    """As `our_steps`. The peers are given what our step drew."""
    made = []
    for count, state, stepped in work_steps.trained(work, STATES, precision=precision):
        write_state(folder / f"state-{count}.npz", state)
        made.append((state, stepped))
    return made


def check(size: Size | Work, specs: Sequence[Spec], threads: int) -> list[dict[str, Any]]:
    """One result per peer, all of the same precision: errors by state, ours and the peer's, and whether they agree."""
    precision = specs[0].precision
    results = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(size, Work):
            size = size._replace(hidden=min(size.hidden, WIDEST))
            made = our_steps_of_work(size, precision, folder)
        else:
            made = our_steps(make_model(size, precision=precision), size, folder)
        for library in dict.fromkeys(s.library for s in specs):
            variants = [s for s in specs if s.library == library]
            failed = _run(variants, size, threads, folder)
            for spec in variants:
                result = {"size": str(size), "peer": str(spec), "equal": False}
                if failed:
                    say(f"no equal-work check of {spec} at {size}: {failed}")
                    result["error"] = failed
                else:
                    result |= compare(spec, variants[0].variant, made, folder)
                results.append(result)
    return results


def compare(spec: Spec, exact_variant: str, made: Sequence[tuple[State, Stepped]], folder: Path) -> dict[str, Any]:
    """Our errors and the peer's, by state, and whether they agree."""
    ours, theirs = [], []
    for count, (state, our_step) in zip(STATES, made, strict=True):
        exact = read_stepped(folder / f"{exact_variant}-fp64-{count}.npz")
        ours.append(errors(state, our_step, exact))
        theirs.append(errors(state, read_stepped(folder / f"{spec.variant}-{spec.precision}-{count}.npz"), exact))
    rules = zip(LIMITS[spec.precision], FLOORS[spec.precision], strict=True)
    kinds = [agrees([o[i] for o in ours], [t[i] for t in theirs], *rule) for i, rule in enumerate(rules)]
    return {"equal": all(kinds), "our errors": ours, "errors": theirs}
