"""What is measured beside the sizes of an `AAE`: steps of the models of the paper's sections 2.3 and 4 to 7.

Steps of the models that it compares with are checked only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import sizes
from protocol import BATCHES, PHASES
from sizes import Size

COMPARED = {  # the networks that each update moves, of models that the paper compares with
    "gan": {"discriminator": ("discriminator",), "generator": ("decoder",)},
    "gmmn": {"discrepancy": ("decoder",)},
    "wae": {"reconstruction": ("encoder", "decoder"), "discrepancy": ()},
    "denoising": {"reconstruction": ("encoder", "decoder")},
}
KINDS = ("semi-supervised", "clustering", "reduction", "label-informed", "supervised", *COMPARED)
WIDTHS = (0.5, 1.0, 2.0)  # of the kernels of a discrepancy, by the root of twice the number of features
LEAST, HINGE = 3.0, 0.3  # distance of heads that is enough, and the weight of what is missing
SAID = ("generator", "classification")  # of the joint form: the reconstruction's update minimises them
GENERATOR, CLASSIFICATION = 0.5, 2.0  # weights of the joint form beside the reconstruction
LABEL_PHASES = {  # of models with a head for y, by whether they have labelled rows
    "reconstruction": ("trunk", "label_head", "style_head", "decoder"),
    "discriminator": ("label_critic", "style_critic"),
    "generator": ("trunk", "label_head", "style_head"),
    "classification": ("trunk", "label_head"),
}


class Work(NamedTuple):
    """A step of one model: its kind, its form, its networks and its rows. All networks have two hidden layers."""

    kind: str  # one of KINDS
    joint: bool  # one update of all but the discriminators, not the paper's phases
    inputs: int
    hidden: int
    classes: int  # or clusters
    latent: int
    batch: int
    labelled: int = 0  # rows of the labelled batch
    noise: float = 0.0  # standard deviation of the noise on x
    dropout: float = 0.0  # of x
    batch_norm: bool = False  # before the activations of the trunk

    def __str__(self) -> str:
        networks = f"{self.inputs}-{self.hidden}-{self.hidden}, y {self.classes} + z {self.latent}"
        rows = f"batch {self.batch}" + f" + {self.labelled}" * bool(self.labelled)
        extras = [f"noise {self.noise:g}"] * bool(self.noise) + [f"dropout {self.dropout:g}"] * bool(self.dropout)
        extras += ["batch norm"] * self.batch_norm
        return f"{self.kind} {'joint' if self.joint else 'in phases'}: {', '.join([networks, rows, *extras])}"


WORKS = {
    "semi": Work("semi-supervised", False, 784, 1000, 10, 10, 100, 100, noise=0.3),
    "semi-joint": Work("semi-supervised", True, 784, 1000, 10, 10, 100, 100, noise=0.3),
    "cluster": Work("clustering", False, 784, 3000, 16, 5, 100, dropout=0.2, batch_norm=True),
    "cluster-joint": Work("clustering", True, 784, 3000, 16, 5, 100, dropout=0.2, batch_norm=True),
}
NORMED = {  # at width 1000, with and without batch norm and dropout
    name: work._replace(hidden=1000, dropout=0.2, batch_norm=True) for name, work in WORKS.items()
}


def spell(what: Size | Work) -> str:
    """What `parse` makes this of."""
    return ":".join(map(str, what)) if isinstance(what, Work) else sizes.spell(what)


def parse(text: str) -> Size | Work:
    """The name of a work, what `spell` makes of one, or what `sizes.parse_size` knows.

    Raises:
        ValueError: none of them.
    """
    if text in WORKS:
        return WORKS[text]
    if ":" not in text:
        return sizes.parse_size(text)
    kind, joint, *numbers, noise, dropout, batch_norm = text.split(":")
    return Work(kind, joint == "True", *map(int, numbers), float(noise), float(dropout), batch_norm == "True")


def phases(work: Work) -> dict[str, tuple[str, ...]]:
    """The networks that each update moves, in order; an update that moves nothing only says a loss."""
    if work.kind in COMPARED:
        return COMPARED[work.kind]
    if work.kind in ("label-informed", "supervised"):
        made = PHASES
    else:
        made = {name: moved for name, moved in LABEL_PHASES.items() if work.labelled or name != "classification"}
        if work.kind == "reduction":
            made["reconstruction"] += ("centres",)
    return {name: () if work.joint and name in SAID else moved for name, moved in made.items()}


def labelled_batches(work: Work, count: int = BATCHES) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` labelled batches of a work: rows as of `batches`, and a class, int64, for each."""
    rng, n = np.random.default_rng(1), work.labelled
    return [(rng.random((n, work.inputs), np.float32), rng.integers(0, work.classes, n)) for _ in range(count)]
