"""Dimensionality reduction: section 7, figures 10 and 11 of Makhzani et al. (2015, arXiv 1511.05644).

The representation of a row is W_C y + z: the head of its cluster, a row of W_C, and a style around it. Heads that come
nearer than a threshold pay for it, in proportion.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Self

import numpy as np

from ..core.backend import Backend
from ..data.arrays import as_matrix
from ..data.rows import as_rows, map_chunks
from ..data.table import Stream
from ..functions import add_heads, head_hinge, pull
from ..functions.tensor import Parameter, Tensor
from ..nn import Module
from ..options import COUNT, COUNTS, SWITCH, again, integer, number, one_of, option
from ..priors import PRIOR, HostSampler, Prior
from .batch import Batch
from .class_style import CLASSIFICATION, DISCRIMINATOR, GENERATOR, RECONSTRUCTION
from .classifier import Classifier
from .model import Losses
from .phase import Phase
from .registry import model

FIXED = 10.0  # heads that are not learned are so many times the unit vectors: the paper's 10-D representation
LABELLED, LEARNED = {"labelled": [True]}, {"fixed_heads": [False]}  # beside which some options count


class Heads(Module):
    """A row for each class: W_C of the paper.

    Args:
        backend: where it lives.
        values: makes the initial heads (classes, dim).
        shape: theirs.
    """

    def __init__(self, backend: Backend, values: Any, shape: tuple[int, int]) -> None:
        self.table = Parameter(backend.generated(shape, values))

    def named_parameters(self, prefix: str = "") -> dict[str, Parameter]:
        return {f"{prefix}table": self.table}

    def copied(self) -> Self:
        """Heads with memory of their own, and the same values for now."""
        twin = copy.copy(self)
        twin.table = Parameter(self.table.backend.clone(self.table.buffer))
        return twin

    def __repr__(self) -> str:
        return f"Heads({self.table.shape[0]} in {self.table.shape[1]}-D)"


@model
class ReductionAAE(Classifier):
    """An adversarial autoencoder whose code is a cluster's head and a style around it.

    Args:
        input_dim: features of x.
        dim: features of the representation W_C y + z, 2 unless it is said; `latent_dim` is another name of it.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        prior: p(z) of the style, N(0, I) by default; narrow beside the distance of heads.
        reconstruction: "bce" or "mse", as of `AAE`.
        classes: how many heads there are: classes of the labels, or without labels clusters; 10 unless it is said.
        labelled: whether it learns from labels; without, classes are found.
        fixed_heads: heads are 10 times the unit vectors, which takes as many features as classes; else learned.
        head_distance: below which two heads that are learned pay, in proportion to what is missing.
        head_weight: of that, by what is left to reconstruct.
        classification_weight: as of `SemiSupervisedAAE`.
        labels, label_prior, joint, generator_weight, warm_up, critic_hidden, critic_noise, label_smoothing: as of
            `SemiSupervisedAAE`.
        standardise, standardise_each, input_noise, input_dropout, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int | None = option(COUNT, "another name of dim", default=None)  # type: ignore[assignment]
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    prior: Prior | HostSampler | None = option(PRIOR, "p(z) of the style", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    classes: int = option(integer(2), "heads: classes of the labels, or clusters", default=None, told=True)
    dim: int = option(COUNT, "features of the representation; 2 unless it is said", default=None)
    labelled: bool = option(SWITCH, "learn from labels too", default=True)
    labels: Sequence[int] | Sequence[str] | None = again(Classifier, "labels", None, beside=LABELLED)
    classification_weight: float = again(Classifier, "classification_weight", 1.0, beside=LABELLED)
    fixed_heads: bool = option(SWITCH, "heads are 10 times the unit vectors, not learned", default=False)
    head_distance: float = option(number(0.0), "below which two learned heads pay for it", default=6.0, beside=LEARNED)
    head_weight: float = option(number(0.0), "of that, by what is left to reconstruct", default=1.0, beside=LEARNED)

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("reconstruction", moves=(*RECONSTRUCTION.moves, "centres")), DISCRIMINATOR, GENERATOR, CLASSIFICATION,
    )  # fmt: skip

    def complete(self) -> None:
        self.classes = 10 if self.classes is None else self.classes
        given = {n for n in (self.dim, self.latent_dim) if n is not None} or {2}
        if len(given) > 1:
            raise ValueError(f"latent_dim: expected dim, {self.dim}, or None, got {self.latent_dim}")
        self.dim = given.pop()
        if self.fixed_heads and self.dim != self.classes:
            expected = f"as many features as classes, {self.classes}, for fixed_heads"
            raise ValueError(f"dim: expected {expected}, got {self.dim}")
        if self.labels is not None and not self.labelled:
            raise ValueError("labels: expected None beside labelled=False, whose clusters are no classes, got some")
        self.latent_dim = self.dim
        own: dict[str, Any] = {}
        if not self.labelled:
            own = {"phases": self.phases[:3], "streams": {"": Stream(("x",))}}
        if self.fixed_heads:
            own["phases"] = (RECONSTRUCTION, *own.get("phases", self.phases)[1:])
        vars(self).update(own)  # of this model: the class has those of a model with labels and learned heads
        super().complete()

    def build(self) -> None:
        super().build()
        self.codes = None  # the style is in the unit of the heads
        shape = (self.classes, self.dim)

        def values() -> np.ndarray:
            if self.fixed_heads:
                return FIXED * np.eye(self.classes)
            # So far apart that few are nearer than they may be: by Adam a head moves no further than a rate a step.
            return self._initial.normal(0.0, 2 * self.head_distance or 1.0, shape)

        self.centres = Heads(self.backend, values, shape)
        self.keep_averages("centres")

    @property
    def decoded_features(self) -> int:
        return self.dim

    def joined(self, y: Tensor, z: Tensor, *, train: bool = False) -> Tensor:
        return add_heads(z, y, (self.centres if train else self.final("centres")).table)

    def step(self, batch: Batch) -> Iterator[Losses]:
        yield from self.steps(batch)

    def separated(self, left: Tensor) -> tuple[Tensor, ...]:
        if self.fixed_heads:
            return ()
        return (pull(head_hinge(self.centres.table, self.head_distance, self.head_weight), left),)

    # --- what is done with it -----------------------------------------------------------------------

    @property
    def heads(self) -> np.ndarray:
        """(classes, dim) float32, a head for each class."""
        return self.backend.to_host(self.final("centres").table.buffer).astype(np.float32, copy=False)

    def encode(self, x: Any, *, sample: bool = False) -> Any:
        """The representations W_C y + z of rows x (N, input_dim): (N, dim) float32. They are no draws."""

        def represented(chunk: Tensor) -> Tensor:
            return self.code(chunk, self.sampler, train=False)

        return map_chunks(self.backend, represented, self.rows_of(x), self.dim)

    def decode(self, z: Any, y: Any = None) -> Any:
        """What the decoder makes of representations z (N, dim), looking like the data: (N, input_dim) float32.

        With `y`, labels (N,) or numbers (N, classes), z are styles, and the heads of their classes are added.
        """
        if y is not None:
            return super().decode(z, y)
        rows = as_rows(self.backend, z, "z", self.dim, pixels=False)
        return map_chunks(self.backend, self.shown, rows, self.input_dim)

    def projected(self, codes: Any) -> np.ndarray:
        """Representations (N, classes) with fixed heads as points of the plane, (N, 2): each head on a circle.

        It is the linear map that puts head c at an angle of c turns by the number of classes: figure 11 d.

        Raises:
            ValueError: heads that are learned, or another shape.
        """
        if not self.fixed_heads:
            raise ValueError("projected: expected a model with fixed_heads=True, got one whose heads are learned")
        angles = 2 * np.pi * np.arange(self.classes) / self.classes
        circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
        return np.einsum("nc,cd->nd", as_matrix(codes, "codes", features=self.classes).astype(np.float64), circle)
