"""Steps whose calls one CUDA kernel makes: of each pattern of `aaecore.backends.cuda.fusion`, in any sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer
from aaecore.core.ops import RELU

SLOPE, WEIGHT = 0.2, 0.7
Made = tuple[str, Sequence[Buffer], tuple[int, ...], tuple[float, ...]]  # what `launch` takes


@dataclass(frozen=True)
class Sizes:
    """Rows of the batch, and the features of the first layer's wide side, between, and of the second's wide side."""

    batch: int
    wide: int
    few: int
    wide2: int
    act: int = RELU
    beta: int = 0  # where the pattern has one
    logits: int = 1  # of a row


class Step:
    """The launches of a pattern on buffers of a backend, and the buffers that they write."""

    def __init__(self, backend: Backend, pattern: str, suffix: str, sizes: Sizes) -> None:
        self.backend, self.suffix, self.sizes = backend, suffix, sizes
        self._rng = np.random.default_rng(0)
        self.outputs: list[Buffer] = []
        make: Callable[[], list[Made]] = getattr(self, f"_{pattern}")
        self.calls = make()

    def __call__(self) -> None:
        for call in self.calls:
            self.backend.launch(*call)

    def clear(self) -> None:
        """Sets all that is written to what it was at first: 1, to which `beta` adds."""
        for buffer in self.outputs:
            self.backend.upload(buffer, np.ones(buffer.shape, np.float32))

    def results(self) -> list[np.ndarray]:
        return [self.backend.to_host(buffer) for buffer in self.outputs]

    def given(self, *shape: int, kind: str = "real") -> Buffer:
        return self.backend.from_host(self._rng.standard_normal(shape).astype(np.float32), kind)

    def made(self, *shape: int) -> Buffer:
        self.outputs.append(self.backend.from_host(np.ones(shape, np.float32)))
        return self.outputs[-1]

    def forward(self, x: Buffer, outputs: int, act: int) -> tuple[Made, Buffer]:
        """A layer, and its weight."""
        batch, inputs = x.shape
        weight = self.given(outputs, inputs, kind="weight")
        buffers = (x, weight, self.given(outputs), self.made(batch, outputs))
        return ("linear_forward" + self.suffix, buffers, (batch, inputs, outputs, act), (SLOPE,)), weight

    def backward(self, dy: Buffer, inputs: int, beta: int, weight: Buffer | None = None) -> Made:
        batch, outputs = dy.shape
        weight = weight or self.given(outputs, inputs, kind="weight")
        buffers = (dy, weight, self.given(batch, inputs), self.made(batch, inputs))
        dims = (batch, inputs, outputs, self.sizes.act, beta)
        return "linear_backward_input" + self.suffix, buffers, dims, (SLOPE,)

    def _forward_forward(self) -> list[Made]:
        s = self.sizes
        first, _ = self.forward(self.given(s.batch, s.wide), s.few, s.act)
        return [first, self.forward(first[1][3], s.wide2, s.act)[0]]

    def _forward_copy(self) -> list[Made]:
        s = self.sizes
        first, _ = self.forward(self.given(s.batch, s.wide), s.few, s.act)
        both = self.made(2 * s.batch, s.few)
        rows = both.rows(s.batch, 2 * s.batch)
        return [first, ("copy", (first[1][3], rows), (rows.size, 0), ())]

    def _backward_backward(self) -> list[Made]:
        s = self.sizes
        first = self.backward(self.given(s.batch, s.wide), s.few, s.beta)
        return [first, self.backward(first[1][3], s.wide2, s.beta)]

    def _forward_loss_backward(self) -> list[Made]:
        s = self.sizes
        first, weight = self.forward(self.given(s.batch, s.wide), s.logits, 0)
        gradient, value = self.made(s.batch, s.logits), self.made(1)
        dims = (s.batch * s.logits, s.batch // 3)
        loss: Made = ("adversarial_bce", (first[1][3], gradient, value), dims, (WEIGHT,))
        return [first, loss, self.backward(gradient, s.wide, s.beta, weight)]
