"""The log likelihood of data under a model that has samples, by a Parzen window: section 3 of the paper."""

from __future__ import annotations

import inspect
import json
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from ..arguments import count, number, shown
from ..core.owner import Use
from ..data.rows import Rows, moments
from ..errors import CheckpointError
from ..models.model import Model
from ..training.signals import StopSignals
from .parzen import BLOCK, Parzen, choose_sigma, digest, filled

FEW = 10_000  # samples, of the first of the paper's two columns
COARSE, FINE = 28, 15  # sigmas of the two grids
LEAST, MOST = 0.02, 10.0  # of the first, in standard deviations of the data
Progress = Callable[[int, int], object]  # (samples so far, samples in all), those to choose sigma with included
GIVE_UP = "finish that one, or remove the file to give it up"


class Likelihood(NamedTuple):
    """What was measured.

    Attributes:
        mean: of ln p(x) over the rows, in nats.
        error: its standard error.
        sigma: of the window.
        samples, rows: how many of each.
        seconds: that it took, what came before a stop included.
    """

    mean: float
    error: float
    sigma: float
    samples: int
    rows: int
    seconds: float


def likelihood(
    model: Model, x: Any, validation: Any = None, *, samples: int = FEW, sigma: float | None = None,
    grid: Sequence[float] | None = None, sigma_samples: int = FEW, checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_interval: float = 60.0, progress: Progress | None = None,
) -> Likelihood:  # fmt: skip
    """The mean log likelihood of rows x in nats: of a Gaussian Parzen window of samples of the model; see `Parzen`.

    Samples are drawn, decoded and reduced block by block on the model's device, and none is held. They are the same
    ones at every call: the model's random numbers for sampling begin anew, and are put back where they were.

    Without a `grid` sigma is looked for twice: among 28 numbers from 0.02 to 10 standard deviations of a feature of the
    validation rows, then among 15 between the neighbours of the best. In many dimensions a step of a grid counts: with
    784 features and a sigma that is off by a tenth, 8 nats are lost.

    Args:
        model: one that has samples.
        x: (B, features) rows to measure, which were used for nothing before.
        validation: (V, features) other rows, which nobody trained on: under the best sigma their mean is largest.
        samples: how many; the paper has 10 thousand and 10 million.
        sigma: instead of one that is chosen by validation rows.
        grid: sigmas to choose from.
        sigma_samples: how many samples to choose it with. The best sigma shrinks with the number of samples, so a
            likelihood of many with the sigma of few is a bound that more could raise.
        checkpoint: a file to write now and then; if it is there, the call goes on where it ends, and gives the bits of
            one that was never stopped. With it SIGINT and SIGTERM wait for the block that is being made, but while
            sigma is chosen, of which nothing is kept before its end.
        checkpoint_interval: seconds between two writes.
        progress: called after every block with the samples so far and those in all. Those that choose sigma count: once
            with a grid, else twice.

    Raises:
        ValueError, TypeError: a model without samples, or bad arguments.
        CheckpointError: the file is of another model, of other rows, of another sigma, or of more samples.
    """
    if not callable(getattr(model, "sample", None)):
        raise TypeError(f"model: expected one that has samples, got one of {type(model).__name__}")
    begun = time.monotonic()
    rows = model.check_data(x, "x", whole=True)
    wanted = count("samples", samples)
    held_out = None if validation is None else model.check_data(validation, "validation", whole=True)
    asked = _asked(model, held_out, sigma, grid, count("sigma_samples", sigma_samples))
    number("checkpoint_interval", checkpoint_interval, 0.0)
    to_choose = 0 if held_out is None else sigma_samples * (2 if grid is None else 1)

    def tell(made: int) -> None:
        if progress is not None:
            progress(made, to_choose + wanted)

    if checkpoint is not None and os.path.exists(checkpoint):
        window = _resumed(checkpoint, rows, model, asked, wanted)
        begun -= window.about["seconds"]
    else:
        chosen = asked["sigma"] if held_out is None else _chosen(model, held_out, grid, sigma_samples, tell)
        window = Parzen(rows, [chosen], device=model.backend)
        window.about = {"asked": asked, "counter": 0}

    def save() -> None:
        if checkpoint is not None:
            window.save(checkpoint, {**window.about, "seconds": time.monotonic() - begun})

    use = Use("likelihood")
    signals = StopSignals(use, (signal.SIGINT, signal.SIGTERM) if checkpoint is not None else ())
    try:
        signals.begin()
        saved = time.monotonic()
        if to_choose and not window.count:
            save()  # the sigma
        with closing(draws(model, wanted, window.count, window.about["counter"])) as blocks:
            for block, counter in blocks:
                window.add(block)
                window.about["counter"] = counter
                tell(to_choose + window.count)
                if signals.received is not None:
                    break
                if time.monotonic() - saved >= checkpoint_interval:
                    save()
                    saved = time.monotonic()
        save()
    finally:
        signals.end()
    (mean,), (error,) = window.result()
    seconds = time.monotonic() - begun
    return Likelihood(float(mean), float(error), float(window.sigmas[0]), window.count, len(rows), seconds)


def draws(model: Any, samples: int, made: int = 0, counter: int = 0) -> Generator[tuple[Any, int]]:
    """So many samples in blocks of 1024 rows at most, and after each the position of the model's random numbers.

    After `made` samples it goes on at the position that came with the last of them. Blocks are always drawn whole, so
    the samples depend on no argument.
    """
    sampler = model.sampler
    before = sampler.counter
    on_device = {"on_device": True} if "on_device" in inspect.signature(model.sample).parameters else {}
    sampler.counter = counter
    try:
        while made < samples:
            here = sampler.counter
            block = model.sample(BLOCK, **on_device)[made % BLOCK :][: samples - made]
            made += len(block)
            yield block, here if made % BLOCK else sampler.counter
    finally:
        sampler.counter = before


def default_grid(model: Model, validation: Rows) -> np.ndarray:
    """(28,) sigmas from 0.02 to 10 standard deviations of a feature of the rows, on average, in equal ratios.

    Raises:
        ValueError: rows that do not differ.
    """
    std = moments(model.backend, validation)[1]
    if not std:
        raise ValueError("validation: expected rows that differ, or a grid of sigmas besides, got equal rows")
    return np.geomspace(LEAST, MOST, COARSE) * float(std)


def _chosen(
    model: Model, validation: Rows, grid: Sequence[float] | None, samples: int, tell: Callable[[int], object]
) -> float:  # fmt: skip
    made = 0

    def drawn() -> Iterator[Any]:
        nonlocal made
        for block, _ in draws(model, samples):
            yield block
            made += len(block)
            tell(made)

    if grid is not None:
        return choose_sigma(drawn(), validation, grid, device=model.backend)
    coarse = default_grid(model, validation)
    first = int(np.flatnonzero(coarse == choose_sigma(drawn(), validation, coarse, device=model.backend))[0])
    fine = np.geomspace(coarse[max(first - 1, 0)], coarse[min(first + 1, COARSE - 1)], FINE)
    return float(fine[filled(drawn(), validation, fine, model.backend).result()[0].argmax()])


def _asked(
    model: Model, validation: Rows | None, sigma: float | None, grid: Sequence[float] | None, samples: int
) -> dict[str, Any]:  # fmt: skip
    """What a state must agree on to be gone on with: the model, and the sigma or where it comes from."""
    from ..files import checkpoint

    described = {k: v for k, v in model.config().items() if k not in ("device", "precision")}
    weights = checkpoint.digest(model.state_dict())
    of_model = f"{weights} {json.dumps(described, sort_keys=True, default=str)}"
    if sigma is not None:
        if validation is not None or grid is not None:
            raise ValueError(f"sigma: expected None beside validation rows or a grid, got {shown(sigma)}")
        return {"model": of_model, "sigma": number("sigma", sigma, 0.0, open_low=True)}
    if validation is None:
        raise ValueError("validation: expected rows to choose sigma by, or a sigma, got neither")
    chosen_by = {"validation": digest(model.backend, validation), "samples to choose sigma": samples}
    return {"model": of_model, **chosen_by, "grid": None if grid is None else [float(s) for s in grid]}


def _resumed(
    path: str | os.PathLike[str], rows: Rows, model: Model, asked: dict[str, Any], samples: int
) -> Parzen:  # fmt: skip
    name = os.fsdecode(path)
    try:
        window = Parzen.load(path, rows, device=model.backend)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {GIVE_UP}") from None
    about = window.about
    there, position, seconds = (about.get(name) for name in ("asked", "counter", "seconds"))
    if not (isinstance(there, dict) and isinstance(position, int) and isinstance(seconds, float)):
        raise CheckpointError(f"{name}: expected the state of a likelihood, got that of another Parzen window")
    if other := [key for key in {**there, **asked} if there.get(key) != asked.get(key)]:
        what = ", ".join(sorted(other))
        raise CheckpointError(f"{name}: expected the state of this likelihood, got one of another {what}; {GIVE_UP}")
    if window.count > samples:
        raise CheckpointError(f"{name}: expected a state of at most {samples} samples, got {window.count}; {GIVE_UP}")
    return window
