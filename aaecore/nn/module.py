"""What a network is: parameters under names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from ..functions.tensor import Parameter, Tensor


class Module(ABC):
    """A network. A model finds those among its attributes.

    Attributes:
        optional: whether a state without its statistics has a meaning, which `Model.forget` gives it.
    """

    optional: ClassVar[bool] = False

    @abstractmethod
    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        """All parameters by name, in a fixed order; every name begins with `prefix`."""

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        """What it knows of the data, by name, and no step moves; every name begins with `prefix`."""
        return {}

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:  # noqa: B027 (a hook)
        """Raises ValueError for statistics, by names that begin with `prefix`, that it cannot have."""

    def follow(self, other: Self, rate: Tensor) -> None:
        """Moves every parameter towards that of an equal network: by rate (1,) times what lies between them."""
        for own, p in zip(self.parameters, other.parameters, strict=True):
            x, average = p.buffer.flat(), own.buffer.flat()
            p.backend.launch("average", (x, rate.buffer, average), (x.size,))

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of their names."""
        return list(self.named_parameters().values())
