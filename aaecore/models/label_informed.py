"""Label information in the adversarial regularisation: section 2.3 and figures 3 and 4 of Makhzani et al. (2015).

The discriminator is told the label beside the code, and that there is none by an extra class. So the codes of a class
go to its part of the prior: a component of a mixture, or a piece of the swiss roll. Rows without a label go anywhere,
and their neighbours with one show them where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np

from ..data.rows import Rows
from ..data.table import LABEL, Column, Stream, Table
from ..functions import concat
from ..functions.tensor import Tensor
from ..options import COUNT, number, option
from ..priors import PRIOR, GaussianMixture, HostSampler, Prior
from .aae import AAE
from .batch import Batch
from .labelled import Labelled, beside_labels
from .registry import model


@model
class LabelInformedAAE(Labelled, AAE):
    """An adversarial autoencoder whose discriminator takes the label beside the code.

    Args:
        input_dim: features of x.
        latent_dim: features of the code z.
        classes: how many different labels there are.
        prior: p(z) with a part for each class: `priors.GaussianMixture`, of which class c has component c, or
            `priors.SwissRoll`, cut into parts that are equally likely, in the order of the classes. A ring of as many
            components as classes by default.
        labels: what users call the classes, see `Labelled`; the first fit tells.
        generator_weight, gradient_penalty: as of `AAE`, with other defaults: codes must cross the parts of other
            classes on their way, and a discriminator must tell neighbouring parts apart.
        hidden, posterior, reconstruction, output and all others: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument, or a prior without a part for each class. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the code", default=2)
    prior: Prior | HostSampler | None = option(
        PRIOR, "p(z), with a part for each class; a ring of as many components as classes", default=None
    )
    _: KW_ONLY
    classes: int = option(COUNT, "different labels", of_data=True)
    generator_weight: float = option(number(0.0), "beside the reconstruction; 0 for a phase of its own", default=20.0)
    gradient_penalty: float = option(number(0.0), "keeps the discriminator smooth; 0 for none", default=1.0)

    streams: ClassVar[Mapping[str, Stream]] = {"": Stream(("x", LABEL))}

    def complete(self) -> None:
        if self.prior is None and self.latent_dim != 2:
            raise ValueError(f"latent_dim: expected 2, that of a ring, or another prior=, got {self.latent_dim}")
        self.prior = GaussianMixture.ring(self.classes) if self.prior is None else self.prior
        super().complete()
        prior = self.priors()["z"][0]
        prior.check_classes(self.classes)
        if type(prior)._part_of is Prior._part_of:  # of a user's own: `predict` would say so, after an epoch
            raise TypeError(f"prior: expected {type(prior).__name__} to have _part_of, which says the class of a code")

    def columns(self) -> dict[str, Column]:
        return {**super().columns(), LABEL: Column(self.classes + 1, "label", rest=True)}

    def judges(self) -> int:
        return super().judges() + self.classes + 1

    def real(self, batch: Batch) -> Tensor:
        """Samples of the prior, each of the part that the label of its row has, or of the whole."""
        return batch.draw("z", like=batch.y)

    def judged(self, z: Tensor, batch: Batch) -> Tensor:
        return self.discriminator(beside_labels(z, batch), rng=batch.rng)

    def odds(self, z: Tensor) -> Tensor:
        """Of codes without a label, whose rows may be of any class."""
        rest = np.zeros((len(z.buffer), self.classes + 1))
        rest[:, -1] = 1.0
        return super().odds(concat((z, Tensor(self.backend.from_host(rest)))))

    def predict(self, x: Any) -> np.ndarray:
        """The label of the part of the prior that the code of a row lies in, as users have it.

        Of rows x (N, input_dim) it gives (N,) int64 or strings.
        """
        return self.own_labels(self._parts(x))

    def score(self, x: Any, y: Any) -> float:
        """The share of rows x (N, input_dim) with a label in y (N,) for which `predict` says it.

        Raises:
            ValueError, TypeError: bad data, or no row with a label.
        """
        table = self.table(x, y)
        if not len(table.labelled):
            raise ValueError("y: expected a label for at least one row, got none")
        return 1 - self._error(table)

    def walks(self, n: int) -> np.ndarray:
        """(classes, n, latent_dim) codes in order through the part of each class, to decode: figure 4 of the paper.

        They lie along the main axis of the components of a mixture, or from one end of the roll to the other.
        """
        return self.priors()["z"][0].walks(self.classes, n)

    def _error(self, table: Table) -> float:
        """How many of the labelled rows have a code in the part of another class."""
        wrong = self._parts(table.columns["x"]) != np.asarray(table.columns[LABEL]).argmax(axis=1)
        return float(wrong[table.labelled].mean())

    def _parts(self, x: Rows) -> np.ndarray:
        z = self.encode(x)
        return self.priors()["z"][0].part_of(z if isinstance(z, np.ndarray) else z.get(), self.classes)

    def validate(self, table: Table) -> dict[str, float]:
        """The reconstruction loss, and the share of labelled rows whose code lies in the part of another class."""
        return super().validate(table) | ({"error": self._error(table)} if len(table.labelled) else {})
