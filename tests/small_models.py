"""Small models with what those of the package do not have yet: labels in two ways, and dials."""

from typing import ClassVar

import numpy as np

from aaecore.functions import Tensor, half_squared_error, weighted
from aaecore.models import COUNT, SWITCH, Column, Model, Phase, Stream, model, option
from aaecore.models.labelled import Labelled
from aaecore.priors import Categorical, Normal

CLASSES = 4


@model
class FewLabels(Model):
    """An autoencoder, and a classifier on its codes that learns from the rows that have a label."""

    input_dim: int = option(COUNT, "features of x", of_data=True)
    classes: int = option(COUNT, "classes of y", default=CLASSES)

    streams: ClassVar = {"": Stream(("x",)), "labelled": Stream(("x", "y"), labelled=True)}
    phases = (
        Phase("reconstruction", moves=("trunk", "decoder")),
        Phase("classification", moves=("trunk", "head")),
    )

    def columns(self):
        return {"x": Column(self.input_dim, "unit"), "y": Column(self.classes, "label")}

    def build(self):
        self.trunk = self.mlp(self.input_dim, 9, 5, output="tanh")
        self.decoder, self.head = self.mlp(5, self.input_dim), self.mlp(5, self.classes)

    def step(self, batch):
        yield "reconstruction", half_squared_error(self.decoder(self.trunk(batch.x)), batch.x)
        classes = self.head(self.trunk(batch.labelled.x))
        yield "classification", half_squared_error(classes, batch.labelled.y)

    def predict(self, x):
        return self.head(self.trunk(Tensor(self.backend.from_host(x)))).numpy().argmax(1)

    def validate(self, table):
        right = self.predict(table.columns["x"]) == table.columns["y"].argmax(1)
        return {"accuracy": float(right[table.labelled].mean()), "labelled": len(table.labelled)}


@model
class NamedLabels(Labelled, FewLabels):
    """The same with labels of any kind."""

    def names(self, x):
        return self.own_labels(self.predict(x))


@model
class RestLabels(Labelled):
    """Makes x of its label, of which the last feature says that there is none."""

    input_dim: int = option(COUNT, "features of x", of_data=True)
    classes: int = option(COUNT, "classes of y", default=CLASSES)

    streams: ClassVar = {"": Stream(("x", "y"))}
    phases = (Phase("all", moves=("net",)),)

    def columns(self):
        return {"x": Column(self.input_dim), "y": Column(self.classes + 1, "label", rest=True)}

    def build(self):
        self.net = self.mlp(self.classes + 1, self.input_dim)

    def step(self, batch):
        yield "all", half_squared_error(self.net(batch.y), batch.x)


@model
class AllLabels(Model):
    """A network that makes x of its label and of a draw of a prior that has the column's name."""

    input_dim: int = option(COUNT, "features of x", of_data=True)

    streams: ClassVar = {"": Stream(("x", "y"))}
    phases = (Phase("all", moves=("net",)),)

    def columns(self):
        return {"x": Column(self.input_dim), "y": Column(CLASSES, "label")}

    def priors(self):
        return {"y": (Categorical(), CLASSES)}

    def build(self):
        self.net = self.mlp(CLASSES, 6, self.input_dim)

    def step(self, batch):
        drawn = half_squared_error(self.net(batch.draw("y")), batch.x, 0.1)
        yield "all", half_squared_error(self.net(batch.y), batch.x), drawn


@model
class Dialled(Model):
    """An encoder with two losses, each with a weight that changes from step to step, if it `weighs` them at all."""

    input_dim: int = option(COUNT, "features of x", of_data=True)
    weighs: bool = option(SWITCH, "whether the losses are weighted", default=True)

    phases = (Phase("copies", moves=("encoder", "decoder")), Phase("guesses", moves=("encoder",)))

    def columns(self):
        return {"x": Column(self.input_dim)}

    def priors(self):
        return {"z": (Normal(), 5)}

    def dials(self):
        """Powers of two, by which float32 multiplies exactly."""
        return {"fast": lambda step: 0.5 ** (step % 4), "slow": lambda step: 2.0 ** (step // 3 % 5)}

    def build(self):
        self.encoder, self.decoder = self.mlp(self.input_dim, 9, 5), self.mlp(5, 9, self.input_dim)

    def step(self, batch):
        copies = half_squared_error(self.decoder(self.encoder(batch.x)), batch.x)
        yield "copies", weighted(copies, batch.dial("fast")) if self.weighs else copies
        guesses = half_squared_error(self.encoder(batch.x), batch.draw("z"))
        yield "guesses", weighted(guesses, batch.dial("slow")) if self.weighs else guesses


def one_hot(y):
    return (np.asarray(y)[:, None] == np.arange(CLASSES)).astype(np.float32)
