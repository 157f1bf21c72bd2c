"""The supervised adversarial autoencoder: section 4 and figure 7 of Makhzani et al. (2015, arXiv 1511.05644).

The decoder is given the label of what it is to make, so that the code need not tell it: the code holds the style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal, overload

import numpy as np

from ..arguments import choice, count
from ..data.rows import as_rows, map_chunks
from ..data.table import LABEL, Column, Stream, Table
from ..functions import concat
from ..functions.tensor import Tensor
from ..options import COUNT, SWITCH, number, option
from .aae import AAE
from .autoencoder import NORMED
from .batch import Batch
from .labelled import Labelled, beside_labels, class_weights
from .registry import model


@model
class SupervisedAAE(Labelled, AAE):
    """An adversarial autoencoder whose decoder takes the label beside the code.

    The encoder does not see labels, and the prior has no part for any of them. So what the label tells is of no use in
    the code, which `evaluation.leakage` measures. Every row that is trained on needs a label.

    Args:
        input_dim: features of x.
        latent_dim: features of the style z; the paper takes 15.
        classes: how many different labels there are.
        informed: the discriminator takes the label beside the code, so that the codes of every class hold the prior by
            themselves, and none tells its class. The paper's does not: there the codes of all classes hold it
            together, and still tell a good deal.
        generator_weight: as of `AAE`. The larger it is, the less do codes tell of the label, and the less of x.
        labels: what users call the classes, see `Labelled`; the first fit tells.
        hidden, posterior, prior, reconstruction, output and all others: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the style", default=15)
    _: KW_ONLY
    classes: int = option(COUNT, "different labels", of_data=True)
    generator_weight: float = option(number(0.0), "beside the reconstruction; 0 for a phase of its own", default=3.0)
    informed: bool = option(SWITCH, "the discriminator takes the label too, so that codes do not tell it", default=True)

    streams: ClassVar[Mapping[str, Stream]] = {"": Stream(("x", LABEL))}

    @property
    def categories(self) -> int:
        """How many classes the decoder takes."""
        return self.classes

    def complete(self) -> None:
        super().complete()
        if self.batch_statistics == "recomputed" and NORMED[self.batch_norm][1] != "none":
            expected = "'running' where the decoder, which takes labels, has batch norm"
            raise ValueError(f"batch_statistics: expected {expected}, got 'recomputed'")

    def build_decoder(self, features: int) -> None:
        super().build_decoder(self.classes + features)  # [y | z]

    def columns(self) -> dict[str, Column]:
        return {**super().columns(), LABEL: Column(self.classes, "label", every=True)}

    def decoded(self, z: Tensor, batch: Batch) -> Tensor:
        return self.decoder(concat((batch.y, z)), rng=batch.rng)

    def judges(self) -> int:
        return super().judges() + self.classes * self.informed

    def judged(self, z: Tensor, batch: Batch) -> Tensor:
        if not self.informed:
            return super().judged(z, batch)
        return self.discriminator(beside_labels(z, batch), rng=batch.rng)

    def decode(self, z: Any, y: Any) -> Any:  # type: ignore[override]  # without a label nobody can decode
        """What the decoder makes of styles and labels, (N, input_dim) float32, looking like the data.

        Args:
            z: (N, latent_dim) styles.
            y: (N,) labels as in training, or (N, classes) weights of the classes: between two of them lie images
                between two classes.

        Raises:
            ValueError, TypeError: bad arrays, or labels that the model does not know.
        """
        rows = as_rows(self.backend, z, "z", self.latent_dim, pixels=False)

        def decoded(z: Tensor, y: Tensor) -> Tensor:
            return self.shown(concat((y, self.in_units(z))))

        return map_chunks(self.backend, decoded, rows, self.input_dim, class_weights(self, y, len(rows), self.classes))

    def reconstruct(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        """decode(encode(x), y): what the decoder makes of rows x (N, input_dim) with labels y (N,)."""
        return self.decode(self.encode(x), y)

    def sample(self, n: int, y: Any = None, *, on_device: bool = False) -> Any:
        """(n, input_dim): decoded samples of the prior, of labels y (n,) or, without, of classes drawn uniformly.

        Classes that got no label are not drawn. An array of the device if asked. Every call draws new ones.
        """
        z = self.sample_prior(count("n", n), on_device=on_device)
        return self.decode(z, self._drawn_classes(n) if y is None else y)

    def _drawn_classes(self, n: int) -> np.ndarray:
        """One-hot classes of uniform draws among those that have a label, (n, classes) float32."""
        known = self.classes if self.labels is None else len(self.labels)
        uniform = self.backend.to_host(self.sampler.uniform((n, 1), 0.0, float(known)))
        return (uniform.astype(np.int64) == np.arange(self.classes)).astype(np.float32)

    @overload  # type: ignore[override]
    def evaluate(self, x: Any, y: Any, reduction: Literal["mean"] = "mean") -> float: ...
    @overload
    def evaluate(self, x: Any, y: Any, reduction: Literal["none"]) -> np.ndarray: ...

    def evaluate(self, x: Any, y: Any, reduction: str = "mean") -> float | np.ndarray:
        """The reconstruction loss of x (N, input_dim) with labels y (N,), as `AAE.evaluate` gives it."""
        choice("reduction", reduction, ("mean", "none"))
        return self._distance_of(self.table(x, y), reduction)

    def _distance_of(self, table: Table, reduction: str) -> float | np.ndarray:
        columns, decoder = table.columns, self.final("decoder")
        labels = np.asarray(columns[LABEL], np.float32)  # other bytes stand for 0..1 in steps of 1/255
        coded = self._coded(columns["x"], labels)
        return self.reduced(((decoder(concat((y, z))), x) for x, y, z in coded), reduction)

    def score_samples(self, x: Any, by: str = "reconstruction", y: Any = None) -> np.ndarray:
        """How normal each row of x (N, input_dim) is, (N,) float64, as `AAE.score_samples` gives it.

        Args:
            x: rows.
            by: "reconstruction" or "discriminator".
            y: (N,) labels, which both need, the discriminator where it is `informed`.
        """
        if choice("by", by, ("reconstruction", "discriminator")) == "reconstruction":
            return -self.evaluate(x, y, "none")
        if not self.informed:
            return self.odds_of(x)
        rows = self.rows_of(x)
        coded = self._coded(rows, class_weights(self, y, len(rows), self.classes))
        return np.concatenate([self.odds(concat((z, y))).numpy()[:, 0] for _, y, z in coded]).astype(np.float64)

    def validate(self, table: Table) -> dict[str, float]:
        return {"validation": float(self._distance_of(table, "mean"))}
