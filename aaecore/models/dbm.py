"""The deep Boltzmann machine (Salakhutdinov & Hinton 2009): layers of units whose connections have no direction.

So a layer is given by those below and above it, and the posterior of the hidden units has no formula: mean field stands
for it, and persistent chains for the model's own expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, replace

from .. import nn
from ..core.random import Generator
from ..functions import add_bias, bernoulli, inner_product, transposed_product
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, integer, option
from .batch import Batch
from .boltzmann import STEPS, DeepMachine
from .model import Losses
from .phase import Phase
from .registry import model


@model
class DBM(DeepMachine):
    """A deep Boltzmann machine: layers of hidden units that are 0 or 1 above visible ones, the data.

    Each of its losses is the mean energy of data, with what their hidden units are expected to be, less that of the
    ends of Gibbs chains. That is no likelihood, and need not fall.

    Args:
        input_dim: features of x.
        hidden: hidden units of each layer, from the lowest to the highest.
        visible, binary, standardise_each: as of `RBM`.
        pretraining_steps: training steps at the beginning that train each two layers as a restricted machine, by
            contrastive divergence of one step; what they take of a layer is doubled where it will have another
            neighbour on the other side. After them the whole is trained, which learns little from scratch. Either phase
            has a rate of 0 while the other learns.
        mean_field: rounds in which every hidden layer is set to what its neighbours expect of it, for data.
        steps: of the persistent chains in a training step.
        chains: how many these are. They are part of the model: its checkpoints and copies hold them.
        sampling_steps: of the chain that ends in a sample.
        init, activation: as of `RBM`.
        precision, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    hidden: Sequence[int] = option(COUNTS, "hidden units of each layer", default=(500, 1000))
    _: KW_ONLY
    pretraining_steps: int = option(
        integer(0), "training steps in which each two layers learn as a restricted machine", default=500
    )
    mean_field: int = option(COUNT, "rounds of mean field, for the hidden units of data", default=10)
    steps: int = option(STEPS, "of the Gibbs chains in a training step", default=5)

    phases = (
        Phase("pretraining", moves=("layer_1",)),
        Phase("energy", moves=("layer_1",), rate=1e-4),
    )

    def complete(self) -> None:
        super().complete()
        if not self.hidden:
            raise ValueError("hidden: expected one layer or more, got none")
        moves = tuple(f"layer_{i}" for i in range(1, len(self.hidden) + 1))
        of_all = [replace(phase, moves=moves) for phase in self.phases]
        vars(self)["phases"] = tuple(of_all if self.pretraining_steps else of_all[1:])  # of this model

    def build(self) -> None:
        self.build_units()
        self.build_layers(biased=False)
        self.chain = nn.Chains(self.backend, self.chains, *self.hidden)

    def rate_factors(self) -> dict[str, Callable[[int], float]]:
        n = self.pretraining_steps
        if not n:
            return {}
        return {"pretraining": lambda step: float(step < n), "energy": lambda step: float(step >= n)}

    def step(self, batch: Batch) -> Iterator[Losses]:
        v = self.taken(batch)
        if self.pretraining_steps:
            yield "pretraining", *self._as_restricted(v, batch.rng)
        states: Sequence[Tensor] = self.chain.states
        for _ in range(self.steps):
            last, states = self._swept(states, batch.rng)
        yield "energy", *self._energy(v, self.expected(v), 1.0), *self._energy(last, states, -1.0)
        self.chain.keep(states)

    def _energy(self, v: Tensor, hidden: Sequence[Tensor], weight: float) -> Iterator[Tensor]:
        """Losses whose sum is weight times the mean energy of units, which get no gradient."""
        yield self.layers[0].own_energy(v, weight)
        for layer, below, above in zip(self.layers, (v, *hidden), hidden, strict=False):
            yield inner_product(layer.up(below), above, -weight)

    def _as_restricted(self, v: Tensor, rng: Generator) -> Iterator[Tensor]:
        """Losses of each two layers by themselves: energies of the units below less those of a chain's end."""
        top = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            p = self._risen(i, v)
            drawn = bernoulli(p, rng)
            end = layer.draw(layer.down(drawn), rng) if i == 0 else bernoulli(self._fallen(i, drawn), rng)
            if i == 0:
                yield from (layer.own_energy(v), layer.own_energy(end, -1.0))
            yield inner_product(layer.up(v), p, -1.0)
            yield inner_product(layer.up(end), self._risen(i, end))
            v = drawn if i < top else v

    def _risen(self, i: int, below: Tensor) -> Tensor:
        """Hidden units of layer i by those below it alone, which stand for those above it as well."""
        layer = self.layers[i]
        return layer.probabilities(layer.up(below if i == len(self.layers) - 1 else _doubled(below)))

    def _fallen(self, i: int, above: Tensor) -> Tensor:
        """Hidden units of layer i - 1 by those above it alone, which stand for those below it as well."""
        layer, under = self.layers[i], self.layers[i - 1]
        return add_bias(transposed_product(_doubled(above), layer.weight, self.precision), under.bias, "sigmoid")

    def _between(self, i: int, from_below: Tensor, above: Sequence[Tensor]) -> Tensor:
        """Hidden units of layer i by `up` of those below it, in place, and by those above, if there are some."""
        if i + 1 < len(self.layers):
            transposed_product(above[i + 1], self.layers[i + 1].weight, self.precision, onto=from_below)
        return self.layers[i].probabilities(from_below)

    def _swept(self, states: Sequence[Tensor], rng: Generator) -> tuple[Tensor, Sequence[Tensor]]:
        """One step of a Gibbs chain: the visible units, then the hidden ones from the lowest to the highest."""
        v = below = self.layers[0].draw(self.layers[0].down(states[0]), rng)
        made = list(states)
        for i, layer in enumerate(self.layers):
            made[i] = below = bernoulli(self._between(i, layer.up(below).detach(), made), rng)
        return v, made

    def expected(self, v: Tensor) -> Sequence[Tensor]:
        """What the hidden units of each layer are expected to be for visible ones (B, input_dim), by mean field."""
        lowest, states = self.layers[0].up(v).detach(), list[Tensor]()
        for i in range(len(self.layers)):
            states.append(self._risen(i, states[-1] if states else v))
        for _ in range(self.mean_field):
            for i, layer in enumerate(self.layers):
                from_below = _copied(lowest) if i == 0 else layer.up(states[i - 1]).detach()
                states[i] = self._between(i, from_below, states)
        return states

    # --- what is done with it -----------------------------------------------------------------------

    def hiddens(self, v: Tensor) -> Tensor:
        return self.expected(v)[-1]

    def visibles(self, h: Tensor) -> Tensor:
        """Layer by layer, as if each had only the one above it, doubled."""
        for i in range(len(self.layers) - 1, 0, -1):
            h = self._fallen(i, h)
        return self.layers[0].down(h)

    def again(self, v: Tensor) -> Tensor:
        return self.layers[0].down(self.expected(v)[0])

    @property
    def widths(self) -> Sequence[int]:
        return self.hidden

    def gibbs(self, states: Sequence[Tensor], rng: Generator) -> Sequence[Tensor]:
        return self._swept(states, rng)[1]


def _copied(x: Tensor) -> Tensor:
    out = x.backend.empty(x.shape)
    x.backend.launch("copy", (x.buffer, out), (out.size, 0))
    return Tensor(out)


def _doubled(x: Tensor) -> Tensor:
    out = _copied(x)
    x.backend.launch("scale", (out.buffer,), (out.buffer.size,), (2.0,))
    return out
