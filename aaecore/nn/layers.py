"""Layers: fully connected networks on the kernels of this library."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, Self

import numpy as np

from ..arguments import choice, number
from ..core.backend import Backend
from ..core.random import Generator
from ..functions import dropout, noisy
from ..functions.linear import LEAKY_SLOPE, activation_code, check_precision, linear
from ..functions.tensor import Parameter, Tensor
from .batchnorm import BatchNorm
from .module import Module

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def initial(rng: np.random.Generator, init: str, size: float, shape: tuple[int, ...]) -> np.ndarray:
    """Initial values: uniform in [-size, size], or normal with a standard deviation of `size`; see `INITS`."""
    return rng.uniform(-size, size, shape) if init == "uniform" else rng.normal(0.0, size, shape)


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


# The spread of initial weights by the name of an initialisation, for so many inputs, in a hidden layer or in the last.
INITS: Final[Mapping[str, Callable[[int, bool], float]]] = MappingProxyType(
    {
        "uniform": lambda inputs, hidden: 1.0 / math.sqrt(inputs),  # a bound; as in PyTorch, biases too
        "normal": lambda inputs, hidden: 0.01,  # appendix A of Makhzani et al. (2015)
        "he": lambda inputs, hidden: math.sqrt((2.0 if hidden else 1.0) / inputs),  # He et al. (2015)
    }
)
NORMS: Final = ("none", "hidden", "all")


class Linear:
    """y = act(x W^T + b) with weight (out, in) and bias (out,).

    Args:
        backend: where it lives.
        inputs: features of x.
        outputs: features of y.
        activation: identity, relu, leaky_relu (slope 0.01), sigmoid or tanh.
        precision: of the matrix product, see `functions.linear`; the weights are float32 in any case.
        rng: draws the initial values, in float64, so that they are the same on every backend.
        init: "uniform" for U(-1/sqrt(in), 1/sqrt(in)) of weight and bias, as in PyTorch; "normal" for N(0, 0.01^2) and
            "he" for N(0, 2/in), of a layer that is not hidden N(0, 1/in), with a bias of 0.
        hidden: whether it is followed by another layer.
    """

    def __init__(
        self, backend: Backend, inputs: int, outputs: int, activation: str = "identity", precision: str = "fp32", *,
        rng: np.random.Generator, init: str = "uniform", hidden: bool = True,
    ) -> None:  # fmt: skip
        activation_code(activation)
        check_precision(precision, backend)
        self.activation, self.precision = activation, precision
        size = INITS[choice("init", init, list(INITS))](inputs, hidden)
        shapes: list[tuple[int, ...]] = [(outputs, inputs), (outputs,)]
        draws: list[Callable[[], np.ndarray]] = [partial(initial, rng, init, size, shape) for shape in shapes]
        if init != "uniform":
            draws[1] = partial(_zeros, shapes[1])
        self.weight, self.bias = (
            Parameter(backend.generated(shape, draw, kind))
            for shape, draw, kind in zip(shapes, draws, ("weight", "real"), strict=True)
        )

    def __call__(self, x: Tensor, activation: str | None = None) -> Tensor:
        """`activation` replaces that of the layer, for once."""
        return linear(x, self.weight, self.bias, activation or self.activation, LEAKY_SLOPE, self.precision)

    def __repr__(self) -> str:
        outputs, inputs = self.weight.shape
        return f"Linear({inputs}-{outputs}, {self.activation})"


class MLP(Module):
    """Fully connected layers: `sizes` are the features from input to output, layers are numbered from 0.

    Args:
        backend: where it lives.
        sizes: at least two positive integers.
        hidden: activation of all layers but the last.
        output: activation of the last layer.
        precision: of the matrix products of all layers.
        rng: draws the initial values.
        init: "uniform", "normal" or "he", see `Linear`.
        batch_norm: "none"; "hidden", between the products of hidden layers and their activation; "all", in the last
            layer too.
        noise: standard deviation of what is added to the input while it trains, >= 0.
        dropout: probability with which a number of the input is 0 while it trains, in [0, 1); after the noise.
        last: whether the last layer is the end of a network, and not followed by another one.
    """

    def __init__(
        self, backend: Backend, sizes: Sequence[int], hidden: str = "relu", output: str = "identity",
        precision: str = "fp32", *, rng: np.random.Generator, init: str = "uniform", batch_norm: str = "none",
        noise: float = 0.0, dropout: float = 0.0, last: bool = True,
    ) -> None:  # fmt: skip
        if len(sizes) < 2:
            raise ValueError(f"sizes: expected at least input and output features, got {tuple(sizes)}")
        choice("batch_norm", batch_norm, NORMS)
        self.noise, self.dropout = number("noise", noise, 0.0), number("dropout", dropout, 0.0, 1.0)
        layers = len(sizes) - 1
        normed = {"none": 0, "hidden": layers - last, "all": layers}[batch_norm]
        self.sizes, self.activations = tuple(sizes), (*[hidden] * (layers - 1), output)
        self.layers = [
            Linear(
                backend, sizes[i], sizes[i + 1], "identity" if i < normed else self.activations[i], precision, rng=rng,
                init=init, hidden=i < layers - last,
            )
            for i in range(layers)
        ]  # fmt: skip
        self.norms = [BatchNorm(backend, size) for size in sizes[1 : 1 + normed]]  # of the first layers

    def __call__(self, x: Tensor, output: str | None = None, rng: Generator | None = None) -> Tensor:
        """`output` replaces the activation of the last layer, for once; whoever trains gives random numbers `rng`."""
        x = x if rng is None else self.corrupted(x, rng)
        for i in range(len(self.layers)):
            x = self.layer(i, x, output if i == len(self.layers) - 1 else None, rng)
        return x

    def corrupted(self, x: Tensor, rng: Generator) -> Tensor:
        """x with the noise and the dropout that the network takes while it trains."""
        x = noisy(x, rng, self.noise) if self.noise else x
        return dropout(x, rng, self.dropout) if self.dropout else x

    def layer(self, i: int, x: Tensor, output: str | None = None, rng: Generator | None = None) -> Tensor:
        """What layer `i` makes of its input, batch norm included."""
        if i >= len(self.norms):
            return self.layers[i](x, output)
        return self.norms[i](self.layers[i](x), output or self.activations[i], rng)

    @property
    def offset(self) -> Parameter:
        """What the last layer adds before its activation, (out,)."""
        return self.norms[-1].shift if len(self.norms) == len(self.layers) else self.layers[-1].bias

    def copied(self) -> Self:
        """A network with memory of its own, and the same values for now."""
        twin = copy.copy(self)
        twin.layers, twin.norms = [copy.copy(layer) for layer in self.layers], [copy.copy(n) for n in self.norms]
        for part in (*twin.layers, *twin.norms):
            for name, value in vars(part).items():
                if isinstance(value, Parameter):
                    setattr(part, name, Parameter(value.backend.clone(value.buffer)))
        for norm in twin.norms:
            norm.moments = norm.gamma.backend.clone(norm.moments)
        return twin

    def follow(self, other: Self, rate: Tensor) -> None:
        """As of `Module`; what layers with batch norm keep is taken as it is."""
        super().follow(other, rate)
        for own, norm in zip(self.norms, other.norms, strict=True):
            norm.gamma.backend.launch("copy", (norm.moments, own.moments), (own.moments.size, 0))

    def keep_moments(self) -> None:
        """Lets layers with batch norm keep what they saw in this step."""
        for norm in self.norms:
            norm.keep()

    def set_moments(self, inputs: list[Tensor]) -> list[Tensor]:
        """Sets the kept moments to those of given rows, layer by layer; gives what the network makes of the rows."""
        for i, layer in enumerate(self.layers):
            made = [layer(x).detach() for x in inputs]
            if i < len(self.norms):
                self.norms[i].set_moments(made)
                made = [self.norms[i](x, self.activations[i]).detach() for x in made]
            inputs = made
        return inputs

    def __repr__(self) -> str:
        activations = dict.fromkeys((self.activations[0], self.activations[-1]))
        normed = f", batch norm in {len(self.norms)} layers" if self.norms else ""
        return f"MLP({'-'.join(map(str, self.sizes))}, {' then '.join(activations)}{normed})"

    def _parts(self, prefix: str) -> Iterator[tuple[str, Linear | BatchNorm]]:
        for i, layer in enumerate(self.layers):
            yield f"{prefix}{i}.", layer
            if i < len(self.norms):
                yield f"{prefix}{i}.norm.", self.norms[i]

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        """{"<prefix>0.weight": ..., "<prefix>0.bias": ..., "<prefix>0.norm.gamma": ..., "<prefix>0.norm.shift": ...}"""
        return {
            f"{place}{name}": value
            for place, part in self._parts(prefix)
            for name, value in vars(part).items()
            if isinstance(value, Parameter)
        }

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        """{"<prefix>0.norm.moments": (2, features)} of layers with batch norm."""
        return {f"{prefix}{i}.norm.moments": Tensor(norm.moments) for i, norm in enumerate(self.norms)}

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        """ValueError for variances below 0."""
        for name, moments in values.items():
            if moments[1].min() < 0:
                raise ValueError(f"{name}: expected variances >= 0, got {moments[1].min():g}")
