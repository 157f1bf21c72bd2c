"""What a network is: parameters under names."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..functions.tensor import Parameter, Tensor


class Module(ABC):
    """A network. A model finds those among its attributes."""

    @abstractmethod
    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        """All parameters by name, in a fixed order; every name begins with `prefix`."""

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        """What it knows of the data, by name, and no step moves; every name begins with `prefix`."""
        return {}

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of their names."""
        return list(self.named_parameters().values())
