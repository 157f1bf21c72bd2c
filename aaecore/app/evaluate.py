"""Commands that measure models: `aaecore likelihood`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.rows import spread
from ..evaluation.likelihood import FEW, Likelihood
from ..evaluation.likelihood import likelihood as measured
from ..files import atomic, checkpoint
from . import runs, sources, terminal
from .runs import Terminated

if TYPE_CHECKING:
    import click

APART = 10  # of test rows every so-manieth chooses sigma, where a run has no validation rows


def commands() -> dict[Callable[..., None], list[click.Option]]:
    """The commands of this module, which all take a run, and the flags that each has of its own."""
    import click

    count = click.IntRange(1)
    return {
        likelihood: [
            click.Option(["--samples"], type=count, default=FEW, show_default=True, help="Of the model."),
            click.Option(["--sigma"], type=float, help="Of the window, instead of one that is chosen."),
            click.Option(["--sigma-samples"], type=count, help=f"To choose sigma with.  [{FEW}]"),
            click.Option(["--rows"], type=count, help="How many test rows, spread over all; all by default."),
        ]
    }


class Measured(NamedTuple):
    """Rows to measure, rows to choose sigma by, and what to say of these."""

    x: np.ndarray
    validation: np.ndarray | None
    chosen_by: str


def likelihood(
    model: str, samples: int, sigma: float | None, sigma_samples: int | None, rows: int | None, device: str | None,
    own: str | None,
) -> None:  # fmt: skip
    """Measure the log likelihood of a run's test rows: by a Gaussian Parzen window of samples of the model, in nats.

    Sigma is chosen by rows that are neither trained on nor measured: the run's validation rows (train
    --validation-rows), or else a tenth of the test rows. What is stopped goes on when the command is given again. The
    result is written to likelihood.json in the run. Of a run with patience its best.h5 can be measured as well.
    """
    if sigma is not None and sigma_samples is not None:
        raise ValueError("--sigma-samples: expected no --sigma besides, got one")
    folder = runs.folder_of(model, runs.LIKELIHOODS)
    file = os.path.basename(model) if os.path.isfile(model) else runs.CHECKPOINT
    path, state, out = (os.path.join(folder, name) for name in (file, runs.STATES[file], runs.LIKELIHOODS[file]))
    atomic.check(out)
    found = _rows(sources.load(runs.read_config(folder, own)), sigma, rows)
    network: Any = runs.load_generative(path, device, own)
    with progress_bar(state) as progress, said_in_lines():
        result = measured(
            network, found.x, found.validation, samples=samples, sigma=sigma, sigma_samples=sigma_samples or FEW,
            checkpoint=state, progress=progress,
        )  # fmt: skip
    steps = checkpoint.peek(path).get("position", {}).get("steps")  # a model of the best epoch knows of none
    record = {**result._asdict(), "chosen_by": found.chosen_by, "steps": steps}
    atomic.write(out, (json.dumps(record, indent=2) + "\n").encode())
    os.unlink(state)
    print(f"{out}: {sentence(result, found.chosen_by)}")


def sentence(found: Likelihood, chosen_by: str) -> str:
    """A likelihood as people read it."""
    of = f"{found.rows} test rows, {found.samples} samples, sigma {found.sigma:.4g}, {chosen_by}"
    return f"{found.mean:.1f} +- {found.error:.1f} nats ({of}; {found.seconds:.0f} s)"


def _rows(source: sources.Source, sigma: float | None, most: int | None) -> Measured:
    """What is measured of the data of a run."""
    test, validation, chosen_by = source.test, None, "given"
    if sigma is None and source.validation is not None:
        validation, chosen_by = source.validation, f"chosen by {len(source.validation)} validation rows"
    elif sigma is None:
        if len(test) < 2:
            raise ValueError(f"--sigma: needed, since there are no rows to choose it by: {len(test)} for testing")
        apart = np.arange(len(test)) % APART == 0
        test, validation = test[~apart], test[apart]
        chosen_by = f"chosen by {len(validation)} test rows that are not measured"
    return Measured(test if most is None else test[spread(test, most)], validation, chosen_by)


@contextmanager
def progress_bar(state: str) -> Iterator[Callable[[int, int], None]]:
    """Shows on a terminal how far it is and how long it will take; says after an interrupt what is kept in `state`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "samples", TimeRemainingColumn())
    bar, done = Progress(*columns, console=Console(stderr=True), transient=True), 0

    def progress(made: int, samples: int) -> None:
        nonlocal done
        if not bar.tasks:  # what a stopped command had made took no time
            bar.add_task("", total=samples, completed=made)
        bar.update(bar.tasks[0].id, completed=made)
        done = made

    try:
        with bar if sys.stderr.isatty() else nullcontext():
            yield progress
    except (KeyboardInterrupt, Terminated):
        kept = "; the same command goes on from there" if os.path.exists(state) else ""
        print(f"stopped after {done} samples{kept}", file=sys.stderr)
        raise


@contextmanager
def said_in_lines() -> Iterator[None]:
    """Warnings become lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"aaecore: {terminal.plain(str(warning.message))}", file=sys.stderr)
