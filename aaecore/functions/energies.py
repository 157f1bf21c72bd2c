"""Terms of the energies of Boltzmann machines, as losses, and what their Gibbs chains are made of.

A chain learns nothing: its functions give tensors without history.
"""

from __future__ import annotations

from ..core.memory import Buffer
from ..core.ops import op_of
from ..core.random import Generator
from .linear import LEAKY_SLOPE, activation_code, check_precision
from .losses import Loss
from .tensor import Parameter, Tensor, check_tensors


def zeros_like(x: Tensor) -> Buffer:
    """Zeros in the shape of x: a launch, which a recorded step repeats."""
    zeros = x.backend.empty(x.shape)
    x.backend.launch("fill", (zeros,), (zeros.size,), (0.0,))
    return zeros


def softplus_sum(logits: Tensor, weight: float = 1.0) -> Tensor:
    """weight times the sum over features of log(1 + exp(logits)), a mean over the batch; logits (B, N).

    It is the Bernoulli cross-entropy against a target of 0.

    Raises:
        ValueError: another number of dimensions. TypeError: no Tensor.
    """
    check_tensors(logits=logits)
    if len(logits.shape) != 2:
        raise ValueError(f"logits: expected shape (batch, features), got {logits.shape}")
    return Loss("bce_logits", logits, (zeros_like(logits),), logits.shape, (weight,)).forward()


def bias_product(bias: Tensor, v: Tensor, weight: float = 1.0) -> Tensor:
    """weight times bias . v, a mean over the rows of v (B, N); bias (N,). Only the bias gets a gradient.

    Raises:
        ValueError: sizes that do not fit. TypeError: no Tensor.
    """
    check_tensors(bias=bias, v=v)
    if len(v.shape) != 2 or bias.shape != v.shape[1:]:
        raise ValueError(f"v: expected shape (batch, {bias.shape[0]}), got {v.shape}")
    return Loss("bias_product", bias, (v.buffer,), v.shape, (weight,)).forward()


def inner_product(x: Tensor, v: Tensor, weight: float = 1.0) -> Tensor:
    """weight times x . v, row by row, a mean over the batch; both (B, N). Only x gets a gradient.

    Raises:
        ValueError: sizes that differ. TypeError: no Tensor.
    """
    check_tensors(x=x, v=v)
    if len(x.shape) != 2 or x.shape != v.shape:
        raise ValueError(f"v: expected the shape of x {x.shape}, got {v.shape}")
    return Loss("inner_product", x, (v.buffer,), x.shape, (weight,)).forward()


def add_bias(x: Tensor, bias: Tensor, activation: str = "identity") -> Tensor:
    """act(x + bias), x (B, N), bias (N,), without history.

    Raises:
        ValueError: sizes that do not fit, or an unknown activation. TypeError: no Tensor.
    """
    check_tensors(x=x, bias=bias)
    if len(x.shape) != 2 or bias.shape != x.shape[1:]:
        raise ValueError(f"bias: expected shape {x.shape[1:]}, got {bias.shape}")
    y = x.backend.empty(x.shape)
    x.backend.launch("add_bias", (x.buffer, bias.buffer, y), (*x.shape, activation_code(activation)), (LEAKY_SLOPE,))
    return Tensor(y)


def transposed_product(y: Tensor, weight: Parameter, precision: str = "fp32", onto: Tensor | None = None) -> Tensor:
    """y W, y (B, O), weight (O, I), result (B, I), without history: the way down through a linear layer.

    With `onto` (B, I) the product is added to that tensor, in place, which is then the result.

    Raises:
        ValueError: sizes that do not fit, or an unknown precision. TypeError: no Tensor.
    """
    check_tensors(y=y, weight=weight)
    outputs, inputs = weight.shape
    if len(y.shape) != 2 or y.shape[1] != outputs:
        raise ValueError(f"y: expected shape (batch, {outputs}), got {y.shape}")
    check_precision(precision, y.backend)
    out = y.backend.empty((y.shape[0], inputs)) if onto is None else onto.buffer
    if out.shape != (y.shape[0], inputs):
        raise ValueError(f"onto: expected shape {(y.shape[0], inputs)}, got {out.shape}")
    # The kernel reads the layer's input for the derivative of an activation; here there is none, and nothing is read.
    dims = (y.shape[0], inputs, outputs, activation_code("identity"), int(onto is not None))
    op = op_of("linear_backward_input", precision)
    y.backend.launch(op, (y.buffer, weight.buffer, out, out), dims, (LEAKY_SLOPE,))
    return Tensor(out)


def bernoulli(p: Tensor, generator: Generator) -> Tensor:
    """1 with probability p, else 0, number by number, without history; new draws at every step.

    Raises:
        TypeError: no Tensor.
    """
    check_tensors(p=p)
    out = p.backend.empty(p.shape)
    p.backend.launch("random_bernoulli", (generator.state, p.buffer, out), (out.size, generator.stream()))
    return Tensor(out)
