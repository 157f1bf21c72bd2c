"""Makes training steps: records one for each batch size, then replays it in bursts that need nothing from the host.

Whatever changes from step to step is on the device: the positions in the data, the random counter, the optimizers'
states, and tables with a row for each step of a burst: the learning rates and dials it takes and the losses it leaves.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..core.memory import Buffer
from ..core.plan import Plan
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
    """A step for one batch size: what its launches need, and its plan, unless it is launched op by op."""

    inputs: dict[str, Buffer]
    fetched: list[tuple[str, str, str]]  # the inputs that come from the bound data: name, column, stream
    movers: Mapping[str, Mover]  # by phase
    seen: Batch
    batch: Batch  # for a look at the weights: zeros are the samples that a step would draw
    plan: Plan | None = None
    seconds: float = 1.0  # that one step took in the last burst; until then, long enough to begin with a single step


class Stepper:
    """Makes the steps of a run: records one and replays it, or launches op by op, with the same bits."""

    def __init__(self, run: Run) -> None:
        self.model, self.backend = run.model, run.backend
        self._run: Run = weakref.proxy(run)  # which owns this: each would keep the other alive
        self.optimizers = run.optimizers
        self._draws_on_host = any(prior.host for prior, _ in self.model.priors().values())
        self.last: Batch | None = None  # of the last step
        self.seconds = 0.0  # that a step of the last burst took
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
        self._recorded: dict[tuple[object, ...], _Recorded] = {}  # by all that it depends on, see `_step_for`

    def bind(self, table: Table) -> None:
        """Takes the data for the bursts that bring none."""
        columns = {
            name: x if isinstance(x, Buffer) else self.backend.wrap(x, "uint8" if x.dtype == np.uint8 else "real")
            for name, x in table.columns.items()
        }
        there = self._columns.keys() == columns.keys() and all(b.is_same(self._columns[k]) for k, b in columns.items())
        if not there:  # in one statement: an interrupt leaves no step that was recorded for other data
            self._columns, self._recorded = columns, self._without_data()

    def _without_data(self) -> dict[tuple[object, ...], _Recorded]:
        """The recorded steps that fetch nothing of the data, nor in their orders."""
        return {key: step for key, step in self._recorded.items() if not step.fetched}

    def begin_epoch(self, orders: Mapping[str, np.ndarray], used: Mapping[str, int]) -> None:
        """Sets the order of the rows of each stream, and how many of them are used already."""
        rows = len(next(iter(self._columns.values())))
        for name, order in orders.items():  # here for the whole epoch, since not every device's kernels look at them
            if len(order) and not 0 <= order.min() <= order.max() < rows:
                raise IndexError(f"order of stream {name!r}: expected rows below {rows}, got others")
        lengths = {name: len(order) for name, order in orders.items()}
        if lengths != {name: len(order) for name, order in self._orders.items()}:
            made = {name: self.backend.empty((n,), "int64") for name, n in lengths.items()}
            self._orders, self._recorded = made, self._without_data()
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
        self._repeat(step, steps)
        losses = self.losses(steps)
        self.seconds = step.seconds = max(time.perf_counter() - begun, 1e-9) / steps
        self.last = step.batch  # not before: an interrupt leaves what may be no batch yet
        return losses

    def losses(self, steps: int) -> np.ndarray:
        """Those of the first steps of the burst that was made last, (steps, phases) float64."""
        if steps not in self._logs:
            self._logs[steps] = self._log.rows(0, steps)
        return self.backend.to_host(self._logs[steps]).astype(np.float64)

    def start(self, burst: Burst) -> Callable[[], list[float]]:
        """Makes the steps of a burst without waiting for them; gives a function that fetches the losses of the last."""
        step = self._prepare(burst)
        self._repeat(step, burst.steps)
        self.last = step.batch
        backend, last = self.backend, self.backend.clone(self._log.rows(burst.steps - 1, burst.steps))
        return lambda: backend.to_host(last)[0].astype(np.float64).tolist()

    def _prepare(self, burst: Burst) -> _Recorded:
        """The step of a burst, everything that it reads put in place."""
        step = self._step_for(burst.batch, *burst.given)
        if step.fetched and self._run.position + burst.batch * burst.steps > self._orders[""].size:
            raise RuntimeError("step: expected rows that are left in the epoch, got more")  # no kernel counts them
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
        run = self._run
        labelled = run.labelled_batch_size
        key = (batch, labelled, run.clip_norm, run.record, *given)
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
            still = {sample_of(name): self.backend.zeros((batch, dim)) for name, (_, dim) in priors.items()}
            step = _Recorded(inputs, self._fetched(given), self._movers(), seen(inputs), seen(still | inputs))
            if run.record:
                step.plan = self.backend.capture(partial(self._launch, step))
            self._recorded[key] = step
        return self._recorded[key]

    def _movers(self) -> dict[str, Mover]:
        clip = self._run.clip_norm
        return {n: optimizer if clip is None else Clipped(optimizer, clip) for n, optimizer in self.optimizers.items()}

    def _repeat(self, step: _Recorded, times: int) -> None:
        """Makes a step so often."""
        if step.plan is not None:
            step.plan.repeat(times)  # of a model that has one owner
            return
        for _ in range(times):
            self._launch(step)

    def _launch(self, step: _Recorded) -> None:
        """The launches of one step, run or recorded."""
        launch, rng = self.backend.launch, self.model.generator
        rng.restart()
        for key, column, stream in step.fetched:
            self._gather(column, stream, step.inputs[key])
        self._dials.fetch()
        names = [phase.name for phase in self.model.phases]
        moving = {phase.name for phase in self.model.phases if phase.moves}
        made = []
        for i, (phase, *losses) in enumerate(_yielded(self.model.step(step.seen))):
            made.append(phase)
            if made != names[: i + 1]:
                break
            launch("take_rate", (self._rates, self._at, self.optimizers[phase].state), (*self._rates.shape, i))
            self.optimizers[phase].advance()
            if phase in moving:
                backward(losses, step.movers[phase])
            elif any(t.maker and not t.maker.walked for loss in losses if loss.maker for t in loss.maker.inputs):
                part = "its loss to be made of what a phase before it has minimised, since it moves nothing"
                raise ValueError(f"step: phase {phase}: expected {part} (generator_weight=0 gives one an update)")
            for loss in losses[1:]:
                if loss.counted:
                    launch("copy", (loss.buffer, losses[0].buffer), (1, 1))
            launch("log_value", (losses[0].buffer, self._at, self._log), (*self._log.shape, i))
        if made != names:
            raise ValueError(f"step: expected it to yield the phases {', '.join(names)}, got {', '.join(made)}")
        self.model.settle(step.seen)
        launch("cursor_advance", (self._at,), (1,))
        rng.advance()
        for stream in dict.fromkeys(stream for *_, stream in step.fetched):
            rows = next(len(step.inputs[key]) for key, _, name in step.fetched if name == stream)
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
        names, self.backend, self._at = [*model.dials(), *model.ratios()], model.backend, at
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
