"""Training steps of PyTorch, as someone who knows it would write them.

Fused Adam, gradients set to None, the discriminator frozen in the generator phase, and the codes of the discriminator
phase used again in the generator phase, since the encoder has not changed in between. Variants: `eager`, `compile`
(each phase's loss by torch.compile), and for bf16 also `medium`: float32 tensors whose products may be made in bf16,
which costs no casts. bf16 of the others is autocast over float32 weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import peer
import protocol
import torch
from sizes import Size
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first, second, last = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True), last)


class TorchAAE:
    """The model, its three optimizers, and `step`."""

    def __init__(self, size: Size, variant: str = "eager", precision: str = "fp32") -> None:
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.autocast = precision == "bf16" and variant != "medium"
        torch.set_float32_matmul_precision("medium" if variant == "medium" else "highest")
        self.encoder = mlp(size.inputs, size.hidden, size.latent).to(self.dtype)
        self.decoder = mlp(size.latent, size.hidden, size.inputs).to(self.dtype)
        self.discriminator = mlp(size.latent, size.hidden, 1).to(self.dtype)
        adam = {"lr": protocol.LR, "betas": (protocol.BETA1, protocol.BETA2), "eps": protocol.EPS, "fused": True}
        self.optimizers = {
            "reconstruction": torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], **adam),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), **adam),
            "generator": torch.optim.Adam(self.encoder.parameters(), **adam),
        }
        self.size = size
        ones = torch.ones(size.batch, 1, dtype=self.dtype)
        self.labels = torch.cat([ones, torch.zeros_like(ones)])  # real first
        if variant == "compile":
            for function in ("reconstruction_loss", "code", "discriminator_loss", "generator_loss"):
                setattr(self, function, torch.compile(getattr(self, function), fullgraph=True, dynamic=False))

    def run(self, network: nn.Sequential, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            y = network(x)
        return y.to(self.dtype)

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.decoder(self.encoder(x))
        return bce(logits.to(self.dtype), x, reduction="sum") / len(x)

    def code(self, x: Tensor) -> Tensor:
        return self.run(self.encoder, x)

    def discriminator_loss(self, z_prior: Tensor, codes: Tensor) -> Tensor:
        """A mean over each half, added."""
        batch = len(codes)
        labels = self.labels[self.size.batch - batch : self.size.batch + batch]
        return bce(self.run(self.discriminator, torch.cat([z_prior, codes])), labels, reduction="sum") / batch

    def generator_loss(self, codes: Tensor) -> Tensor:
        return bce(self.run(self.discriminator, codes), self.labels[: len(codes)])

    def _update(self, phase: str, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[phase].step()
        self.optimizers[phase].zero_grad(set_to_none=True)

    def step(self, x: Tensor, z_prior: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One step on x (B, inputs); returns the reconstruction, discriminator and generator loss."""
        reconstruction = self.reconstruction_loss(x)
        self._update("reconstruction", reconstruction)

        codes = self.code(x)
        if z_prior is None:
            z_prior = torch.randn(len(x), self.size.latent, dtype=self.dtype)
        discriminator = self.discriminator_loss(z_prior, codes.detach())
        self._update("discriminator", discriminator)

        self.discriminator.requires_grad_(False)
        generator = self.generator_loss(codes)
        self._update("generator", generator)
        self.discriminator.requires_grad_(True)
        return reconstruction, discriminator, generator

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by aaecore's names, which number the linear layers and not the activations between them."""
        for network in ("encoder", "decoder", "discriminator"):
            for name, parameter in getattr(self, network).named_parameters():
                index, kind = name.split(".")
                yield f"{network}.{int(index) // 2}.{kind}", parameter


def model_of(options: peer.Options) -> TorchAAE:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return TorchAAE(options.size, options.variant, options.precision)


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    model, turns = model_of(options), cycle([torch.from_numpy(x) for x in xs])
    return peer.Timed(lambda: model.step(next(turns)))


def epoch(options: peer.Options, rows: np.ndarray) -> peer.Timed:
    model, images, batch = model_of(options), torch.from_numpy(rows), options.size.batch

    def make(steps: int | None = None) -> Tensor:
        """The mean losses of an epoch, or of its last steps."""
        total = torch.zeros(3)
        for index in torch.randperm(len(images)).split(batch)[-steps if steps else None :]:
            x = images.index_select(0, index).to(torch.float32).mul_(1 / 255)
            total += len(index) * torch.stack(model.step(x)).detach()
        return total / len(images)

    make(3)  # both batch sizes
    return peer.Timed(make, -(-len(images) // batch))


def check(options: peer.Options, state: protocol.State) -> protocol.Stepped:
    model = model_of(options)
    parameters = dict(model.named())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(state.weights[name]))
    for phase, moments in state.moments.items():
        for name, (m, v) in moments.items():
            model.optimizers[phase].state[parameters[name]] = {
                "step": torch.tensor(float(state.steps[phase])),
                "exp_avg": torch.from_numpy(m).to(model.dtype),
                "exp_avg_sq": torch.from_numpy(v).to(model.dtype),
            }
    losses = model.step(*(torch.from_numpy(a).to(model.dtype) for a in (state.x, state.z)))
    return protocol.Stepped({n: p.detach().numpy() for n, p in parameters.items()}, [float(v.detach()) for v in losses])


if __name__ == "__main__":
    variants = {"eager": ("fp32", "bf16"), "compile": ("fp32", "bf16"), "medium": ("bf16",)}
    peer.main(peer.Library(variants, step, epoch, check))
