"""Makes training steps: records one for each batch size, then replays it in bursts that need nothing from the host.

Whatever changes from step to step is on the device: the positions in the data, the random counter, the optimizers'
states, and tables with a row for each step of a burst: the learning rates and dials it takes and the losses it leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..core.memory import Buffer
from ..data.table import Stream, Table
from ..functions.tensor import Mover, Tensor, backward
from ..models.batch import Batch, sample_of
from ..models.model import Losses, Model
from ..optim import Clipped
from .burst import Burst
from .progress import Run

BURST_SECONDS = 0.02  # how long a burst should last: signals, callbacks and the progress bar wait for its end
MAX_BURST = 1000  # steps of a burst at most: the rows of the tables
MAX_PLANS = 16  # steps kept for batch sizes seen before; each owns its activations


@dataclass
class _Recorded:
    """A step for one batch size: what runs it n times, and its inputs by name."""

    run: Callable[[int], None]
    inputs: dict[str, Buffer]
    batch: Batch  # for a look at the weights: zeros are the samples that a step would draw
    seconds: float = 1.0  # that one step took in the last burst; until then, long enough to begin with a single step


class Stepper:
    """Makes the steps of a run: records one and replays it, or launches op by op, with the same bits."""

    def __init__(self, run: Run) -> None:
        self.model, self.backend, self.record = run.model, run.backend, run.record
        self._run = run
        clip = run.clip_norm
        self.optimizers = run.optimizers
        self.movers: dict[str, Mover] = {
            name: optimizer if clip is None else Clipped(optimizer, clip) for name, optimizer in run.optimizers.items()
        }
        self._draws_on_host = any(prior.host for prior, _ in self.model.priors().values())
        self.last: Batch | None = None  # of the last step
        self.cursors = {name: self.backend.zeros((1,), "int64") for name in self.model.streams}  # rows used so far
        self._columns: dict[str, Buffer] = {}
        self._orders: dict[str, Buffer] = {}
        self._at = self.backend.zeros((1,), "int64")  # the row of the tables that the next step uses
        phases = len(self.model.phases)
        self._rates = self.backend.zeros((MAX_BURST, phases), "float64")
        self._log = self.backend.zeros((MAX_BURST, phases))
        self._logs: dict[int, Buffer] = {}  # its first rows, by how many: a view costs a tenth of a tiny step
        self._dials = _Dials(self.model, self._at)
        self._given: np.ndarray | None = None  # the array that the first rows of `_rates` came from
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}  # by batch sizes and names of given inputs

    def bind(self, table: Table) -> None:
        """Takes the data for the bursts that bring none."""
        columns = {
            name: x if isinstance(x, Buffer) else self.backend.wrap(x, "uint8" if x.dtype == np.uint8 else "real")
            for name, x in table.columns.items()
        }
        there = self._columns.keys() == columns.keys() and all(b.is_same(self._columns[k]) for k, b in columns.items())
        if not there:
            self._columns = columns
            self._forget()

    def _forget(self) -> None:
        """Drops the steps that were recorded for other data or other orders."""
        self._recorded = {key: step for key, step in self._recorded.items() if not self._fetched(key[2:])}

    def begin_epoch(self, orders: Mapping[str, np.ndarray], used: Mapping[str, int]) -> None:
        """Sets the order of the rows of each stream, and how many of them are used already."""
        lengths = {name: len(order) for name, order in orders.items()}
        if lengths != {name: len(order) for name, order in self._orders.items()}:
            self._orders = {name: self.backend.empty((n,), "int64") for name, n in lengths.items()}
            self._forget()
        for name, order in orders.items():
            self.backend.upload(self._orders[name], order)
            self.backend.upload(self.cursors[name], np.array([used[name]]))

    def pace(self, batch: int) -> int:
        """How many steps on the bound data a burst may have, by the time that the last one took."""
        if self._draws_on_host:
            return 1
        seconds = self._step_for(batch).seconds
        return max(1, min(MAX_BURST, int(BURST_SECONDS / seconds)))

    def run(self, burst: Burst) -> np.ndarray:
        """Makes the steps of a burst; gives their losses, (steps, phases) float64."""
        step, steps = self._prepare(burst), burst.steps
        begun = time.perf_counter()
        step.run(steps)
        if steps not in self._logs:
            self._logs[steps] = self._log.rows(0, steps)
        losses = self.backend.to_host(self._logs[steps]).astype(np.float64)
        step.seconds = max(time.perf_counter() - begun, 1e-9) / steps
        self.last = step.batch  # not before: an interrupt leaves what may be no batch yet
        return losses

    def start(self, burst: Burst) -> Callable[[], list[float]]:
        """Makes the steps of a burst without waiting for them; gives a function that fetches the losses of the last."""
        step = self._prepare(burst)
        step.run(burst.steps)
        self.last = step.batch
        last = self.backend.clone(self._log.rows(burst.steps - 1, burst.steps))
        return lambda: self.backend.to_host(last)[0].astype(np.float64).tolist()

    def _prepare(self, burst: Burst) -> _Recorded:
        """The step of a burst, everything that it reads put in place."""
        step = self._step_for(burst.batch, *burst.given)
        self.backend.clear(self._at)
        if self._given is not burst.rates:
            self._given = None  # until the upload is complete: an interrupt may come before
            table = np.zeros(self._rates.shape)
            table[: burst.steps] = burst.rates
            self.backend.upload(self._rates, table)
            self._given = burst.rates
        self._dials.give(burst.dials)
        for name, given in burst.given.items():
            if isinstance(given, Buffer):
                self.backend.copy(step.inputs[name], given)
            else:
                self.backend.upload(step.inputs[name], given)
        return step

    def _inputs(self) -> Iterator[tuple[str, str, str, Stream]]:
        """The columns of all streams: the name as an input, the column, the stream's name, the stream."""
        for name, stream in self.model.streams.items():
            for column in stream.columns:
                yield f"{name}.{column}" if name else column, column, name, stream

    def _fetched(self, given: Sequence[str]) -> list[tuple[str, str, str]]:
        """The inputs that a step takes from the bound data: name, column, stream."""
        return [(key, column, name) for key, column, name, _ in self._inputs() if key not in given]

    def _step_for(self, batch: int, *given: str) -> _Recorded:
        """The step for a batch size, and for which inputs are given."""
        labelled = self._run.labelled_batch_size
        key = (batch, labelled, *given)
        if key not in self._recorded:
            if len(self._recorded) >= MAX_PLANS:
                del self._recorded[next(iter(self._recorded))]
            columns, priors = self.model.columns(), self.model.priors()
            shapes = {
                key: (labelled if stream.labelled else batch, columns[column].features)
                for key, column, _, stream in self._inputs()
            }
            samples = {sample_of(name): (batch, dim) for name, (_, dim) in priors.items()}
            shapes |= {name: shape for name, shape in samples.items() if name in given}
            inputs = {name: self.backend.empty(shape) for name, shape in shapes.items()}
            seen = partial(Batch, draws=self.model.draws, dials=self._dials.values, rng=self.model.generator)
            launch = partial(self._launch, inputs, seen(inputs), self._fetched(given))
            still = {sample_of(name): self.backend.zeros((batch, dim)) for name, (_, dim) in priors.items()}
            self._recorded[key] = _Recorded(self._repeated(launch), inputs, seen(still | inputs))
        return self._recorded[key]

    def _repeated(self, launch: Callable[[], None]) -> Callable[[int], None]:
        """What makes the step n times."""
        if self.record:
            plan = self.backend.capture(launch)
            return lambda times: plan.replay(times=times)

        def run(times: int) -> None:
            for _ in range(times):
                launch()

        return run

    def _launch(self, inputs: Mapping[str, Buffer], batch: Batch, fetched: list[tuple[str, str, str]]) -> None:
        """The launches of one step, run or recorded."""
        launch, rng = self.backend.launch, self.model.generator
        rng.restart()
        for key, column, stream in fetched:
            self._gather(column, stream, inputs[key])
        self._dials.fetch()
        names = [phase.name for phase in self.model.phases]
        made = []
        for i, (phase, *losses) in enumerate(_yielded(self.model.step(batch))):
            made.append(phase)
            if made != names[: i + 1]:
                break
            launch("take_rate", (self._rates, self._at, self.optimizers[phase].state), (*self._rates.shape, i))
            self.optimizers[phase].advance()
            backward(losses, self.movers[phase])
            for loss in losses[1:]:
                launch("copy", (loss.buffer, losses[0].buffer), (1, 1))
            launch("log_value", (losses[0].buffer, self._at, self._log), (*self._log.shape, i))
        if made != names:
            raise ValueError(f"step: expected it to yield the phases {', '.join(names)}, got {', '.join(made)}")
        launch("cursor_advance", (self._at,), (1,))
        rng.advance()
        for stream in dict.fromkeys(stream for *_, stream in fetched):
            rows = next(len(inputs[key]) for key, _, name in fetched if name == stream)
            launch("cursor_advance", (self.cursors[stream],), (rows,))

    def _gather(self, column: str, stream: str, out: Buffer) -> None:
        """Fetches the next rows of a column; bytes of numbers are scaled to 0..1, those of labels are 0 or 1."""
        source, order = self._columns[column], self._orders[stream]
        is_bytes = source.kind == "uint8"
        scale = 1 / 255 if is_bytes and self.model.columns()[column].kind != "label" else 1.0
        dims = (*source.shape, order.size, out.shape[0])
        op = "gather_rows_u8" if is_bytes else "gather_rows"
        self.backend.launch(op, (source, order, self.cursors[stream], out), dims, (scale,))


def _yielded(step: object) -> Iterator[Losses]:
    """What a step yields.

    Raises:
        TypeError: it is no generator, or yields something else than a phase and its losses.
    """
    if not isinstance(step, Iterator):
        raise TypeError(f"step: expected a generator, got {type(step).__name__}")
    for made in step:
        if not (isinstance(made, tuple) and len(made) > 1 and all(isinstance(loss, Tensor) for loss in made[1:])):
            raise TypeError(f"step: expected it to yield (phase, loss, ...), got {made!r}")
        yield made


class _Dials:
    """The dials of a burst in a table on the device, and those of the running step, each (1,)."""

    def __init__(self, model: Model, at: Buffer) -> None:
        names, self.backend, self._at = list(model.dials()), model.backend, at
        self.values: dict[str, Buffer] = {}
        self._given: np.ndarray | None = None
        if names:
            self._table = self.backend.zeros((MAX_BURST, len(names)))
            self._rows = self.backend.from_host(np.arange(MAX_BURST), "int64")
            self._row = self.backend.zeros((len(names),))
            self.values = {name: self._row.rows(i, i + 1) for i, name in enumerate(names)}

    def give(self, dials: np.ndarray) -> None:
        """Puts the dials of the next steps (steps, dials) into the table."""
        if self.values and self._given is not dials:
            self._given = None
            table = np.zeros(self._table.shape)
            table[: len(dials)] = dials
            self.backend.upload(self._table, table)
            self._given = dials

    def fetch(self) -> None:
        """Launches what brings those of the running step."""
        if self.values:
            dims = (*self._table.shape, MAX_BURST, 1)
            self.backend.launch("gather_rows", (self._table, self._rows, self._at, self._row), dims, (1.0,))
