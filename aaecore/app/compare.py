"""`aaecore compare`: a folder with a run for each model and seed, what each is worth, a table and a picture.

Every step of it leaves a file, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import datasets
from ..evaluation import comparison
from ..evaluation.recipes import RECIPES, recipe
from ..files import atomic
from ..training.trainer import Trainer, load
from . import compare_plots, compare_tables, config, plots, runs, sources
from .compare_runs import Clock, Entry, Limit, Settings, check_same, entry, names_of, new_trainer, train
from .offers import Generative
from .sources import Source

DATA = ("data_folder", "dataset", "labels", "image_shape")  # keys, besides data itself
COMPARISON, RESULTS, PICTURE = "comparison.json", "results.jsonl", "samples.png"
MODELS = f"Names among {', '.join(RECIPES)}, which have a recipe, or of other models, or module:Class of your own."
MINUTES = "Of training, instead of them; at constant learning rates, since nobody knows where a schedule would end."
SETTINGS = "Another value of a key of a TOML file, for one model or all that have it, such as latent_dim=2."
SAMPLES = 9  # in a row of the picture, beside the last one's neighbour


def compare(
    out: str, models: Sequence[str], data: str | None, epochs: int | None, steps: int | None, minutes: float | None,
    seeds: int, samples: int, settings: Sequence[str], **shared: Any,
) -> None:  # fmt: skip
    """Train models on the same data, and write a table and a picture of what they are worth into the folder OUT.

    Each trains for the same epochs, steps or minutes. The last 10,000 rows of the training data, or a sixth of them,
    are not trained on: they choose the width of the window that the likelihood of the test data is estimated with. The
    same command goes on where it was stopped; more models, seeds or samples go into the same folder.
    """
    limit, said = Limit(epochs, steps, minutes), Settings(settings)
    limit.check()
    names = names_of(models)
    shared = {"data": data or datasets.SAMPLE, **shared}
    by_seed = [[entry(out, name, seed, shared, limit, said) for name in names] for seed in range(seeds)]
    said.check(names)
    first = by_seed[0][0].options
    _check_used(by_seed[0], [name for name in DATA if shared.get(name)])
    _check_folder(out, limit)
    for each in (part for entries in by_seed for e in entries for part in e.parts):
        check_same(each)
    source, validation = _divided(sources.load(first))
    for each in by_seed[0]:
        new_trainer(each.parts[0], source)  # what does not go together is found before hours of training
    os.makedirs(out, exist_ok=True)
    atomic.write(os.path.join(out, COMPARISON), (json.dumps(limit._asdict()) + "\n").encode())

    results, found = Results(out), []
    for each in (e for entries in by_seed for e in entries):
        line = results.of(each, samples)
        if line is None:
            train(each, limit, source)
            line = evaluate(each, source, validation, samples)
            results.add(line)
            os.unlink(_state_of(each, samples))
        found.append(line)
        compare_tables.write(out, rows := _rows(found, first.data))
    compare_tables.show(rows)
    if source.image_shape:
        _draw(out, by_seed[0], source)


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


def _check_folder(out: str, limit: Limit) -> None:
    """ValueError for a folder that holds something else than a comparison of runs that are as long."""
    path = os.path.join(out, COMPARISON)
    if not os.path.exists(path):
        if os.path.isdir(out) and os.listdir(out):
            raise ValueError(f"OUT: expected a new folder or that of a comparison, got {out}, which holds other files")
        runs.check_folder(out)
        return
    try:
        with open(path, encoding="utf-8") as file:
            there = Limit(**json.load(file))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: expected the file of a comparison, got something else") from None
    if there != limit:
        raise ValueError(f"{out}: expected {there.said()} as before, got {limit.said()}; give another OUT")


def _divided(source: Source) -> tuple[Source, np.ndarray]:
    """The data without the rows for validation, the last ones to train on, and these rows."""
    kept = len(source.train) - comparison.held_out(len(source.train))
    y = None if source.train_labels is None else source.train_labels[:kept]
    return source._replace(train=source.train[:kept], train_labels=y), source.train[kept:]


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


def evaluate(entry: Entry, source: Source, validation: Any, samples: int) -> dict[str, Any]:
    """What the trained model of an entry is worth, with how long it trained: a line of the results.

    The model is as its checkpoint has it, so its samples do not depend on what was done before.
    """
    print(f"measuring {entry.title}, seed {entry.seed}", file=sys.stderr)
    trainer = Trainer.resume(entry.path)
    state = _state_of(entry, samples)
    found = comparison.measure(
        trainer.model, source.test, source.test_labels, validation, samples, checkpoint=state
    )  # fmt: skip
    seconds = [Clock(part.folder).read(Trainer.resume(part.path).steps) for part in entry.parts]
    epochs = trainer.steps / -(-len(source.train) // trainer.batch_size)
    return {
        "model": entry.title, "seed": entry.seed, **found, "epochs": epochs,
        "steps": trainer.steps, "seconds": sum(seconds), "seconds_per_epoch": seconds[-1] / epochs,
    }  # fmt: skip


def _state_of(entry: Entry, samples: int) -> str:
    """The file of a likelihood that is being measured."""
    return os.path.join(entry.folder, f"likelihood-{samples}.h5")


class Results:
    """The lines of results.jsonl, one for each model, seed and number of samples."""

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
                    _ = found["model"], found["seed"], found["samples"]
                except (ValueError, LookupError, TypeError):
                    raise ValueError(f"{self.path}: expected a result in line {number}, got {line[:60]!r}") from None
                yield found

    def of(self, entry: Entry, samples: int) -> dict[str, Any] | None:
        """The result of a model and a seed, if there is one and its run is still there."""
        wanted = entry.title, entry.seed, samples
        there = [line for line in self.lines if (line["model"], line["seed"], line["samples"]) == wanted]
        return there[-1] if there and os.path.exists(entry.path) else None

    def add(self, line: dict[str, Any]) -> None:
        """One more line, in the place of one of the same model, seed and samples."""
        key = ("model", "seed", "samples")
        self.lines = [other for other in self.lines if any(other[name] != line[name] for name in key)]
        self.lines.append(line)
        atomic.write(self.path, "".join(json.dumps(each) + "\n" for each in self.lines).encode())
