"""What the losses of one training step see: rows of the data, draws of the priors, dials, random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.memory import Buffer
from ..core.random import Generator
from ..functions.tensor import Tensor
from ..priors import Draws


def sample_of(prior: str) -> str:
    """The name of a prior's sample among the inputs of a step: no column and no stream has it."""
    return f"draw({prior})"


class Batch:
    """`batch.x` is a column of the stream of all rows, `batch.labelled.x` one of the stream "labelled".

    Args:
        inputs: by name, "x" and "labelled.x"; under `sample_of` a prior a sample that was given instead of a draw.
        draws: of the priors by name.
        dials: the scalars of this step by name, each (1,).
        rng: the random numbers of the step.
    """

    def __init__(
        self, inputs: Mapping[str, Buffer], draws: Draws, dials: Mapping[str, Buffer], rng: Generator
    ) -> None:  # fmt: skip
        self.rng = rng
        self._inputs, self._draws, self._dials = inputs, draws, dials

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs:
            return Tensor(self._inputs[name])
        inside = {k.removeprefix(f"{name}."): b for k, b in self._inputs.items() if k.startswith(f"{name}.")}
        if not inside:
            raise AttributeError(f"batch: expected one of {', '.join(self._inputs)}, got {name!r}")
        return Batch(inside, self._draws, self._dials, self.rng)

    def __len__(self) -> int:
        return next(iter(self._inputs.values())).shape[0]

    def draw(self, prior: str, like: Tensor | None = None) -> Tensor:
        """As many samples of one of the model's priors as the batch has rows: new ones every time, unless given.

        With labels `like`, a column of the batch (B, K), the sample of a row lies in the part of the prior that its
        class has; see `Prior.bind_like`.
        """
        if prior not in self._draws:
            raise ValueError(f"draw: expected {' or '.join(self._draws) or 'no prior'}, got {prior!r}")
        if like is not None and (len(like.shape) != 2 or like.shape[0] != len(self)):
            raise ValueError(f"draw: like: expected labels of {len(self)} rows, got shape {like.shape}")
        given = self._inputs.get(sample_of(prior))
        if given is not None:
            return Tensor(given)
        if like is None:
            return Tensor(self._draws[prior](self.rng, len(self)))
        return Tensor(self._draws.like(prior)(self.rng, like.buffer))

    def dial(self, name: str) -> Tensor:
        """A scalar of this step, (1,), one of the model's `dials`."""
        if name not in self._dials:
            raise ValueError(f"dial: expected {' or '.join(self._dials) or 'no dial'}, got {name!r}")
        return Tensor(self._dials[name])
