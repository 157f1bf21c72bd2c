"""Training steps of the semi-supervised and the clustering model in PyTorch, as someone who knows it would write them.

As in `torch_peer.py`: fused Adam, gradients set to None, discriminators frozen where they are only asked, codes used
again where the networks have not changed in between. Noise, dropout and draws of the priors are made inside of what is
compiled; a check gives them instead.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import cycle

import numpy as np
import peer
import protocol
import torch
import works
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, dropout, mse_loss
from torch_nets import TorchModel, hidden, mlp
from works import Work

Drawn = dict[str, Tensor] | None  # "noise" and "keep" of rows, "y" and "z" of the priors; None makes new ones


class Labels(TorchModel):
    """A trunk with a head for y and one for z, a discriminator for each, and a decoder of both."""

    def __init__(self, work: Work, variant: str = "eager", precision: str = "fp32", device: str = "cpu") -> None:
        super().__init__(variant, precision, device)
        self.work, width = work, (work.hidden, work.hidden)
        ones = torch.ones(work.batch, 1, dtype=self.dtype, device=device)
        self.labels = torch.cat([ones, torch.zeros_like(ones)])  # real first
        self.one_hots = torch.eye(work.classes, dtype=self.dtype, device=device)
        networks = {
            "trunk": nn.Sequential(*hidden(work.inputs, *width, batch_norm=work.batch_norm)),
            "label": nn.Linear(work.hidden, work.classes),
            "style": nn.Linear(work.hidden, work.latent),
            "decoder": mlp(work.classes + work.latent, *width, work.inputs),
            "label_critic": mlp(work.classes, *width, 1),
            "style_critic": mlp(work.latent, *width, 1),
        }
        losses = ("reconstruction_loss", "code", "discriminator_loss", "generator_loss", "classification_loss")
        self.finish(networks, works.phases(work), *(("together", "discriminator_loss") if work.joint else losses))

    # --- parts of a step ------------------------------------------------------------------------------

    def corrupt(self, x: Tensor, drawn: Drawn) -> Tensor:
        if self.work.noise:
            x = x + self.work.noise * (torch.randn_like(x) if drawn is None else drawn["noise"])
        if self.work.dropout:
            x = dropout(x, self.work.dropout) if drawn is None else x * drawn["keep"]
        return x

    def code(self, x: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            h = self.trunk(self.corrupt(x, drawn))
            label, style = self.label(h), self.style(h)
        return torch.softmax(label.to(self.dtype), dim=1), style.to(self.dtype)

    def distance(self, y: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Half the squared error of a sigmoid, summed over features, a mean over the rows."""
        made = torch.sigmoid(self.run(self.decoder, torch.cat([y, z], dim=1)))
        return mse_loss(made, x, reduction="sum") * (0.5 / len(x))

    def draw(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """As many samples of the priors as there are rows."""
        if drawn is not None:
            return drawn["y"], drawn["z"]
        rows, classes = self.work.batch, self.work.classes
        y = self.one_hots.index_select(0, torch.randint(classes, (rows,), device=self.device))
        return y, torch.randn(rows, self.work.latent, dtype=self.dtype, device=self.device)

    def reconstruction_loss(self, x: Tensor, drawn: Drawn) -> Tensor:
        return self.distance(*self.code(x, drawn), x)

    def discriminator_loss(self, y: Tensor, z: Tensor, drawn: Drawn) -> Tensor:
        real_y, real_z = self.draw(drawn)
        told = self.told_apart(self.label_critic, real_y, y) + self.told_apart(self.style_critic, real_z, z)
        return told / len(y)

    def told_apart(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return bce(self.run(critic, torch.cat([real, fake])), self.labels, reduction="sum")

    def generator_loss(self, y: Tensor, z: Tensor) -> Tensor:
        real = self.labels[: len(y)]
        return bce(self.run(self.label_critic, y), real) + bce(self.run(self.style_critic, z), real)

    def classification_loss(self, x: Tensor, labels: Tensor, drawn: Drawn) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            logits = self.label(self.trunk(self.corrupt(x, drawn)))
        return cross_entropy(logits.to(self.dtype), labels)

    def freeze(self, frozen: bool) -> None:
        self.label_critic.requires_grad_(not frozen)
        self.style_critic.requires_grad_(not frozen)

    # --- a step ---------------------------------------------------------------------------------------

    def step(self, x: Tensor, lx: Tensor, labels: Tensor, drawn: dict[str, Drawn] | None = None) -> tuple[Tensor, ...]:
        """One step on x (B, inputs), and on lx (L, inputs) with labels (L,) if there are any; returns the losses."""
        return (self.step_together if self.work.joint else self.step_in_turn)(x, lx, labels, drawn or {})

    def step_in_turn(self, x: Tensor, lx: Tensor, labels: Tensor, drawn: dict[str, Drawn]) -> tuple[Tensor, ...]:
        """The phases of the paper."""
        reconstruction = self.reconstruction_loss(x, drawn.get("reconstruction"))
        self.update("reconstruction", reconstruction)

        y, z = self.code(x, drawn.get("code"))
        discriminator = self.discriminator_loss(y.detach(), z.detach(), drawn.get("priors"))
        self.update("discriminator", discriminator)

        self.freeze(True)
        generator = self.generator_loss(y, z)
        self.update("generator", generator)
        self.freeze(False)
        if not self.work.labelled:
            return reconstruction, discriminator, generator
        classification = self.classification_loss(lx, labels, drawn.get("classification"))
        self.update("classification", classification)
        return reconstruction, discriminator, generator, classification

    def step_together(self, x: Tensor, lx: Tensor, labels: Tensor, drawn: dict[str, Drawn]) -> tuple[Tensor, ...]:
        """One update of all but the discriminators."""
        self.freeze(True)
        total, *losses, y, z = self.together(x, lx, labels, drawn.get("reconstruction"))
        self.update("reconstruction", total)
        self.freeze(False)
        discriminator = self.discriminator_loss(y.detach(), z.detach(), drawn.get("priors"))
        self.update("discriminator", discriminator)
        return losses[0], discriminator, *losses[1:]

    def together(self, x: Tensor, lx: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, ...]:
        """(the sum that is minimised, its losses one by one, y, z), of one pass over all rows."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            h = self.trunk(self.corrupt(torch.cat([x, lx]) if self.work.labelled else x, drawn))
            logits, style = self.label(h).to(self.dtype), self.style(h[: len(x)]).to(self.dtype)
        y = torch.softmax(logits[: len(x)], dim=1)
        reconstruction, generator = self.distance(y, style, x), self.generator_loss(y, style)
        if not self.work.labelled:
            total = reconstruction + reconstruction.detach() * works.GENERATOR * generator
            return total, reconstruction, generator, y, style
        classification = cross_entropy(logits[len(x) :], labels)
        weighed = works.GENERATOR * generator + works.CLASSIFICATION * classification
        return reconstruction + reconstruction.detach() * weighed, reconstruction, generator, classification, y, style


KINDS = {"semi-supervised": Labels, "clustering": Labels}


@lru_cache(maxsize=1)
def models(work: Work) -> dict[tuple[str, ...], Labels]:
    """Those of a work, so that what was compiled for a check is not compiled again."""
    return {}


def model_of(options: peer.Options) -> Labels:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made, key = models(options.size), (options.variant, options.precision, options.device)
    if key not in made:
        made[key] = KINDS[options.size.kind](options.size, *key)
    made[key].use()
    return made[key]


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    model, work = model_of(options), options.size
    rows = protocol.labelled_batches(work.classes, work.labelled, work.inputs, len(xs))
    turns = cycle([tuple(torch.from_numpy(a) for a in (x, *labelled)) for x, labelled in zip(xs, rows, strict=True)])
    return peer.Timed(lambda: model.step(*next(turns)))


def check(options: peer.Options, state: protocol.State) -> protocol.Stepped:
    model = model_of(options)
    model.begin(state)
    rows, drawn = protocol.unfold(state.inputs)
    given = {where: {what: model.given(a) for what, a in arrays.items()} for where, arrays in drawn.items()}
    lx, labels = rows.get("labelled.x", rows["x"][:0]), rows.get("labelled.y", np.zeros((0, 1))).argmax(axis=1)
    return model.made(model.step(model.given(rows["x"]), model.given(lx), torch.from_numpy(labels), given))


LIBRARY = peer.Library({"eager": ("fp32", "bf16"), "compile": ("fp32", "bf16"), "medium": ("bf16",)}, step, check=check)
