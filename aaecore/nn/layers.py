"""Layers: fully connected networks on the kernels of this library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from ..core.backend import Backend
from ..functions.linear import LEAKY_SLOPE, activation_code, check_precision, linear
from ..functions.tensor import Parameter, Tensor
from .module import Module


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-bound, bound, shape)


class Linear:
    """y = act(x W^T + b) with weight (out, in) and bias (out,), both U(-1/sqrt(in), 1/sqrt(in)) as in PyTorch.

    Args:
        backend: where it lives.
        inputs: features of x.
        outputs: features of y.
        activation: identity, relu, leaky_relu (slope 0.01), sigmoid or tanh.
        precision: of the matrix products, see `functions.linear`; the weights are float32 in any case.
        rng: draws the initial values, in float64, so that they are the same on every backend.
    """

    def __init__(
        self, backend: Backend, inputs: int, outputs: int, activation: str = "identity", precision: str = "fp32", *,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        activation_code(activation)
        check_precision(precision, backend)
        self.activation, self.precision = activation, precision
        bound = 1.0 / math.sqrt(inputs)
        self.weight, self.bias = (
            Parameter(backend.generated(shape, partial(_uniform, rng, bound, shape), kind))
            for shape, kind in (((outputs, inputs), "weight"), ((outputs,), "real"))
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
    """

    def __init__(
        self, backend: Backend, sizes: Sequence[int], hidden: str = "relu", output: str = "identity",
        precision: str = "fp32", *, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        if len(sizes) < 2:
            raise ValueError(f"sizes: expected at least input and output features, got {tuple(sizes)}")
        activations = [hidden] * (len(sizes) - 2) + [output]
        pairs = zip(sizes[:-1], sizes[1:], activations, strict=True)
        self.layers = [Linear(backend, i, o, a, precision, rng=rng) for i, o, a in pairs]
        self.sizes = tuple(sizes)

    def __call__(self, x: Tensor, output: str | None = None) -> Tensor:
        """`output` replaces the activation of the last layer, for once."""
        for layer in self.layers[:-1]:
            x = layer(x)
        return self.layers[-1](x, output)

    def __repr__(self) -> str:
        activations = dict.fromkeys(layer.activation for layer in (self.layers[0], self.layers[-1]))
        return f"MLP({'-'.join(map(str, self.sizes))}, {' then '.join(activations)})"

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        """{"<prefix>0.weight": ..., "<prefix>0.bias": ...}."""
        return {
            f"{prefix}{i}.{name}": getattr(layer, name)
            for i, layer in enumerate(self.layers)
            for name in ("weight", "bias")
        }
