"""A training step of PyTorch in eager mode, as someone who knows it would write it.

Fused Adam, gradients set to None, the discriminator frozen in the generator phase, and the codes of the discriminator
phase used again in the generator phase, since the encoder has not changed in between.
"""

from __future__ import annotations

from itertools import cycle

import peer
import torch
from sizes import Size
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first, second, last = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True), last)


class TorchAAE:
    """The model, its three optimizers, and `step`."""

    def __init__(self, size: Size, dtype: torch.dtype = torch.float32) -> None:
        self.encoder = mlp(size.inputs, size.hidden, size.latent).to(dtype)
        self.decoder = mlp(size.latent, size.hidden, size.inputs).to(dtype)
        self.discriminator = mlp(size.latent, size.hidden, 1).to(dtype)
        adam = {"lr": peer.LR, "betas": (peer.BETA1, peer.BETA2), "eps": peer.EPS, "fused": True}
        self.optimizers = {
            "reconstruction": torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], **adam),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), **adam),
            "generator": torch.optim.Adam(self.encoder.parameters(), **adam),
        }
        self.size, self.dtype = size, dtype
        ones = torch.ones(size.batch, 1, dtype=dtype)
        self.real, self.real_then_codes = ones, torch.cat([ones, torch.zeros_like(ones)])

    def _update(self, phase: str, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[phase].step()
        self.optimizers[phase].zero_grad(set_to_none=True)

    def step(self, x: Tensor, z_prior: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One step on x (B, inputs); returns the reconstruction, discriminator and generator loss."""
        batch = self.size.batch
        reconstruction = bce(self.decoder(self.encoder(x)), x, reduction="sum") / batch
        self._update("reconstruction", reconstruction)

        codes = self.encoder(x)
        if z_prior is None:
            z_prior = torch.randn(batch, self.size.latent, dtype=self.dtype)
        logits = self.discriminator(torch.cat([z_prior, codes.detach()]))
        discriminator = bce(logits, self.real_then_codes, reduction="sum") / batch  # a mean over each half, added
        self._update("discriminator", discriminator)

        self.discriminator.requires_grad_(False)
        generator = bce(self.discriminator(codes), self.real)
        self._update("generator", generator)
        self.discriminator.requires_grad_(True)
        return reconstruction, discriminator, generator


def make(size: Size, variant: str, threads: int) -> peer.Timed:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, xs = TorchAAE(size), cycle([torch.from_numpy(x) for x in peer.batches(size)])
    return peer.Timed(lambda: model.step(next(xs)))


if __name__ == "__main__":
    peer.main(make, ["eager"])
