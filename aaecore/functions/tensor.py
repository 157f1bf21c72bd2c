"""Tensors and reverse-mode differentiation: forward and backward are launches, so a step can be recorded as it runs.

One convention keeps activations cheap: the gradient held for a tensor that came out of an activation is the gradient
BEFORE that activation. Whoever produces it multiplies by the derivative, which a kernel can do while it writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

import numpy as np

from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.ops import IDENTITY, op_of


class Tensor:
    """An array on a backend, and the function that made it, if its gradient may be wanted.

    ``Tensor(backend.from_host(array))`` makes one of a NumPy array, where `backend` is `model.backend` of a model, or
    ``aaecore.get_backend("cpu")``; `numpy()` is the way back.
    """

    counted = True  # whether a loss is part of the value of its phase, or only of its gradients

    def __init__(
        self, buffer: Buffer, maker: Function | None = None, activation: int = IDENTITY, slope: float = 0.0
    ) -> None:
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer: expected a Buffer, got {_named(buffer)}; backend.from_host(array) makes one")
        self.buffer = buffer
        self.maker = maker
        self.activation = activation  # the code of the activation whose output this is
        self.slope = slope
        self.requires_grad = maker is not None
        self.grad: Buffer | None = None

    @property
    def backend(self) -> Backend:
        return cast(Backend, self.buffer.backend)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.buffer.shape

    def detach(self) -> Tensor:
        """The same memory, without the history."""
        return Tensor(self.buffer)

    def numpy(self) -> np.ndarray:
        """A host copy; not while recording."""
        return self.backend.to_host(self.buffer)

    def __float__(self) -> float:
        return float(self.numpy().reshape(()))

    def backward(
        self, optimizer: Mover | None = None, *, parameters: Iterable[Parameter] | None = None, accumulate: bool = False
    ) -> None:
        """`backward([self], ...)`."""
        backward([self], optimizer, parameters=parameters, accumulate=accumulate)


def _named(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def check_tensors(**given: object) -> None:
    """Raises TypeError, under the name of the argument, if one of them is no Tensor."""
    for name, value in given.items():
        if not isinstance(value, Tensor):
            how = "Tensor(backend.from_host(array)) makes one, where backend is the model's"
            raise TypeError(f"{name}: expected a Tensor, got {_named(value)}; {how}")


class Parameter(Tensor):
    """A tensor that an optimizer may change. `grad`, once there, has the same layout as the value."""

    def __init__(self, buffer: Buffer) -> None:
        super().__init__(buffer)
        self.requires_grad = True

    def gradient(self) -> Buffer:
        """The gradient's buffer, made at first use."""
        if self.grad is None:
            self.grad = self.backend.empty(self.shape, self.buffer.kind)
            self.backend.clear(self.grad)  # the padding of a weight must be zero; the rest is written before it is read
        return self.grad


class Mover(Protocol):
    """What a backward pass asks of an optimizer: those of `aaecore.optim` are some."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What it moves."""
        ...

    def fused_linear(self, weight: Parameter, bias: Parameter, x: Buffer, dy: Buffer, precision: str) -> bool:
        """Updates a linear layer while its gradient is made; False if it cannot."""
        ...

    def update(self, parameters: Iterable[Parameter]) -> None:
        """Moves the given parameters by their stored gradients."""


class Function(ABC):
    """A node of the graph: `forward` launches and returns the output, `backward` passes its gradient on.

    It does not refer to its output: no reference cycle, so a graph and its memory go when its last tensor goes.
    """

    seed: Buffer | None = None  # a loss: the gradient of its input, made in the forward pass; backward starts from it

    def __init__(self, *inputs: Tensor) -> None:
        for tensor in inputs:
            check_tensors(inputs=tensor)
        self.inputs = inputs
        self.walked = False

    @abstractmethod
    def forward(self) -> Tensor:
        """Launches the forward pass."""

    @abstractmethod
    def backward(self, gradient: Buffer, gradients: Gradients) -> None:
        """Given the gradient of the output (before its activation), contributes to those of the inputs."""

    def result(self, buffer: Buffer, activation: int = IDENTITY, slope: float = 0.0) -> Tensor:
        """The output tensor; it remembers its maker only if some input needs a gradient."""
        maker = self if any(t.requires_grad for t in self.inputs) else None
        return Tensor(buffer, maker, activation, slope)


def _key(tensor: Tensor) -> int:
    """What a gradient is filed under: the function that made the tensor, or the leaf itself."""
    return id(tensor if tensor.maker is None else tensor.maker)


class Gradients:
    """The gradients of one backward pass: who needs one, where it is, and whether the next contribution adds to it."""

    def __init__(self, order: Sequence[Function], optimizer: Mover | None, wanted: set[int], accumulate: bool) -> None:
        self.optimizer = optimizer
        self.wanted = wanted  # keys of what gets a gradient: the leaves asked for and all that lead to them
        self.accumulate = accumulate
        self._buffers = {id(f): f.seed for f in order if f.seed is not None}
        self._stored: dict[int, Parameter] = {}
        self._uses: dict[int, int] = {}
        for function in order:
            for tensor in function.inputs:
                self._uses[_key(tensor)] = self._uses.get(_key(tensor), 0) + 1

    def needs(self, tensor: Tensor) -> bool:
        """Whether a gradient of `tensor` is wanted in this pass."""
        return _key(tensor) in self.wanted

    def of(self, key: int) -> Buffer:
        """The gradient filed under `key`, before the activation."""
        return self._buffers[key]

    def give(self, tensor: Tensor, gradient: Buffer, *, before_activation: bool) -> None:
        """Hands over a finished gradient, whose memory may be written from now on."""
        if not self.needs(tensor):
            return
        if _key(tensor) not in self._buffers and (before_activation or tensor.activation == IDENTITY):
            self._buffers[_key(tensor)] = gradient
            return

        def add(target: Buffer, beta: int) -> None:
            tensor.backend.launch("copy", (gradient, target), (gradient.size, beta))

        self.contribute(tensor, add, before_activation=before_activation)

    def contribute(self, tensor: Tensor, launch: Callable[[Buffer, int], None], *, before_activation: bool) -> None:
        """Calls `launch(target, beta)` to write (beta 0) or add (beta 1) a contribution to the gradient of `tensor`.

        `before_activation` says that the launch applies the derivative of the tensor's activation itself.
        """
        if not self.needs(tensor):
            return
        backend = tensor.backend
        target, beta = self._target(tensor)
        if before_activation or tensor.activation == IDENTITY:
            launch(target, beta)
            return
        after = backend.empty(tensor.shape)
        launch(after, 0)
        dims = (after.size, tensor.activation, beta)
        backend.launch("activation_backward", (after, tensor.buffer, target), dims, (tensor.slope,))

    def _target(self, tensor: Tensor) -> tuple[Buffer, int]:
        known = self._buffers.get(_key(tensor))
        if known is not None:
            return known, 1
        self._buffers[_key(tensor)] = buffer = tensor.backend.empty(tensor.shape)
        return buffer, 0

    def linear_weight(self, weight: Parameter, bias: Parameter, x: Buffer, dy: Buffer, precision: str) -> None:
        """The gradient of a linear layer: fused with the update where the optimizer can and the layer is used once.

        `precision` is that of the layer.
        """
        wanted = [p for p in (weight, bias) if self.needs(p)]
        once = all(self._uses[id(p)] == 1 for p in wanted)
        fusible = len(wanted) == 2 and once and not self.accumulate
        if fusible and self.optimizer is not None and self.optimizer.fused_linear(weight, bias, x, dy, precision):
            return
        launch, op = weight.backend.launch, op_of("linear_backward_weight", precision)
        dims = (x.shape[0], weight.shape[1], weight.shape[0])
        betas = {int(self.accumulate or id(p) in self._stored) for p in wanted}
        if len(wanted) == 2 and len(betas) == 1:
            launch(op, (x, dy, weight.gradient(), bias.gradient()), (*dims, betas.pop()))
        elif wanted:  # half of a layer, or a bias that another layer used before: by way of a copy
            made = {p: weight.backend.empty(p.shape, p.buffer.kind) for p in (weight, bias)}
            launch(op, (x, dy, *made.values()), (*dims, 0))
            for p in wanted:
                flat, beta = made[p].flat(), int(self.accumulate or id(p) in self._stored)
                launch("copy", (flat, p.gradient().flat()), (flat.size, beta))
        self._stored |= {id(p): p for p in wanted}

    def finish(self, leaves: Iterable[Tensor]) -> None:
        """Leaves the gradients of the leaves in `grad`, and updates those that were not updated on the way."""
        for leaf in leaves:
            gradient = self._buffers.get(id(leaf))  # None for the weights of linear layers, which are stored already
            if gradient is None:
                continue
            if self.accumulate and leaf.grad is not None:
                leaf.backend.launch("copy", (gradient, leaf.grad), (gradient.size, 1))
            else:
                leaf.grad = gradient
            if isinstance(leaf, Parameter):
                self._stored[id(leaf)] = leaf
        if self.optimizer is not None:
            self.optimizer.update(self._stored.values())


def _topological(losses: Sequence[Tensor]) -> list[Function]:
    """Every function that the losses depend on, inputs first."""
    done: list[Function] = []
    seen: set[int] = set()
    stack: list[tuple[Function, bool]] = [(t.maker, False) for t in losses if t.maker is not None]
    while stack:  # an explicit stack: a deep network must not meet Python's recursion limit
        function, inputs_done = stack.pop()
        if inputs_done:
            done.append(function)
        elif id(function) not in seen:
            seen.add(id(function))
            stack.append((function, True))
            stack.extend((t.maker, False) for t in function.inputs if t.maker is not None)
    return done


def backward(
    losses: Sequence[Tensor], optimizer: Mover | None = None, *, parameters: Iterable[Parameter] | None = None,
    accumulate: bool = False,
) -> None:  # fmt: skip
    """Gradients of the sum of `losses`.

    With an `optimizer`, exactly its parameters are updated, each where its gradient is made if the optimizer can do
    that; others stay as they are and get no gradient. Without one, the gradients of `parameters` (default: every leaf
    that requires one) are left in `grad`: overwritten, or added to what is there if `accumulate`. Both ways give the
    same weights, bit for bit. A graph can be walked once.

    Raises:
        ValueError: not losses, or without history. RuntimeError: a graph that was walked before.
    """
    for loss in losses:
        check_tensors(losses=loss)
    if not losses or any(t.maker is None or t.maker.seed is None for t in losses):
        raise ValueError("losses: expected at least one loss, each depending on something that requires a gradient")
    functions = _topological(losses)
    leaves = {id(t): t for f in functions for t in f.inputs if t.maker is None and t.requires_grad}
    chosen = optimizer.parameters if optimizer is not None else parameters
    wanted = set(leaves) if chosen is None else {id(p) for p in chosen} & set(leaves)
    for function in functions:
        if any(_key(t) in wanted for t in function.inputs):
            wanted.add(id(function))
    order = [f for f in reversed(functions) if id(f) in wanted]
    if any(f.walked for f in order):
        raise RuntimeError("backward: this graph was walked before; its gradients are gone, run the forward pass again")
    gradients = Gradients(order, optimizer, wanted, accumulate)
    for function in order:
        function.walked = True
        function.backward(gradients.of(id(function)), gradients)
    gradients.finish(leaves.values())
