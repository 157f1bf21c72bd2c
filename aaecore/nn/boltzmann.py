"""Layers of Boltzmann machines: what their units are given by their neighbours, free energies, Gibbs chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from ..arguments import choice
from ..core.backend import Backend
from ..core.random import Generator
from ..functions import add_bias, bernoulli, bias_product, half_squared_error, linear, noisy, softplus_sum
from ..functions.energies import transposed_product, zeros_like
from ..functions.linear import check_precision
from ..functions.tensor import Parameter, Tensor
from .layers import INITS, initial
from .module import Module


class Boltzmann(Module):
    """Two layers of units, v below and h above, of the energy -b.v - c.h - h.(W v) (Smolensky 1986; Hinton 2002).

    Gaussian units below have a standard deviation of 1 and the energy |v - b|^2 / 2 - c.h - h.(W v). All others are
    0 or 1.

    Args:
        backend: where it lives.
        visible: units below.
        hidden: units above.
        precision: of the matrix products.
        rng: draws the initial weights.
        init: of the weights, see `Linear`; biases begin at 0.
        gaussian: whether the units below are Gaussian.
        biased: whether the units below have biases here; those of a layer further up may have them in the one below.

    Attributes:
        weight: W (hidden, visible). bias: c (hidden,). visible_bias: b (visible,).
    """

    def __init__(
        self, backend: Backend, visible: int, hidden: int, precision: str = "fp32", *, rng: np.random.Generator,
        init: str = "normal", gaussian: bool = False, biased: bool = True,
    ) -> None:  # fmt: skip
        size = INITS[choice("init", init, list(INITS))](visible, False)
        self.backend, self.precision, self.gaussian = backend, check_precision(precision, backend), gaussian
        shape = (hidden, visible)
        self.weight = Parameter(backend.generated(shape, partial(initial, rng, init, size, shape), "weight"))
        self.bias = Parameter(backend.zeros((hidden,)))
        self.biased, self.visible_bias = biased, Parameter(backend.zeros((visible,)))
        self._none = Tensor(backend.zeros((hidden,)))

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        """{"<prefix>weight": ..., "<prefix>bias": ..., "<prefix>visible_bias": ...}"""
        names = ("weight", "bias", "visible_bias") if self.biased else ("weight", "bias")
        return {f"{prefix}{name}": getattr(self, name) for name in names}

    def up(self, v: Tensor, precision: str | None = None) -> Tensor:
        """W v + c, (B, hidden): the logits of the units above; `precision` replaces that of the layer, for once."""
        return linear(v, self.weight, self.bias, precision=precision or self.precision)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the units above to be 1, of their logits (B, hidden); without history."""
        return add_bias(logits, self._none, "sigmoid")

    def down(self, h: Tensor, precision: str | None = None) -> Tensor:
        """The mean of the units below where those above are h (B, hidden): (B, visible), without history."""
        below = transposed_product(h, self.weight, precision or self.precision)
        return add_bias(below, self.visible_bias, "identity" if self.gaussian else "sigmoid")

    def draw(self, mean: Tensor, rng: Generator) -> Tensor:
        """Units below of such a mean (B, visible)."""
        return noisy(mean, rng, 1.0).detach() if self.gaussian else bernoulli(mean, rng)

    def free_energy(self, v: Tensor, logits: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """Losses whose sum is weight times F(v) = -log of the sum over h of e^-energy, a mean over the rows of v.

        For Gaussian units without |b|^2 / 2, which a difference does not have.

        Args:
            v: (B, visible), which gets no gradient.
            logits: `up(v)`.
            weight: of the loss.
        """
        return self.own_energy(v, weight), softplus_sum(logits, -weight)

    def own_energy(self, v: Tensor, weight: float = 1.0) -> Tensor:
        """A loss: weight times -b.v, with |v|^2 / 2 of Gaussian units, a mean over the rows of v (B, visible)."""
        energy = bias_product(self.visible_bias, v, -weight)
        if self.gaussian:
            square = half_squared_error(v.detach(), Tensor(zeros_like(v)), weight)
            self.backend.launch("copy", (square.buffer, energy.buffer), (1, 1))
        return energy

    def walk(self, h: Tensor, steps: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """The end of a Gibbs chain of so many steps from units above h (B, hidden): v, and `up(v)`.

        As launches, which a recorded step repeats. Only the logits have a history, to the layer's parameters.
        """
        v = self.draw(self.down(h), rng)
        logits = self.up(v)
        for _ in range(1, steps):
            v = self.draw(self.down(bernoulli(self.probabilities(logits), rng)), rng)
            logits = self.up(v)
        return v, logits

    def __repr__(self) -> str:
        hidden, visible = self.weight.shape
        return f"Boltzmann({visible}-{hidden}, {'gaussian' if self.gaussian else 'bernoulli'})"


class Beginning(Module):
    """Whether the visible units of a machine began at the mean of some rows, or at 0, as the seed gives them.

    Attributes:
        rows: (1,) of how many rows that mean was; 0 before that.
    """

    optional = True

    def __init__(self, backend: Backend) -> None:
        self.backend, self.rows = backend, backend.zeros((1,))

    def set(self, rows: int) -> None:
        """Says of how many rows the mean was."""
        self.backend.upload(self.rows, np.array([rows], self.backend.real))

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {}

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        """{"<prefix>rows": (1,)}"""
        return {f"{prefix}rows": Tensor(self.rows)}

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        """ValueError for a number below 0."""
        if (rows := float(values[f"{prefix}rows"][0])) < 0:
            raise ValueError(f"{prefix}rows: expected a number >= 0, got {rows:g}")

    def __repr__(self) -> str:
        return "Beginning()"


class Chains(Module):
    """States of Gibbs chains that go on from step to step: of `rows` chains, the units of some layers.

    They are statistics, so files and copies hold them. All units begin at 0.

    Attributes:
        states: by layer, each (rows, units), without history.
    """

    optional = True

    def __init__(self, backend: Backend, rows: int, *units: int) -> None:
        self.backend = backend
        self.states = tuple(Tensor(backend.zeros((rows, n))) for n in units)

    def keep(self, states: Sequence[Tensor]) -> None:
        """Goes on from these states: launches that a recorded step repeats."""
        for own, state in zip(self.states, states, strict=True):
            self.backend.launch("copy", (state.buffer, own.buffer), (own.buffer.size, 0))

    def clear(self) -> None:
        """Sets all units to 0."""
        for state in self.states:
            self.backend.clear(state.buffer)

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {}

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        """{"<prefix>0": (rows, units), ...}"""
        return {f"{prefix}{i}": state for i, state in enumerate(self.states)}

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        """ValueError for states of units that are neither 0 nor 1."""
        for name, state in values.items():
            if bad := int(((state != 0) & (state != 1)).sum()):
                raise ValueError(f"{name}: expected units that are 0 or 1, got {bad} of {state.size} that are neither")

    def __repr__(self) -> str:
        return f"Chains({', '.join(str(state.shape) for state in self.states)})"
