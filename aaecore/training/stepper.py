"""Makes training steps: records one for each batch size, then replays it in bursts that need nothing from the host.

Whatever changes from step to step is on the device: the position in the data, the random counter, the optimizers'
states, and two tables with a row for each step of a burst: the learning rates it takes and the losses it leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..core.memory import Buffer
from ..data.rows import Rows
from ..functions.tensor import Tensor
from ..models.aae import AAE, Batch, Phase
from ..optim import Optimizer, clip_grad_norm
from .burst import Burst

BURST_SECONDS = 0.02  # how long a burst should last: signals, callbacks and the progress bar wait for its end
MAX_BURST = 1000  # steps of a burst at most: the rows of the two tables
MAX_PLANS = 16  # steps kept for batch sizes seen before; each owns its activations


@dataclass
class _Recorded:
    """A step for one batch size: what runs it n times, its x, and the prior's sample if it is given one."""

    run: Callable[[int], None]
    x: Buffer
    z: Buffer | None
    seconds: float = 1.0  # that one step took in the last burst; until then, long enough to begin with a single step


class Stepper:
    """Makes the steps of a trainer: `record` once and replay, or launch op by op, with the same bits.

    `optimizers` are those of the phases by name; `clip_norm` None does not clip.
    """

    def __init__(
        self,
        model: AAE,
        phases: Sequence[Phase],
        optimizers: Mapping[str, Optimizer],
        clip_norm: float | None,
        record: bool,
    ) -> None:
        self.model, self.backend = model, model.backend
        self.phases, self.optimizers = phases, optimizers
        self.clip_norm, self.record = clip_norm, record
        self.last_x: Buffer | None = None  # the batch of the last step
        self.cursor = self.backend.zeros((1,), "int64")  # rows of the epoch used so far
        self._source: Buffer | None = None
        self._order: Buffer | None = None
        self._at = self.backend.zeros((1,), "int64")  # the row of the tables that the next step uses
        self._rates = self.backend.zeros((MAX_BURST, len(phases)), "float64")
        self._log = self.backend.zeros((MAX_BURST, len(phases)))
        self._given: np.ndarray | None = None  # the array that the first rows of `_rates` came from
        self._recorded: dict[tuple[int, bool, bool], _Recorded] = {}

    def bind(self, x: Rows) -> None:
        """Takes the rows of x (N, input_dim), float32 or uint8, for the bursts that bring none."""
        source = x if isinstance(x, Buffer) else self.backend.wrap(x, "uint8" if x.dtype == np.uint8 else "real")
        if self._source is not None and source.is_same(self._source):
            return  # what was recorded for it is still right
        self._recorded = {key: step for key, step in self._recorded.items() if key[1]}  # those of other data go
        self._source = source
        self._order = self.backend.empty((len(x),), "int64")

    def begin_epoch(self, order: np.ndarray, position: int) -> None:
        """Sets the order (N,) of the rows, and how many of them are used already."""
        assert self._order is not None
        self.backend.upload(self._order, order)
        self.backend.upload(self.cursor, np.array([position]))

    def pace(self, batch: int) -> int:
        """How many steps on the bound data a burst may have, by the time that the last one took."""
        if self.model.prior.host:
            return 1
        seconds = self._step_for(batch, x_given=False, z_given=False).seconds
        return max(1, min(MAX_BURST, int(BURST_SECONDS / seconds)))

    def run(self, burst: Burst) -> np.ndarray:
        """Makes the steps of a burst; gives their losses, (steps, phases) float64."""
        step = self._prepare(burst)
        begun = time.perf_counter()
        step.run(burst.steps)
        losses = self.backend.to_host(self._log.rows(0, burst.steps)).astype(np.float64)
        step.seconds = max(time.perf_counter() - begun, 1e-9) / burst.steps
        self.last_x = step.x  # not before: an interrupt leaves what may be no batch yet
        return losses

    def start(self, burst: Burst) -> Callable[[], list[float]]:
        """Makes the steps of a burst without waiting for them; gives a function that fetches the losses of the last."""
        step = self._prepare(burst)
        step.run(burst.steps)
        self.last_x = step.x
        last = self.backend.clone(self._log.rows(burst.steps - 1, burst.steps))
        return lambda: self.backend.to_host(last)[0].astype(np.float64).tolist()

    def _prepare(self, burst: Burst) -> _Recorded:
        """The step of a burst, everything that it reads put in place."""
        step = self._step_for(burst.batch, burst.x is not None, burst.z is not None)
        self.backend.clear(self._at)
        if self._given is not burst.rates:
            self._give(burst.rates)
        for target, given in ((step.x, burst.x), (step.z, burst.z)):
            if target is None or given is None:
                continue
            if isinstance(given, Buffer):
                self.backend.copy(target, given)
            else:
                self.backend.upload(target, given)
        return step

    def _give(self, rates: np.ndarray) -> None:
        """Puts the rates into the first rows of their table."""
        self._given = None  # until the upload is complete: an interrupt may come before
        table = np.zeros(self._rates.shape)
        table[: len(rates)] = rates
        self.backend.upload(self._rates, table)
        self._given = rates

    def _step_for(self, batch: int, x_given: bool, z_given: bool) -> _Recorded:
        """The step for a batch size, and for who gives x and the prior's sample."""
        key = (batch, x_given, z_given)
        if key not in self._recorded:
            if len(self._recorded) >= MAX_PLANS:
                del self._recorded[next(iter(self._recorded))]
            x = self.backend.empty((batch, self.model.input_dim))
            z = self.backend.empty((batch, self.model.latent_dim)) if z_given else None
            launch = partial(self._launch, x, z, from_data=not x_given)
            self._recorded[key] = _Recorded(self._repeated(launch), x, z)
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

    def _launch(self, x: Buffer, z: Buffer | None, *, from_data: bool) -> None:
        """The launches of one step, run or recorded."""
        model, launch = self.model, self.backend.launch
        batch = x.shape[0]
        model.generator.restart()
        if from_data:
            assert self._source is not None
            assert self._order is not None
            op, scale = ("gather_rows_u8", 1 / 255) if self._source.kind == "uint8" else ("gather_rows", 1.0)
            dims = (*self._source.shape, self._order.size, batch)
            launch(op, (self._source, self._order, self.cursor, x), dims, (scale,))
        shared = Batch(Tensor(x), Tensor(z if z is not None else model.draw_prior(model.generator, batch)))
        for i, phase in enumerate(self.phases):
            loss, optimizer = phase.loss(shared), self.optimizers[phase.name]
            launch("take_rate", (self._rates, self._at, optimizer.state), (*self._rates.shape, i))
            optimizer.advance()
            if self.clip_norm is None:
                loss.backward(optimizer)
            else:
                loss.backward(parameters=optimizer.parameters)
                clip_grad_norm(optimizer, self.clip_norm)
                optimizer.step()
            launch("log_value", (loss.buffer, self._at, self._log), (*self._log.shape, i))
        launch("cursor_advance", (self._at,), (1,))
        model.generator.advance()
        if from_data:
            launch("cursor_advance", (self.cursor,), (batch,))
