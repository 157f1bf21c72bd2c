"""Training steps of the paper's later models in PyTorch, as someone who knows it would write them.

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


class Corrupting(TorchModel):
    """A model whose encoder takes x with noise and dropout."""

    def __init__(self, work: Work, variant: str = "eager", precision: str = "fp32", device: str = "cpu") -> None:
        super().__init__(variant, precision, device)
        self.work, self.width = work, (work.hidden, work.hidden)
        ones = torch.ones(work.batch, 1, dtype=self.dtype, device=device)
        self.labels = torch.cat([ones, torch.zeros_like(ones)])  # real first

    def corrupt(self, x: Tensor, drawn: Drawn) -> Tensor:
        if self.work.noise:
            x = x + self.work.noise * (torch.randn_like(x) if drawn is None else drawn["noise"])
        if self.work.dropout:
            x = dropout(x, self.work.dropout) if drawn is None else x * drawn["keep"]
        return x

    def distance(self, code: Tensor, x: Tensor) -> Tensor:
        """Half the squared error of a sigmoid, summed over features, a mean over the rows."""
        return mse_loss(torch.sigmoid(self.run(self.decoder, code)), x, reduction="sum") * (0.5 / len(x))

    def told_apart(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """A mean over each half, added."""
        return bce(self.run(critic, torch.cat([real, fake])), self.labels, reduction="sum") / len(fake)

    def passed(self, critic: nn.Module, fake: Tensor) -> Tensor:
        return bce(self.run(critic, fake), self.labels[: len(fake)])


class Labels(Corrupting):
    """A trunk with a head for y and one for z, a discriminator for each, and a decoder of both."""

    def __init__(self, work: Work, *how: str) -> None:
        super().__init__(work, *how)
        self.one_hots = torch.eye(work.classes, dtype=self.dtype, device=self.device)
        losses = ("reconstruction_loss", "code", "discriminator_loss", "generator_loss", "classification_loss")
        losses = ("together", "discriminator_loss") if work.joint else losses
        self.finish(self.made_networks(), works.phases(work), *losses)

    def made_networks(self) -> dict[str, nn.Module]:
        work = self.work
        return {
            "trunk": nn.Sequential(*hidden(work.inputs, *self.width, batch_norm=work.batch_norm)),
            "label_head": nn.Linear(work.hidden, work.classes),
            "style_head": nn.Linear(work.hidden, work.latent),
            "decoder": mlp(work.classes + work.latent, *self.width, work.inputs),
            "label_critic": mlp(work.classes, *self.width, 1),
            "style_critic": mlp(work.latent, *self.width, 1),
        }

    # --- parts of a step ------------------------------------------------------------------------------

    def code(self, x: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            h = self.trunk(self.corrupt(x, drawn))
            label, style = self.label_head(h), self.style_head(h)
        return torch.softmax(label.to(self.dtype), dim=1), style.to(self.dtype)

    def joined(self, y: Tensor, z: Tensor) -> Tensor:
        """What the decoder takes."""
        return torch.cat([y, z], dim=1)

    def separated(self, reconstruction: Tensor) -> Tensor:
        """The reconstruction's loss, to be minimised."""
        return reconstruction

    def draw(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """As many samples of the priors as there are rows."""
        if drawn is not None:
            return drawn["y"], drawn["z"]
        rows, classes = self.work.batch, self.work.classes
        y = self.one_hots.index_select(0, torch.randint(classes, (rows,), device=self.device))
        return y, torch.randn(rows, self.work.latent, dtype=self.dtype, device=self.device)

    def reconstruction_loss(self, x: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """(what is minimised, the loss)."""
        reconstruction = self.distance(self.joined(*self.code(x, drawn)), x)
        return self.separated(reconstruction), reconstruction

    def discriminator_loss(self, y: Tensor, z: Tensor, drawn: Drawn) -> Tensor:
        real_y, real_z = self.draw(drawn)
        return self.told_apart(self.label_critic, real_y, y) + self.told_apart(self.style_critic, real_z, z)

    def generator_loss(self, y: Tensor, z: Tensor) -> Tensor:
        return self.passed(self.label_critic, y) + self.passed(self.style_critic, z)

    def classification_loss(self, x: Tensor, labels: Tensor, drawn: Drawn) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            logits = self.label_head(self.trunk(self.corrupt(x, drawn)))
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
        total, reconstruction = self.reconstruction_loss(x, drawn.get("reconstruction"))
        self.update("reconstruction", total)

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
            logits, style = self.label_head(h).to(self.dtype), self.style_head(h[: len(x)]).to(self.dtype)
        y = torch.softmax(logits[: len(x)], dim=1)
        reconstruction, generator = self.distance(self.joined(y, style), x), self.generator_loss(y, style)
        left, total = reconstruction.detach(), self.separated(reconstruction)
        if not self.work.labelled:
            return total + left * works.GENERATOR * generator, reconstruction, generator, y, style
        classification = cross_entropy(logits[len(x) :], labels)
        weighed = works.GENERATOR * generator + works.CLASSIFICATION * classification
        return total + left * weighed, reconstruction, generator, classification, y, style


class Heads(nn.Module):
    """A row for each class."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(classes, features))


class Reduction(Labels):
    """The decoder takes the heads of the classes, weighed by y, and z; heads that are near each other pay for it."""

    def made_networks(self) -> dict[str, nn.Module]:
        work = self.work
        decoder = mlp(work.latent, *self.width, work.inputs)
        return {**super().made_networks(), "decoder": decoder, "centres": Heads(work.classes, work.latent)}

    def joined(self, y: Tensor, z: Tensor) -> Tensor:
        return z + y @ self.centres.table

    def separated(self, reconstruction: Tensor) -> Tensor:
        missing = torch.relu(works.LEAST - torch.pdist(self.centres.table)).sum()
        return reconstruction + reconstruction.detach() * works.HINGE * missing


class Encoded(Corrupting):
    """An adversarial autoencoder of rows with labels: the decoder, the discriminator, or both take them beside z."""

    def __init__(self, work: Work, *how: str) -> None:
        super().__init__(work, *how)
        supervised = work.kind == "supervised"
        self.informed = work.joint or not supervised  # whether the discriminator takes the label
        decoded, judged = (work.classes, work.classes) if supervised else (0, work.classes + 1)
        encoder = hidden(work.inputs, *self.width, batch_norm=work.batch_norm)
        networks = {
            "encoder": nn.Sequential(*encoder, nn.Linear(work.hidden, work.latent)),
            "decoder": mlp(decoded + work.latent, *self.width, work.inputs),
            "discriminator": mlp(work.latent + judged * self.informed, *self.width, 1),
        }
        self.finish(networks, works.phases(work))

    def code(self, x: Tensor, drawn: Drawn) -> Tensor:
        return self.run(self.encoder, self.corrupt(x, drawn))

    def reconstruction_loss(self, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.distance(torch.cat([y, z], dim=1) if self.work.kind == "supervised" else z, x)

    def judged(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.cat([z, y], dim=1) if self.informed else z

    def step(self, x: Tensor, y: Tensor, drawn: dict[str, Drawn]) -> tuple[Tensor, ...]:
        """One step on x (B, inputs) with one-hot labels y; of a row without one, in the last of classes + 1 columns."""
        z = self.code(x, drawn.get("reconstruction"))
        reconstruction = self.reconstruction_loss(z, x, y)
        if self.work.joint:
            self.discriminator.requires_grad_(False)
            generator = self.passed(self.discriminator, self.judged(z, y))
            self.update("reconstruction", reconstruction + reconstruction.detach() * works.GENERATOR * generator)
            self.discriminator.requires_grad_(True)
        else:
            self.update("reconstruction", reconstruction)
            z = self.code(x, drawn.get("code"))
        real = self.judged(drawn["priors"]["z"], y)
        discriminator = self.told_apart(self.discriminator, real, self.judged(z.detach(), y))
        self.update("discriminator", discriminator)
        if not self.work.joint:
            self.discriminator.requires_grad_(False)
            generator = self.passed(self.discriminator, self.judged(z, y))
            self.update("generator", generator)
            self.discriminator.requires_grad_(True)
        return reconstruction, discriminator, generator


class Compared(Corrupting):
    """Models that the paper compares with, each by the name of its kind."""

    def __init__(self, work: Work, *how: str) -> None:
        super().__init__(work, *how)
        ends = {"encoder": (work.inputs, work.latent), "decoder": (work.latent, work.inputs)}
        ends["discriminator"] = (work.inputs, 1)
        moved = {name for names in works.phases(work).values() for name in names}
        networks = {n: mlp(begin, *self.width, end) for n, (begin, end) in ends.items() if n in moved}
        self.finish(networks, works.phases(work))

    def discrepancy(self, x: Tensor, y: Tensor) -> Tensor:
        """The squared maximum mean discrepancy of rows x and y, by a sum of Gaussian kernels."""

        def kernel(a: Tensor, b: Tensor) -> Tensor:
            squares = (a[:, None] - b).square().sum(dim=2)
            return sum(torch.exp(-squares / (4 * x.shape[1] * w**2)).mean() for w in works.WIDTHS)

        return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)

    def step(self, x: Tensor, drawn: dict[str, Drawn]) -> tuple[Tensor, ...]:
        """One step on x (B, inputs); returns the losses."""
        z = drawn.get("priors", {}).get("z")
        return {"gan": self.game, "gmmn": self.matched, "wae": self.coded, "denoising": self.undone}[self.work.kind](
            x, z, drawn.get("reconstruction")
        )

    def game(self, x: Tensor, z: Tensor, corruption: Drawn) -> tuple[Tensor, ...]:
        fake = torch.sigmoid(self.run(self.decoder, z))
        discriminator = self.told_apart(self.discriminator, x, fake.detach())
        self.update("discriminator", discriminator)
        self.discriminator.requires_grad_(False)
        generator = self.passed(self.discriminator, fake)
        self.update("generator", generator)
        self.discriminator.requires_grad_(True)
        return discriminator, generator

    def matched(self, x: Tensor, z: Tensor, corruption: Drawn) -> tuple[Tensor, ...]:
        discrepancy = self.discrepancy(torch.sigmoid(self.run(self.decoder, z)), x)
        self.update("discrepancy", discrepancy)
        return (discrepancy,)

    def coded(self, x: Tensor, z: Tensor, corruption: Drawn) -> tuple[Tensor, ...]:
        code = self.run(self.encoder, self.corrupt(x, corruption))
        reconstruction, discrepancy = self.distance(code, x), self.discrepancy(code, z)
        self.update("reconstruction", reconstruction + reconstruction.detach() * works.GENERATOR * discrepancy)
        return reconstruction, discrepancy

    def undone(self, x: Tensor, z: Tensor, corruption: Drawn) -> tuple[Tensor, ...]:
        reconstruction = self.distance(self.run(self.encoder, self.corrupt(x, corruption)), x)
        self.update("reconstruction", reconstruction)
        return (reconstruction,)


KINDS = {
    "semi-supervised": Labels, "clustering": Labels, "reduction": Reduction, "label-informed": Encoded,
    "supervised": Encoded, **dict.fromkeys(works.COMPARED, Compared),
}  # fmt: skip


@lru_cache(maxsize=1)
def models(work: Work) -> dict[tuple[str, ...], Corrupting]:
    """Those of a work, so that what was compiled for a check is not compiled again."""
    return {}


def model_of(options: peer.Options) -> Corrupting:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made, key = models(options.size), (options.variant, options.precision, options.device)
    if key not in made:
        made[key] = KINDS[options.size.kind](options.size, *key)
    made[key].use()
    return made[key]


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    model, work = model_of(options), options.size
    if not isinstance(model, Labels):
        raise protocol.Unavailable("its step is checked only")
    rows = works.labelled_batches(work, len(xs))
    turns = cycle([tuple(torch.from_numpy(a) for a in (x, *labelled)) for x, labelled in zip(xs, rows, strict=True)])
    return peer.Timed(lambda: model.step(*next(turns)))


def check(options: peer.Options, state: protocol.State) -> protocol.Stepped:
    model = model_of(options)
    model.begin(state)
    rows, drawn = protocol.unfold(state.inputs)
    given = {where: {what: model.given(a) for what, a in arrays.items()} for where, arrays in drawn.items()}
    if isinstance(model, Compared):
        return model.made(model.step(model.given(rows["x"]), given))
    if isinstance(model, Encoded):
        return model.made(model.step(model.given(rows["x"]), model.given(rows["y"]), given))
    lx, labels = rows.get("labelled.x", rows["x"][:0]), rows.get("labelled.y", np.zeros((0, 1))).argmax(axis=1)
    return model.made(model.step(model.given(rows["x"]), model.given(lx), torch.from_numpy(labels), given))


LIBRARY = peer.Library({"eager": ("fp32", "bf16"), "compile": ("fp32", "bf16"), "medium": ("bf16",)}, step, check=check)
