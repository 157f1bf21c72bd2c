"""What goes into steps: checked tables, the inputs of one step that a user gives, and which rows come when."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np

from .. import priors
from ..core.memory import Buffer
from ..data.rows import Rows, as_rows, to_floats
from ..data.table import LABEL, Table, as_table, stream_order
from ..models.batch import sample_of
from ..models.model import Model
from .progress import Run


class Inputs:
    """Of the steps of one run."""

    def __init__(self, run: Run) -> None:
        self._run: Run = weakref.proxy(run)  # which owns this: each would keep the other alive
        self._model, self._backend = run.model, run.backend
        # Asked for once: a small step takes no longer than a dozen lines of Python.
        self._columns, self._priors = run.model.columns(), run.model.priors()
        self._draws_on_host = any(prior.host for prior, _ in self._priors.values())
        self._labelled_streams = {name: stream for name, stream in run.model.streams.items() if stream.labelled}

    # --- an epoch ---------------------------------------------------------------------------------

    def of_fit(self, x: Any, y: Any, validation: Any) -> tuple[Table, Table | None]:
        """What `to_train` and `to_validate` give; where the second fails, labels that the first one named are gone."""
        named = getattr(self._model, "labels", None) is not None
        table = self.to_train(x, y)
        try:
            return table, self.to_validate(validation)
        except (TypeError, ValueError):
            if not named:
                self._model.forget_labels()
            raise

    def to_train(self, x: Any, y: Any) -> Table:
        """The table to train on."""
        table = self.table(x, y, whole=True, first=True)
        wants_labels = any(LABEL in stream.columns for stream in self._model.streams.values())
        if wants_labels and not len(table.labelled):
            expected = f"a label for at least one row, since {type(self._model).__name__} learns from labels"
            raise ValueError(f"y: expected {expected}, got {'None' if y is None else 'only -1'}")
        self._keep_labels(y, first=True)
        return table

    def to_validate(self, given: Any) -> Table | None:
        """The table to measure on after every epoch: of rows, or of a pair of rows and labels."""
        if given is None:
            return None
        if type(self._model).validate is Model.validate:
            raise ValueError(f"validation: expected None, since {type(self._model).__name__} measures nothing on it")
        x, y = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        return self.table(x, y, "validation", whole=True)

    def table(
        self, x: Any, y: Any = None, name: str = "", *, whole: bool = False, first: bool = False
    ) -> Table:  # fmt: skip
        """Rows and labels as a table; `first` lets the model call classes as in `y` if they have no names yet.

        `name` is that of the argument that both came in, if they came together.
        """
        names = (f"{name}[0]", f"{name}[1]") if name and y is not None else (name or "x", "y")
        classes = partial(self._model.as_classes, first=first)
        return as_table(self._backend, self._columns, x, y, names, type(self._model).__name__, whole, classes)

    def _keep_labels(self, y: Any, *, first: bool = False) -> None:
        if y is not None:
            self._model.keep_labels(y, first=first)

    def rows(self) -> dict[str, int]:
        """How many rows each stream gives in an epoch."""
        run, streams = self._run, self._model.streams
        steps = -(-run.position // run.batch_size) - (run.position - run.rows) // run.batch_size
        return {n: steps * run.labelled_batch_size if s.labelled else run.rows for n, s in streams.items()}

    def sizes(self) -> tuple[int, int] | None:
        """Batch sizes that must not change within an epoch, since the order of labelled rows was laid out for them."""
        return (self._run.batch_size, self._run.labelled_batch_size) if self._labelled_streams else None

    def used(self) -> dict[str, int]:
        """How many of them are used, by how far the epoch is."""
        run, streams = self._run, self._model.streams
        labelled = -(-run.position // run.batch_size) * run.labelled_batch_size
        return {name: labelled if stream.labelled else run.position for name, stream in streams.items()}

    def orders(self, table: Table) -> dict[str, np.ndarray]:
        """The rows of each stream in this epoch, in order."""
        seed, epoch, rows = self._model.seed, self._run.epoch, self.rows()
        streams = enumerate(self._model.streams.items())
        return {name: stream_order(table, stream, i, rows[name], seed, epoch) for i, (name, stream) in streams}

    # --- one step ---------------------------------------------------------------------------------

    def of_step(self, x: Any, y: Any, labelled: Any, z_prior: Any) -> tuple[Table, dict[str, Rows]]:
        """The batch as a table, and the inputs of a step by name; see `Trainer.step`."""
        columns = self._model.streams[""].columns
        if LABEL in self._columns and (y is None) == (LABEL in columns):
            wanted = "a label for each row, or -1" if y is None else "None, since labels come in labelled=(x, y)"
            raise ValueError(f"y: expected {wanted}, got {type(y).__name__}")
        table = self.table(x, y)
        given = {name: self._floats(table, name) for name in columns}
        if labelled is not None or self._labelled_streams:
            given |= self._labelled(labelled)
        if z_prior is not None or self._draws_on_host:
            given |= self.samples(len(table), z_prior)
        self._keep_labels(y if labelled is None else labelled[1])
        return table, given

    def _floats(self, table: Table, column: str) -> Rows:
        """A column of a table as the input of one step."""
        rows = table.columns[column]
        return self._kept(rows.astype(np.float32) if column == LABEL and isinstance(rows, np.ndarray) else rows)

    def samples(self, batch: int, z_prior: Any = None) -> dict[str, Rows]:
        """The samples of priors that a step does not draw itself: given ones, and those that only the host can draw."""
        model, samples = self._model, dict[str, Rows]()
        if z_prior is not None and "z" not in self._priors:
            raise ValueError(f"z_prior: expected None, since {type(model).__name__} has no prior of codes")
        for i, (name, (prior, dim)) in enumerate(self._priors.items()):
            if name == "z" and z_prior is not None:
                rows = as_rows(self._backend, z_prior, "z_prior", dim, pixels=False)
                if len(rows) != batch:
                    raise ValueError(f"z_prior: expected shape {(batch, dim)}, got {(len(rows), dim)}")
                samples[sample_of(name)] = self._kept(rows)
            elif isinstance(prior, priors.CallablePrior):
                samples[sample_of(name)] = prior.draw(batch, dim, model.seed, model.generator.counter, i)
        return samples

    def _labelled(self, pair: tuple[Any, Any] | None) -> dict[str, Rows]:
        """The inputs of the streams of labelled rows."""
        streams = self._labelled_streams
        if not streams or not (isinstance(pair, tuple) and len(pair) == 2):
            who = type(self._model).__name__
            wanted = f"(x, y), since {who} takes" if streams else f"None, since {who} takes no"
            raise ValueError(f"labelled: expected {wanted} labelled rows besides, got {type(pair).__name__}")
        table, size = self.table(*pair, "labelled"), self._run.labelled_batch_size
        if len(table.labelled) != len(table) or len(table) != size:
            came = f"{len(table)} rows, {len(table.labelled)} of them with one"
            raise ValueError(f"labelled: expected {size} rows (labelled_batch_size), all with a label, got {came}")
        return {f"{name}.{c}": self._floats(table, c) for name, stream in streams.items() for c in stream.columns}

    def _kept(self, rows: Rows) -> Rows:
        """Rows as floats, copied if the guard may have to repeat the step."""
        if isinstance(rows, Buffer):
            floats = to_floats(self._backend, rows)
            return self._backend.clone(floats) if self._run.guard and rows.kind == "real" else floats
        rows = rows.astype(np.float32) * np.float32(1 / 255) if rows.dtype == np.uint8 else rows
        return np.array(rows, self._backend.real)
