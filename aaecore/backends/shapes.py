"""A backend without memory, whose buffers have shapes and kinds only: what a checkpoint must hold is read off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.backend import Backend
from ..core.memory import Buffer
from ..core.plan import Call


class ShapesBackend(Backend):
    """Launches do nothing, and what is read is zero, so a model of any size can be made and asked for its buffers."""

    name = "shapes"

    def __init__(self, real: str) -> None:
        super().__init__()
        self.real = np.dtype(real)

    def empty(self, shape: tuple[int, ...], kind: str = "real") -> Buffer:
        return Buffer(self, tuple(shape), kind, np.empty(0, self._dtype(kind)))

    def dtype(self, buffer: Buffer) -> str:
        """The name of the dtype that the buffer would have."""
        return self._dtype(buffer.kind).name

    def generated(self, shape: tuple[int, ...], make: Callable[[], np.ndarray], kind: str = "real") -> Buffer:
        return self.empty(shape, kind)

    def _clear(self, buffer: Buffer) -> None:
        pass

    def _pack(self, array: np.ndarray, buffer: Buffer) -> None:
        pass

    def _unpack(self, buffer: Buffer) -> np.ndarray:
        return np.broadcast_to(np.zeros((), self._dtype(buffer.kind)), buffer.shape).copy()

    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        pass

    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]:
        return lambda times: None
