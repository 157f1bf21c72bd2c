"""The deep belief network (Hinton, Osindero & Teh 2006), with whose likelihood table 1 of the paper begins.

Restricted Boltzmann machines on top of each other, each trained on what the one below makes of the data. The highest
stays one; from its visible units data follow layer by layer downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY
from functools import partial

from .. import nn
from ..functions import bernoulli
from ..functions.tensor import Tensor
from ..options import COUNTS, SWITCH, again, integer, option
from .batch import Batch
from .boltzmann import PERSISTENT, STEPS, BoltzmannMachine, DeepMachine, contrast
from .model import Losses
from .phase import Phase
from .registry import model

LAYERS = 5  # at most: each has a phase, of which the command line must know the names


@model
class DBN(DeepMachine):
    """A deep belief network: layers of hidden units that are 0 or 1 above visible ones, the data.

    Each two layers have a phase of their own, "layer_1" and so on, with the loss of an `RBM` whose visible units are
    draws of the hidden ones below.

    Samples are worth most with persistent chains, a higher rate that falls to nothing at the end, and all layers at
    once: 50,000 digits, 5 epochs, rates of 3e-3 and `schedules.Cosine` give a Parzen likelihood of 213 nats with 10,000
    samples (docs/comparison.md). Without a schedule chains must not be persistent.

    Args:
        input_dim: features of x.
        hidden: hidden units of each layer, from the lowest to the highest; at most five.
        visible, binary, standardise_each: as of `RBM`.
        steps, persistent, chains: of the chains of every layer, as of `RBM`.
        steps_per_layer: training steps for which a layer learns before the one above it begins, greedily as in the
            paper of 2006; the highest one learns to the end. A layer that does not learn has a rate of 0: it stays as
            it is, and its loss says what it could learn. With 0 all layers learn at once, each on what the others are
            by then.
        sampling_steps: of the chain in the highest two layers that ends in a sample.
        init, activation: as of `RBM`.
        precision, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    hidden: Sequence[int] = option(COUNTS, "hidden units of each layer", default=(500, 2000))
    _: KW_ONLY
    steps: int = option(STEPS, "of the Gibbs chains in a training step", default=1)
    persistent: bool = option(SWITCH, "chains go on from where they were in the step before", default=False)
    chains: int = again(BoltzmannMachine, "chains", 100, beside=PERSISTENT)
    steps_per_layer: int = option(
        integer(0), "training steps until the next layer learns instead; 0 for all layers at once", default=0
    )

    phases = tuple(Phase(f"layer_{i}", moves=(f"layer_{i}",)) for i in range(1, LAYERS + 1))

    def complete(self) -> None:
        super().complete()
        if not 1 <= len(self.hidden) <= LAYERS:
            raise ValueError(f"hidden: expected 1 to {LAYERS} layers, got {len(self.hidden)}")
        vars(self)["phases"] = self.phases[: len(self.hidden)]  # of this model: the class has those of the deepest

    def build(self) -> None:
        self.build_units()
        self.build_layers(biased=True)
        for i, units in enumerate(self.hidden if self.persistent else (), 1):
            setattr(self, f"chain_{i}", nn.Chains(self.backend, self.chains, units))

    def rate_factors(self) -> dict[str, Callable[[int], float]]:
        def learns(layer: int, step: int) -> float:
            return float(min(step // self.steps_per_layer, len(self.hidden) - 1) == layer)

        greedy = enumerate(self.phases) if self.steps_per_layer else ()
        return {phase.name: partial(learns, i) for i, phase in greedy}

    def step(self, batch: Batch) -> Iterator[Losses]:
        v = self.taken(batch)
        for i, (phase, layer) in enumerate(zip(self.phases, self.layers, strict=True), 1):
            chain: nn.Chains | None = getattr(self, f"chain_{i}", None)
            made = contrast(layer, v, self.steps, batch.rng, chain)
            yield phase.name, *made.losses
            if chain is not None:
                chain.keep([bernoulli(layer.probabilities(made.end), batch.rng)])
            v = made.hidden

    # --- what is done with it -----------------------------------------------------------------------

    def dreamt(self, states: Sequence[Tensor]) -> Tensor:
        """Draws of every layer on the way down, of the data their mean."""
        *above, lowest = reversed(self.layers)
        h = states[0]
        for layer in above:
            h = layer.draw(layer.down(h), self.sampler)
        return lowest.down(h)
