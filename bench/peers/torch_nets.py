"""What all models of PyTorch share: their precision, optimizers and updates, and how a check gives them a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import protocol
import torch
from torch import Tensor, nn


def hidden(*features: int, batch_norm: bool = False) -> list[nn.Module]:
    """Layers with the activation after each."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(features):
        norm = [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers += [nn.Linear(inputs, outputs, bias=not batch_norm), *norm, nn.ReLU(inplace=True)]
    return layers


def mlp(*features: int) -> nn.Sequential:
    return nn.Sequential(*hidden(*features[:-1]), nn.Linear(*features[-2:]))


class TorchModel:
    """Networks as attributes, an optimizer for each phase that moves some, and how products are made."""

    def __init__(self, variant: str, precision: str, device: str) -> None:
        self.dtype, self.device, self.variant = torch.float64 if precision == "fp64" else torch.float32, device, variant
        self.autocast = precision == "bf16" and variant != "medium"
        self.products = "medium" if variant == "medium" else "high" if precision == "tf32" else "highest"
        self.begin_step = torch.compiler.cudagraph_mark_step_begin if (device, variant) == ("cuda", "compile") else None
        self.use()

    def use(self) -> None:
        """How products of float32 are made is a setting of the process."""
        torch.set_float32_matmul_precision(self.products)

    def finish(self, networks: Mapping[str, nn.Module], phases: Mapping[str, tuple[str, ...]], *compiled: str) -> None:
        """Takes the networks, makes an Adam for each phase, and compiles those methods if the variant asks for it."""
        self.networks = {name: net.to(self.device, self.dtype) for name, net in networks.items()}
        for name, net in self.networks.items():
            setattr(self, name, net)
        adam = {"lr": protocol.LR, "betas": (protocol.BETA1, protocol.BETA2), "eps": protocol.EPS, "fused": True}
        adam |= {"capturable": True} if self.variant == "graph" else {}
        self.optimizers = {
            phase: torch.optim.Adam([p for name in moved for p in self.networks[name].parameters()], **adam)
            for phase, moved in phases.items()
            if moved
        }
        if self.variant in ("compile", "graph"):
            mode = "reduce-overhead" if self.begin_step else None
            for function in compiled:
                setattr(
                    self, function, torch.compile(getattr(self, function), fullgraph=True, dynamic=False, mode=mode)
                )

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            y = network(x)
        return y.to(self.dtype)

    def update(self, phase: str, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[phase].step()
        self.optimizers[phase].zero_grad(set_to_none=True)

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by aaecore's names, which number the linear layers and not what stands between them."""
        for name, net in self.networks.items():
            layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
            norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
            for i, layer in enumerate(layers):
                yield from ((f"{name}.{i}.{kind}", p) for kind, p in layer.named_parameters())
            for i, norm in enumerate(norms):
                yield from ((f"{name}.{i}.norm.gamma", norm.weight), (f"{name}.{i}.norm.shift", norm.bias))
            if not layers:
                yield from ((f"{name}.{kind}", p) for kind, p in net.named_parameters())

    def begin(self, state: protocol.State) -> None:
        """Takes weights, moments and step counts."""
        parameters = dict(self.named())
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(state.weights[name]))
        for phase, moments in state.moments.items():
            for name, (m, v) in moments.items():
                if name not in parameters:  # a bias before batch norm
                    continue
                given = {"step": torch.tensor(float(state.steps[phase])), "exp_avg": m, "exp_avg_sq": v}
                kept = self.optimizers[phase].state[parameters[name]]
                for key, value in given.items():
                    dtype = torch.float32 if key == "step" else self.dtype
                    tensor = kept.setdefault(key, torch.empty(np.shape(value), dtype=dtype, device=self.device))
                    tensor.copy_(torch.as_tensor(value))  # in place: a recorded graph knows these tensors

    def given(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, self.dtype)

    def made(self, losses: tuple[Tensor, ...]) -> protocol.Stepped:
        """What a step left: weights, losses, and the moments by phase."""
        parameters = dict(self.named())
        weights = {n: p.detach().cpu().numpy() for n, p in parameters.items()}
        moments = {
            phase: {
                n: tuple(kept[p][key].cpu().numpy() for key in ("exp_avg", "exp_avg_sq"))
                for n, p in parameters.items()
                if p in kept
            }
            for phase, kept in ((phase, optimizer.state) for phase, optimizer in self.optimizers.items())
        }
        return protocol.Stepped(weights, [float(v.detach()) for v in losses], moments)
