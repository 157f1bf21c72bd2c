"""Training steps of PyTorch, as someone who knows it would write them.

Fused Adam, gradients set to None, the discriminator frozen in the generator phase, and the codes of the discriminator
phase used again in the generator phase, since the encoder has not changed in between. Variants: `eager`, `compile`
(each phase's loss by torch.compile), and for bf16 also `medium`: float32 tensors whose products may be made in bf16,
which costs no casts. bf16 of the others is autocast over float32 weights.

With --device cuda `compile` is torch.compile's mode "reduce-overhead", that is with CUDA graphs, and `graph` a whole
step as one CUDA graph, its losses compiled. tf32 lets products of float32 be made in TF32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import cycle

import numpy as np
import peer
import protocol
import torch
import torch_models
from sizes import Size
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch_nets import TorchModel, mlp


class TorchAAE(TorchModel):
    """The model, its three optimizers, and `step`."""

    def __init__(self, size: Size, variant: str = "eager", precision: str = "fp32", device: str = "cpu") -> None:
        super().__init__(variant, precision, device)
        self.size, width = size, (size.hidden, size.hidden)
        ones = torch.ones(size.batch, 1, dtype=self.dtype, device=device)
        self.labels = torch.cat([ones, torch.zeros_like(ones)])  # real first
        networks = {
            "encoder": mlp(size.inputs, *width, size.latent),
            "decoder": mlp(size.latent, *width, size.inputs),
            "discriminator": mlp(size.latent, *width, 1),
        }
        losses = ("reconstruction_loss", "code", "discriminator_loss", "generator_loss")
        self.finish(networks, protocol.PHASES, *losses)

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
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

    def step(self, x: Tensor, z_prior: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One step on x (B, inputs); returns the reconstruction, discriminator and generator loss."""
        if self.begin_step:
            self.begin_step()
        reconstruction = self.reconstruction_loss(x)
        self.update("reconstruction", reconstruction)

        codes = self.code(x)
        if z_prior is None:
            z_prior = torch.randn(len(x), self.size.latent, dtype=self.dtype, device=self.device)
        discriminator = self.discriminator_loss(z_prior, codes.detach())
        self.update("discriminator", discriminator)

        self.discriminator.requires_grad_(False)
        generator = self.generator_loss(codes)
        self.update("generator", generator)
        self.discriminator.requires_grad_(True)
        return reconstruction, discriminator, generator


@lru_cache(maxsize=1)
def models(size: Size) -> dict[tuple[str, ...], TorchAAE]:
    """Those of a size, so that what was compiled for a check is what is timed."""
    if "torch._dynamo" in sys.modules:  # it compiles a function for eight models at most
        torch._dynamo.reset()
    return {}


def model_of(options: peer.Options) -> TorchAAE:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made, key = models(options.size), (options.variant, options.precision, options.device)
    if key not in made:
        made[key] = TorchAAE(options.size, *key)
    made[key].use()
    return made[key]


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    model, batches = model_of(options), [torch.from_numpy(x).to(options.device) for x in xs]
    turns = cycle(batches)
    one = graph_of(model, batches[0]) if options.variant == "graph" else model.step
    clock = clock_of(model, lambda: one(next(turns))) if options.device == "cuda" else None
    return peer.Timed(lambda: one(next(turns)), clock=clock)


def clock_of(model: TorchAAE, call: Callable[[], object]) -> Callable[[int], float]:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def clock(times: int) -> float:
        model.use()
        begin.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return clock


def graph_of(model: TorchAAE, first: Tensor) -> Callable[[Tensor], object]:
    """A step that replays a recorded one, x copied in."""
    x, side = first.clone(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model.step(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.step(x)

    def replay(batch: Tensor) -> None:
        x.copy_(batch)
        graph.replay()

    return replay


def epoch(options: peer.Options, rows: np.ndarray) -> peer.Timed:
    model, images, batch = model_of(options), torch.from_numpy(rows).to(options.device), options.size.batch

    def make(steps: int | None = None) -> Tensor:
        """The mean losses of an epoch, or of its last steps."""
        total = torch.zeros(3, device=images.device)
        for index in torch.randperm(len(images), device=images.device).split(batch)[-steps if steps else None :]:
            x = images.index_select(0, index).to(torch.float32).mul_(1 / 255)
            total += len(index) * torch.stack(model.step(x)).detach()
        return total / len(images)

    make(3)  # both batch sizes
    return peer.Timed(make, -(-len(images) // batch))


def check(options: peer.Options, state: protocol.State) -> protocol.Stepped:
    """Of `graph` the step that would be recorded."""
    model = model_of(options)
    model.begin(state)
    return model.made(model.step(*(model.given(state.inputs[name]) for name in ("x", "z"))))


if __name__ == "__main__":
    usual = ("fp32", "tf32", "bf16")
    variants = {"eager": usual, "compile": usual, "graph": usual, "medium": ("bf16",)}
    peer.main(peer.Library(variants, step, epoch, check, works=torch_models.LIBRARY))
