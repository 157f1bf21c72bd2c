"""A trained autoencoder inside of another model: its networks go along, and no step moves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..functions.tensor import Parameter, Tensor
from ..nn import Module
from ..options import Kind
from .autoencoder import Autoencoder
from .generative import Generative
from .model import Model, from_description
from .registry import named


class Frozen(Module):
    """The networks of a trained model, to be kept with those of another one."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {f"{prefix}{name}": p for name, p in self.model.parameters.items()}

    def named_statistics(self, prefix: str = "") -> dict[str, Tensor]:
        return {f"{prefix}{name}": t for name, t in self.model.statistics.items()}

    def check(self, prefix: str, values: Mapping[str, np.ndarray]) -> None:
        try:
            self.model.check_statistics({name.removeprefix(prefix): value for name, value in values.items()})
        except ValueError as error:
            raise ValueError(f"{prefix}{error}") from None

    def __repr__(self) -> str:
        return f"{type(self.model).__name__}, frozen"


def _usable(kind: type[Any]) -> bool:
    """Whether its codes are all that the decoder takes, and are what the encoder gives."""
    return (
        issubclass(kind, Autoencoder)
        and kind.encode is Autoencoder.encode
        and kind.decode is Generative.decode
        and not kind.__abstractmethods__
    )


def _check(name: str, value: Any) -> Any:
    """A trained autoencoder, or what `Model.config` says of one."""
    kind = named(str(value.get("type"))) if isinstance(value, Mapping) else type(value)
    if not _usable(kind):
        expected = "a trained Autoencoder whose decoder takes codes alone"
        raise ValueError(f"{name}: expected {expected}, got one of {kind.__name__}")
    units = value.inputs if isinstance(value, Autoencoder) else None
    if units is not None and not units.backend.to_host(units.rows)[0]:
        raise ValueError(f"{name}: expected a trained Autoencoder, got one that has seen no data: train it before")
    return value


AUTOENCODER = Kind("a trained Autoencoder", _check, "RUN_OR_CHECKPOINT", quoted=True)


def kept(autoencoder: Autoencoder | Mapping[str, Any], owner: Model) -> Autoencoder:
    """A copy on the device of another model, with its weights; of a description without, as they come from a file.

    Where that device does not have the autoencoder's precision, it is "fp32".
    """
    if isinstance(autoencoder, Mapping):
        config, prior = autoencoder, None
    else:
        config, prior = autoencoder.config(), autoencoder.prior  # a callable is not in what describes it
    made = from_description(config, prior=prior, device=owner.device, backend=owner.backend)
    assert isinstance(made, Autoencoder)
    made.part_of = type(owner).__name__
    if isinstance(autoencoder, Autoencoder):
        for name, value in autoencoder.state_dict().items():
            made.backend.upload(made.tensors[name].buffer, value)
    return made
