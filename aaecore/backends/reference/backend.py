"""The functions of all ops in float64: what the device backends are tested against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from ...core.backend import Backend
from ...core.memory import Buffer
from ...core.ops import OPS
from ...core.plan import Call
from . import classes, distances, energies, gaussian, linear, losses, moving, normalise, optimizers, random

_FAMILIES = (linear, losses, distances, energies, gaussian, classes, normalise, moving, optimizers, random)
_FORMULAS = {name: value for module in _FAMILIES for name, value in vars(module).items()}
FUNCTIONS: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {op.name: linear.in_precision(op.precision, _FORMULAS[op.family]) for op in OPS.values()}
)


class ReferenceBackend(Backend):
    """These functions in float64: what the device backends are tested against."""

    name = "reference"
    real = np.dtype(np.float64)

    def _run(self, name: str, buffers: Sequence[Buffer], dims: Sequence[int], scalars: Sequence[float]) -> None:
        op = OPS[name]
        named = dict(zip(op.dims, dims, strict=True))
        arrays = [
            buffer.storage.reshape([named[d] if isinstance(d, str) else d for d in arg.shape])
            for arg, buffer in zip(op.args, buffers, strict=True)
        ]
        FUNCTIONS[name](*arrays, *dims, *scalars)

    def _compile(self, calls: Sequence[Call]) -> Callable[[int], None]:
        def run(times: int) -> None:
            for _ in range(times):
                for call in calls:
                    self._run(call.name, call.buffers, call.dims, call.scalars)

        return run
