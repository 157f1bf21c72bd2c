"""`aaecore compare`: a folder with a run for each model and seed, what each is worth, a table and a picture.

Every step of it leaves a file, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import datasets
from ..evaluation import comparison
from ..evaluation.likelihood import FEW
from ..evaluation.recipes import RECIPES, recipe
from ..files import atomic
from ..training.trainer import Trainer, load
from . import compare_plots, compare_tables, config, plots, runs, sources
from .compare_runs import Clock, Entry, Limit, Settings, check_parts, check_same, entry, names_of, train
from .evaluate import progress_bar, said_in_lines
from .offers import Generative
from .sources import Source

if TYPE_CHECKING:
    import click

DATA = ("data_folder", "dataset", "labels", "image_shape", "validation_rows")  # keys, besides data itself
COMPARISON, RESULTS, PICTURE = "comparison.json", "results.jsonl", "samples.png"
SAMPLES = 9  # in a row of the picture, beside the last one's neighbour


class Drawn(NamedTuple):
    """How many samples of each model: to estimate its likelihood from, and to choose sigma with."""

    samples: int
    sigma_samples: int


def parameters(flag: Callable[[str, str], click.Parameter]) -> list[click.Parameter]:
    """The arguments of the command; `flag` makes one of a key of a TOML file and of a help, "" for the key's own."""
    import click

    integers = click.IntRange(1)
    names = f"Among {', '.join(RECIPES)}, which have a recipe, or other models, or module:Class of your own."
    said = "Another value of a key of a TOML file, for one model or all that have it, such as latent_dim=2."
    constant = "Of training, instead of them; at constant rates, since nobody knows where a schedule would end."
    kept = "Not trained on, to choose the sigma of likelihoods.  [10000, or a sixth of fewer than 60000]"
    return [
        click.Argument(["out"], type=click.Path()),
        click.Option(["--models"], multiple=True, required=True, metavar="A,B", help=names),
        *(flag(name, kept if name == "validation_rows" else "") for name in ("data", *DATA)),
        click.Option(["--epochs"], type=integers, help="Of each model; by default its recipe's."),
        click.Option(["--steps"], type=integers, help="Instead of them."),
        click.Option(["--minutes"], type=click.FloatRange(0, min_open=True), help=constant),
        click.Option(["--seeds"], type=integers, default=1, show_default=True, help="How many: 0, 1, ..."),
        click.Option(["--samples"], type=integers, default=FEW, show_default=True, help="Of each model."),
        click.Option(["--sigma-samples"], type=integers, default=FEW, show_default=True, help="To choose sigma with."),
        *(flag(name, "") for name in ("device", "precision")),
        click.Option(["--set", "settings"], multiple=True, metavar="[MODEL.]KEY=VALUE", help=said),
    ]


def compare(
    out: str, models: Sequence[str], data: str | None, epochs: int | None, steps: int | None, minutes: float | None,
    seeds: int, samples: int, sigma_samples: int, settings: Sequence[str], **shared: Any,
) -> None:  # fmt: skip
    """Train models on the same data, and write a table and a picture of what they are worth into the folder OUT.

    Each trains for the same epochs, steps or minutes, on the same rows. The likelihood of the test rows is that of a
    Parzen window of samples, whose sigma is chosen by rows that are kept out of training. The same command goes on
    where it was stopped; more models, seeds or samples go into the same folder.
    """
    limit, said = Limit(epochs, steps, minutes), Settings(settings)
    limit.check()
    names = names_of(models)
    shared = {"data": data or datasets.SAMPLE, **{name: value for name, value in shared.items() if value is not None}}
    by_seed = [[entry(out, name, seed, shared, limit, said) for name in names] for seed in range(seeds)]
    said.check(names)
    first = by_seed[0][0].options
    _check_used(by_seed[0], [name for name in DATA if shared.get(name)])
    _check_folder(out, limit, first.data)
    loaded = sources.load(first)
    rows = len(loaded.train) + (0 if loaded.validation is None else len(loaded.validation))  # to keep some apart of
    apart = first.validation_rows or comparison.held_out(rows)
    by_seed = [[each.apart(apart, rows, limit) for each in entries] for entries in by_seed]
    for each in (part for entries in by_seed for e in entries for part in e.parts):
        check_same(each)
    source = sources.load(by_seed[0][0].options)
    _check_validation(source)
    for each in by_seed[0]:
        check_parts(each, source)  # what does not go together is found before hours of training
    os.makedirs(out, exist_ok=True)
    atomic.write(os.path.join(out, COMPARISON), (json.dumps({**limit._asdict(), "data": first.data}) + "\n").encode())

    results, found, drawn = Results(out), [], Drawn(samples, sigma_samples)
    for entries in by_seed:
        data_of_seed = source if entries is by_seed[0] else sources.load(entries[0].options)
        for each in entries:
            found.append(_result(each, limit, data_of_seed, drawn, results))
            compare_tables.write(out, table := _rows(found, first.data))
    compare_tables.show(table)
    if source.image_shape:
        _draw(out, by_seed[0], source)


def _result(entry: Entry, limit: Limit, source: Source, drawn: Drawn, results: Results) -> dict[str, Any]:
    """What a model is worth, which is trained and measured unless that was done before."""
    if not os.path.exists(entry.path):
        results.forget(entry)  # of a run that somebody removed
    if (line := results.of(entry, drawn)) is None:
        train(entry, limit, source)
        line = evaluate(entry, source, drawn)
        results.add(line)
        os.unlink(_state_of(entry, drawn))
    return line


def _check_used(entries: Sequence[Entry], flags: Sequence[str]) -> None:
    """ValueError for a flag of the data, by the name of its key, that changes nothing for any of the models."""
    for name in flags:
        refused = []
        for each in entries:
            try:
                config.check_used(each.options, [name])
            except ValueError as error:
                refused.append(error)
        if len(refused) == len(entries):
            raise refused[0]


def _check_validation(source: Source) -> None:
    """ValueError for validation rows that no sigma can be chosen by."""
    rows = source.validation
    assert rows is not None
    if (rows == rows[0]).all():
        came = f"{len(rows)} equal ones" if len(rows) > 1 else "one"
        raise ValueError(f"validation_rows: expected rows that differ, to choose sigma by, got {came}")


def _check_folder(out: str, limit: Limit, data: str) -> None:
    """ValueError for a folder that holds something else than a comparison of runs that are as long, on such data."""
    path = os.path.join(out, COMPARISON)
    if not os.path.exists(path):
        if os.path.isdir(out) and os.listdir(out):
            raise ValueError(f"OUT: expected a new folder or that of a comparison, got {out}, which holds other files")
        runs.check_folder(out)
        return
    try:
        with open(path, encoding="utf-8") as file:
            described = json.load(file)
        trained_on = described.pop("data")
        there = Limit(**described)
    except (ValueError, TypeError, AttributeError, LookupError):
        raise ValueError(f"{path}: expected the file of a comparison, got something else") from None
    if there != limit:
        raise ValueError(f"{out}: expected {there.said()} as before, got {limit.said()}; give another OUT")
    if trained_on != data:
        raise ValueError(f"{out}: expected --data {trained_on} as before, got {data}; give another OUT")


def _rows(results: Sequence[Mapping[str, Any]], data: str) -> list[dict[str, Any]]:
    """Those of the table, with what the paper has."""
    rows = comparison.summary(results)
    return [{**row, "paper": recipe(row["model"]).paper.get((data, row["samples"]))} for row in rows]


def _draw(out: str, entries: Sequence[Entry], source: Source) -> None:
    """Draws samples of each model, as its checkpoint has it, and prints the path."""
    rows = []
    for each in entries:
        model = load(each.path)
        assert isinstance(model, Generative)
        drawn = model.sample(SAMPLES)
        (beside,) = comparison.nearest(drawn[-1:], source.train)
        image = comparison.floats(source.train[beside])
        rows.append(compare_plots.Drawn(each.title, drawn, image))
    unit = source.train.dtype == np.uint8 or (source.train.min() >= 0 and source.train.max() <= 1)
    path = os.path.join(out, PICTURE)
    plots.save(compare_plots.samples(rows, source.image_shape or (), (0.0, 1.0) if unit else None), path)
    print(path)


def evaluate(entry: Entry, source: Source, drawn: Drawn) -> dict[str, Any]:
    """What the trained model of an entry is worth, with how long it trained: a line of the results.

    The model is as its checkpoint has it, so its samples do not depend on what was done before.
    """
    print(f"measuring {entry.title}, seed {entry.seed}", file=sys.stderr)
    trainer = Trainer.resume(entry.path)
    assert source.validation is not None
    with progress_bar(_state_of(entry, drawn)) as progress, said_in_lines():
        found = comparison.measure(
            trainer.model, source.test, source.test_labels, source.validation, **drawn._asdict(),
            checkpoint=_state_of(entry, drawn), progress=progress,
        )  # fmt: skip
    seconds = [Clock(part.folder).read(Trainer.resume(part.path).steps) for part in entry.parts]
    epochs = trainer.steps / -(-len(source.train) // trainer.batch_size)
    return {
        "model": entry.title, "seed": entry.seed, **found, "epochs": epochs,
        "steps": trainer.steps, "seconds": sum(seconds), "seconds_per_epoch": seconds[-1] / epochs,
    }  # fmt: skip


def _state_of(entry: Entry, drawn: Drawn) -> str:
    """The file of a likelihood that is being measured."""
    return os.path.join(entry.folder, f"likelihood-{drawn.samples}-{drawn.sigma_samples}.h5")


class Results:
    """The lines of results.jsonl, one for each model, seed and numbers of samples."""

    KEY = "model", "seed", *Drawn._fields

    def __init__(self, out: str) -> None:
        self.path = os.path.join(out, RESULTS)
        self.lines: list[dict[str, Any]] = list(self._read())

    def _read(self) -> Iterator[dict[str, Any]]:
        if not os.path.exists(self.path):
            return
        with open(self.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    found = json.loads(line)
                    _ = [found[name] for name in self.KEY]
                except (ValueError, LookupError, TypeError):
                    raise ValueError(f"{self.path}: expected a result in line {number}, got {line[:60]!r}") from None
                yield found

    def of(self, entry: Entry, drawn: Drawn) -> dict[str, Any] | None:
        """The result of a model and a seed, if there is one."""
        wanted = [entry.title, entry.seed, *drawn]
        return next((line for line in self.lines if [line[name] for name in self.KEY] == wanted), None)

    def add(self, line: dict[str, Any]) -> None:
        """Writes one more line."""
        self._write([*self.lines, line])

    def forget(self, entry: Entry) -> None:
        """Writes all but the lines of a model and a seed."""
        others = [line for line in self.lines if (line["model"], line["seed"]) != (entry.title, entry.seed)]
        if len(others) < len(self.lines):
            self._write(others)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        self.lines = lines
        atomic.write(self.path, "".join(json.dumps(each) + "\n" for each in self.lines).encode())
