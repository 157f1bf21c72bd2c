"""The restricted Boltzmann machine (Smolensky 1986), trained by contrastive divergence (Hinton 2002).

It is where section 1 of the paper begins: a generative model that is trained by Markov chains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any

import numpy as np

from .. import nn
from ..data.rows import chunks
from ..functions import bernoulli
from ..functions.tensor import Tensor
from ..options import COUNT, SWITCH, again, option
from .batch import Batch
from .boltzmann import PERSISTENT, STEPS, BoltzmannMachine, contrast
from .model import Losses
from .phase import Phase
from .registry import model


@model
class RBM(BoltzmannMachine):
    """A restricted Boltzmann machine: visible units, the data, and a layer of hidden ones that are 0 or 1.

    Its loss is the mean free energy of the data less that of the ends of Gibbs chains. That is no likelihood, and need
    not fall: where chains are short it is near 0. `validation` in the history says how far reconstructions are from
    the data; `evaluation.log_partition` and `evaluation.ais` tell likelihoods.

    Args:
        input_dim: features of x.
        hidden: hidden units.
        visible: "bernoulli" units, 0 or 1, for data in [0, 1], or "gaussian" ones with a standard deviation of 1, for
            data without their mean, in a unit of the training data (their standard deviation).
        binary: Bernoulli units take 0 or 1, drawn anew in every step with grey values as probabilities (Salakhutdinov &
            Murray 2008); otherwise the grey values. After training, `encode` and the like take grey values.
        standardise_each: Gaussian units take each feature in a unit of its own instead of one of all features.
        steps: of the Gibbs chains in a training step, the k of CD-k.
        persistent: chains go on from where they were in the step before (Tieleman 2008), instead of beginning at the
            data. They are part of the model: its checkpoints and copies hold them.
        chains: how many these are.
        sampling_steps: of the chain that ends in a sample.
        init: of the weights: "normal" with a standard deviation of 0.01, as of `AAE` "uniform" or "he"; biases begin at
            0, those of Bernoulli visible units at the mean of the data.
        activation: "sigmoid", of the hidden units; there is no other.
        precision, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    hidden: int = option(COUNT, "hidden units", default=500)
    _: KW_ONLY
    steps: int = option(STEPS, "of the Gibbs chains in a training step", default=1)
    persistent: bool = option(SWITCH, "chains go on from where they were in the step before", default=False)
    chains: int = again(BoltzmannMachine, "chains", 100, beside=PERSISTENT)

    phases = (Phase("divergence", moves=("rbm",)),)

    def build(self) -> None:
        self.build_units()
        self.rbm = self.layer(self.input_dim, self.hidden, lowest=True)
        self.chain = nn.Chains(self.backend, self.chains, self.hidden) if self.persistent else None

    @property
    def layers(self) -> Sequence[nn.Boltzmann]:
        return (self.rbm,)

    def step(self, batch: Batch) -> Iterator[Losses]:
        made = contrast(self.rbm, self.taken(batch), self.steps, batch.rng, self.chain)
        yield "divergence", *made.losses
        if self.chain is not None:
            self.chain.keep([bernoulli(self.rbm.probabilities(made.end), batch.rng)])

    # --- what is done with it -----------------------------------------------------------------------

    def free_energy(self, x: Any) -> np.ndarray:
        """F(x) of rows x (N, input_dim), (N,) float64: log p(x) is -F(x) - log Z, of Gaussian units in their unit.

        It is -b.x - sum over j of softplus(c_j + (W x)_j); for Gaussian units |x - b|^2 / 2 stands instead of -b.x. Its
        matrix product is of float32, whatever precision the machine has.

        Raises:
            ValueError, TypeError: bad data, as of `evaluate`.
        """
        rows, bias = self.check_data(x, "x"), self.rbm.visible_bias.numpy().astype(np.float64)
        return np.concatenate([self._free_energies(self.seen(chunk), bias) for (chunk,) in chunks(self.backend, rows)])

    def _free_energies(self, v: Tensor, bias: np.ndarray) -> np.ndarray:
        logits, units = self.rbm.up(v, "fp32").numpy().astype(np.float64), v.numpy().astype(np.float64)
        own = ((units - bias) ** 2).sum(axis=1) / 2 if self.rbm.gaussian else -(units * bias).sum(axis=1)
        return np.asarray(own - np.logaddexp(0, logits).sum(axis=1))
