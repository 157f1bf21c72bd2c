"""Linear layers with their activation, in the precisions of the op table."""

from __future__ import annotations

from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.ops import ACTIVATIONS, op_of
from .tensor import Function, Gradients, Parameter, Tensor, check_tensors

LEAKY_SLOPE = 0.01  # PyTorch's default


def activation_code(name: str) -> int:
    """The kernel's code of an activation.

    Raises:
        ValueError: not one of identity, relu, leaky_relu, sigmoid, tanh.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def check_precision(name: str, backend: Backend) -> str:
    """The name of a precision of linear layers, if the backend has it.

    Raises:
        ValueError: not one of fp32, tf32, bf16, or not one that the backend has.
    """
    if not isinstance(name, str) or name not in backend.precisions:
        expected = ", ".join(backend.precisions)
        raise ValueError(f"precision: expected one of {expected} on device {backend.name!r}, got {name!r}")
    return name


class _Linear(Function):
    def __init__(self, x: Tensor, weight: Parameter, bias: Parameter, act: int, slope: float, precision: str) -> None:
        super().__init__(x, weight, bias)
        self.x, self.weight, self.bias = x, weight, bias
        self.act, self.slope, self.precision = act, slope, precision
        self.dims = (x.shape[0], weight.shape[1], weight.shape[0])

    def forward(self) -> Tensor:
        x, y = self.x, self.x.backend.empty((self.dims[0], self.dims[2]))
        buffers = (x.buffer, self.weight.buffer, self.bias.buffer, y)
        x.backend.launch(op_of("linear_forward", self.precision), buffers, (*self.dims, self.act), (self.slope,))
        return self.result(y, self.act, self.slope)

    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        x = self.x

        def input_gradient(dx: Buffer, beta: int) -> None:
            buffers = (gradient, self.weight.buffer, x.buffer, dx)
            dims = (*self.dims, x.activation, beta)
            x.backend.launch(op_of("linear_backward_input", self.precision), buffers, dims, (x.slope,))

        # The input gradient first: it needs the weights as they were in the forward pass.
        gradients.contribute(x, input_gradient, before_activation=True)
        gradients.linear_weight(self.weight, self.bias, x.buffer, gradient, self.precision)


def linear(
    x: Tensor, weight: Parameter, bias: Parameter, activation: str = "identity", slope: float = LEAKY_SLOPE,
    precision: str = "fp32",
) -> Tensor:  # fmt: skip
    """act(x W^T + b): x (B, I), weight (O, I), bias (O,), result (B, O).

    With precision "bf16" the factors of all matrix products, here and in the gradients, are rounded to bfloat16, with
    "tf32" (on a GPU) to 11 significant bits; sums, and everything that is stored, keep the backend's type.

    Raises:
        ValueError: shapes that do not fit, or an unknown activation or precision. TypeError: no Tensor.
    """
    check_tensors(x=x, weight=weight, bias=bias)
    if len(x.shape) != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x: expected shape (batch, {weight.shape[1]}), got {x.shape}")
    check_precision(precision, x.backend)
    return _Linear(x, weight, bias, activation_code(activation), slope, precision).forward()
