"""What Boltzmann machines share: their data, contrastive divergence, and samples by Gibbs chains.

They are undirected models of the data that the paper's introduction begins with, trained by Markov chains.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..arguments import count
from ..core.random import Generator
from ..data.rows import CHUNK, Rows, as_rows, chunks, map_chunks, moments
from ..data.table import Column
from ..functions import bernoulli
from ..functions.tensor import Tensor
from ..options import COUNT, SWITCH, again, integer, one_of, option
from .batch import Batch
from .evaluated import Evaluated
from .generative import logit
from .model import Model

STEPS = integer(1, 1000)  # each of them is some launches of the recorded step
PERSISTENT = {"persistent": [True]}


class Contrast(NamedTuple):
    """What contrastive divergence makes of a layer and of units below it."""

    losses: tuple[Tensor, ...]  # whose sum is the mean free energy of the units less that of the chains' ends
    hidden: Tensor  # a draw of the units above (B, hidden)
    end: Tensor  # the logits of those at the ends of the chains


def contrast(layer: nn.Boltzmann, v: Tensor, steps: int, rng: Generator, chain: nn.Chains | None) -> Contrast:
    """Contrastive divergence (Hinton 2002) of so many steps from units below v (B, visible); or persistent (Tieleman
    2008), where the chains go on from where `chain` is.

    The ends of the chains are numbers: their free energy has a gradient by the parameters alone.
    """
    logits = layer.up(v)
    hidden = bernoulli(layer.probabilities(logits), rng)
    last, end = layer.walk(hidden if chain is None else chain.states[0], steps, rng)
    return Contrast((*layer.free_energy(v, logits), *layer.free_energy(last, end, -1.0)), hidden, end)


@dataclass(eq=False, repr=False)
class BoltzmannMachine(Evaluated):
    """A model of layers of units, of which the lowest are the data.

    A subclass says which layers there are, how hidden units follow from the data, and what a step of a chain is.
    """

    input_dim: int = option(COUNT, "features of x", of_data=True)
    _: KW_ONLY
    visible: str = option(
        one_of("bernoulli", "gaussian"), "units of x: bernoulli (data in [0, 1]) or gaussian", default="bernoulli"
    )
    binary: bool = option(
        SWITCH, "bernoulli units take 0 or 1, drawn anew in every step, instead of grey values", default=True,
        beside={"visible": ["bernoulli"]},
    )  # fmt: skip
    standardise_each: bool = option(
        SWITCH, "gaussian units take each feature in a unit of its own", default=False,
        beside={"visible": ["gaussian"]},
    )  # fmt: skip
    chains: int = option(COUNT, "Gibbs chains that go on from step to step", default=100)
    sampling_steps: int = option(COUNT, "of the Gibbs chain that ends in a sample", default=200)
    activation: str = option(one_of("sigmoid"), "of the hidden units", default="sigmoid")
    init: str = again(Model, "init", "normal")

    def complete(self) -> None:
        if self.standardise_each and self.visible != "gaussian":
            raise ValueError(f"standardise_each: expected visible='gaussian' besides, got visible={self.visible!r}")

    def columns(self) -> dict[str, Column]:
        if self.visible == "gaussian":
            return {"x": Column(self.input_dim)}
        otherwise = "give the model visible='gaussian', which suits numbers of any range"
        return {"x": Column(self.input_dim, "unit", otherwise)}

    def build_units(self) -> None:
        """Makes what the visible units take instead of data as they are, or what tells whether they saw data."""
        units = nn.StandardiseEach if self.standardise_each else nn.Standardise
        self.inputs: nn.Units | None = units(self.backend, self.input_dim) if self.visible == "gaussian" else None
        self.beginning = nn.Beginning(self.backend) if self.inputs is None else None

    def layer(self, below: int, above: int, *, lowest: bool = False, biased: bool = True) -> nn.Boltzmann:
        """Two layers of units; its weights are the next ones that the seed gives. See `nn.Boltzmann`."""
        return nn.Boltzmann(
            self.backend, below, above, self.precision, rng=self._initial, init=self.init,
            gaussian=lowest and self.visible == "gaussian", biased=biased,
        )  # fmt: skip

    @property
    @abstractmethod
    def layers(self) -> Sequence[nn.Boltzmann]:
        """From the lowest, which has the visible units, to the highest."""

    # --- what training needs ------------------------------------------------------------------------

    def begin(self, x: Rows, moving: Collection[str]) -> None:
        """Lets the visible units begin at the mean of the data; Gaussian ones take its mean and scale as their unit.

        Not where somebody changed the weights before, or layers above learned already: they are for data as they are.
        Nor do Bernoulli units where their layer does not move.
        """
        lowest = self.layers[0]
        if self.beginning is not None and not any(self.networks[name] is lowest for name in moving):
            return  # until that layer moves
        made_of = self.beginning if self.inputs is None else self.inputs
        assert made_of is not None
        if not self.backend.to_host(made_of.rows)[0]:
            if self.writes.count != self.untouched:
                self.forget()
                return
            mean, std, rows = moments(self.backend, x, each=self.standardise_each)
            with self.owner.whole:
                try:
                    if self.inputs is not None:
                        self.inputs.set("x", mean, std, rows)
                    elif self.beginning is not None:
                        self.backend.upload(lowest.visible_bias.buffer, logit(mean))
                        self.beginning.set(rows)  # in the end: after an interrupt all of it is done again
                finally:
                    self.untouched = self.writes.count  # nobody else changed anything
        self.begun = True

    def forget(self) -> None:
        if self.inputs is not None:
            self.inputs.set("state_dict", np.zeros(self.input_dim), 1.0, 1)
        if self.beginning is not None:
            self.beginning.set(1)
        for network in self.networks.values():
            if isinstance(network, nn.Chains):
                network.clear()
        self.begun = True

    def seen(self, x: Tensor) -> Tensor:
        """Visible units of x (B, input_dim), as they are evaluated: probabilities, or numbers in units."""
        return x if self.inputs is None else self.inputs(x).detach()

    def taken(self, batch: Batch) -> Tensor:
        """Visible units of a batch that is trained on."""
        drawn = self.visible == "bernoulli" and self.binary
        return bernoulli(batch.x, batch.rng) if drawn else self.seen(batch.x)

    def shown(self, v: Tensor) -> Tensor:
        """Visible units as the data are."""
        return v if self.inputs is None else self.inputs.back(v)

    # --- what is done with it -----------------------------------------------------------------------

    def hiddens(self, v: Tensor) -> Tensor:
        """What the highest units are expected to be, of visible ones (B, input_dim): (B, units)."""
        for layer in self.layers:
            v = layer.probabilities(layer.up(v))
        return v

    def visibles(self, h: Tensor) -> Tensor:
        """What the visible units are expected to be, of the highest ones (B, units): (B, input_dim)."""
        for layer in reversed(self.layers):
            h = layer.down(h)
        return h

    def gibbs(self, states: Sequence[Tensor], rng: Generator) -> Sequence[Tensor]:
        """The states of Gibbs chains after one step, in the highest two layers."""
        top = self.layers[-1]
        _, logits = top.walk(states[0], 1, rng)
        return (bernoulli(top.probabilities(logits), rng),)

    def dreamt(self, states: Sequence[Tensor]) -> Tensor:
        """The mean of the visible units (B, input_dim) at the end of a chain."""
        return self.layers[0].down(states[0])

    @property
    def widths(self) -> Sequence[int]:
        """How many units the layers have that a chain remembers."""
        return self.layers[-1].weight.shape[:1]

    def encode(self, x: Any) -> Any:
        """What the highest hidden units are expected to be for x (N, input_dim): (N, units) float32, in [0, 1]."""
        rows = as_rows(self.backend, x, "x", self.input_dim)
        return map_chunks(self.backend, lambda x: self.hiddens(self.seen(x)), rows, self.layers[-1].weight.shape[0])

    def decode(self, h: Any) -> Any:
        """What the visible units are expected to be, given the highest ones h (N, units): (N, input_dim) float32."""
        rows = as_rows(self.backend, h, "h", self.layers[-1].weight.shape[0], pixels=False)
        return map_chunks(self.backend, lambda h: self.shown(self.visibles(h)), rows, self.input_dim)

    def reconstruct(self, x: Any) -> Any:
        """What x (N, input_dim) becomes on the way up and down again, by means: (N, input_dim) float32."""
        rows = as_rows(self.backend, x, "x", self.input_dim)
        return map_chunks(self.backend, lambda x: self.shown(self.again(self.seen(x))), rows, self.input_dim)

    def again(self, v: Tensor) -> Tensor:
        """What visible units (B, input_dim) become on the way up and down again."""
        return self.visibles(self.hiddens(v))

    @property
    def reconstruction(self) -> str:
        """What `evaluate` gives, by the name that autoencoders have for it."""
        return "mse" if self.visible == "gaussian" else "bce"

    def losses_of(self, rows: Rows, reduction: str) -> float | np.ndarray:
        each = np.concatenate([self._distances(*chunk) for chunk in chunks(self.backend, rows)])
        return each if reduction == "none" else float(each.mean())

    def _distances(self, x: Tensor) -> np.ndarray:
        v = self.seen(x)
        target, mean = v.numpy().astype(np.float64), self.again(v).numpy().astype(np.float64)
        if self.visible == "gaussian":
            return np.asarray(((target - mean) ** 2).sum(axis=1) / 2)
        p = np.clip(mean, 1e-7, 1 - 1e-7)  # float32 has no number between 1 - 6e-8 and 1
        return np.asarray(-(target * np.log(p) + (1 - target) * np.log1p(-p)).sum(axis=1))

    def sample(self, n: int, *, on_device: bool = False) -> Any:
        """(n, input_dim): means of the visible units at the end of Gibbs chains, an array of the device if asked.

        Each is the end of a chain of its own of `sampling_steps` steps, which begins with hidden units that are 0. A
        step of it is recorded, and replayed without the host in between. Every call draws new ones.
        """
        out = self.backend.empty((count("n", n), self.input_dim))
        self.sampler.advance()
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            chain = nn.Chains(self.backend, stop - start, *self.widths)

            def step(chain: nn.Chains = chain) -> None:
                chain.keep(self.gibbs(chain.states, self.sampler))
                self.sampler.advance()

            self.backend.capture(step).replay(times=self.sampling_steps)
            self.backend.copy(out.rows(start, stop), self.shown(self.dreamt(chain.states)).buffer)
        return self.backend.array(out) if on_device else self.backend.to_host(out).astype(np.float32, copy=False)


class _Declared:
    """What deep machines declare themselves, each with a default of its own."""

    hidden: Sequence[int]


@dataclass(eq=False, repr=False)
class DeepMachine(BoltzmannMachine, _Declared):
    """A Boltzmann machine of several hidden layers: `layer_1` has the visible units and the lowest hidden ones."""

    def build_layers(self, *, biased: bool) -> None:
        """Makes the layers; `biased` says whether those further up have biases of their own for units below them."""
        units = (self.input_dim, *self.hidden)
        for i in range(1, len(units)):
            setattr(self, f"layer_{i}", self.layer(units[i - 1], units[i], lowest=i == 1, biased=biased or i == 1))

    @property
    def layers(self) -> Sequence[nn.Boltzmann]:
        return [getattr(self, f"layer_{i + 1}") for i in range(len(self.hidden))]
