"""One whole training step from equal weights: aaecore against PyTorch in float64, beside PyTorch in float32.

    python equal_step.py --sizes a d

Three states a size: the initial one, and after 5 and after 20 steps of training by aaecore. Weights, Adam's moments and
step counts of a state are given to PyTorch, then all make one step on the same x and the same prior sample. Columns:

    update    ||dw - dw64|| / ||dw64|| over all parameters, dw being what the step adds to the weights
    tensor    the parameter where aaecore is furthest off: rms error of its update / rms update of all parameters
    far       parameters whose update is off by more than a tenth of the learning rate
    R, D, G   relative errors of the three losses

Single steps are compared because trajectories in float32 are chaotic. Adam divides a gradient by its own size, so where
a gradient is all but zero, rounding decides the direction of a whole step: a ReLU unit that flips for one sample shows
as a few updates that are far off, on either side. Hence the rule: the exit status is 1 if at some size the median over
the states of (error of aaecore / error of PyTorch float32) is above 3, or a single error of aaecore is above both 0.05
and 3 times that of PyTorch float32.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator

import numpy as np
import peer
import torch
from sizes import SIZES, Size
from steps import make_model
from torch_step import TorchAAE

import aaecore

STATES = (0, 5, 20)  # steps of training before the one that is compared
RATIO_LIMIT, ERROR_LIMIT = 3.0, 0.05
Updates = dict[str, np.ndarray]


def named(model: TorchAAE) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters by aaecore's names, which number the linear layers and not the activations between them."""
    for network in ("encoder", "decoder", "discriminator"):
        for name, parameter in getattr(model, network).named_parameters():
            index, kind = name.split(".")
            yield f"{network}.{int(index) // 2}.{kind}", parameter


def torch_twin(trainer: aaecore.Trainer, size: Size, dtype: torch.dtype) -> TorchAAE:
    """A PyTorch model with the weights, moments and step counts of a trainer."""
    twin, ours = TorchAAE(size, dtype), trainer.model.parameters
    with torch.no_grad():
        for name, parameter in named(twin):
            parameter.copy_(torch.from_numpy(ours[name].numpy()))
    for phase, optimizer in trainer.optimizers.items():
        moved = {id(p) for p in twin.optimizers[phase].param_groups[0]["params"]}
        for name, parameter in named(twin):
            if id(parameter) in moved and optimizer.steps:
                m, v = (trainer.backend.to_host(optimizer.moments[k][id(ours[name])]) for k in ("m", "v"))
                twin.optimizers[phase].state[parameter] = {
                    "step": torch.tensor(float(optimizer.steps)),
                    "exp_avg": torch.from_numpy(m).to(dtype),
                    "exp_avg_sq": torch.from_numpy(v).to(dtype),
                }
    return twin


def our_step(trainer: aaecore.Trainer, x: np.ndarray, z: np.ndarray) -> tuple[Updates, list[float]]:
    before = trainer.model.state_dict()
    losses = trainer.step(x, z_prior=z)
    after = trainer.model.state_dict()
    updates = {name: after[name].astype(np.float64) - before[name] for name in before}
    return updates, [losses.reconstruction, losses.discriminator, losses.generator]


def torch_step(twin: TorchAAE, x: np.ndarray, z: np.ndarray) -> tuple[Updates, list[float]]:
    before = {name: p.detach().clone() for name, p in named(twin)}
    losses = twin.step(torch.from_numpy(x).to(twin.dtype), torch.from_numpy(z).to(twin.dtype))
    updates = {name: (p.detach().double() - before[name].double()).numpy() for name, p in named(twin)}
    return updates, [float(loss.detach()) for loss in losses]


def rms(arrays: Iterable[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([a.reshape(-1) for a in arrays]) ** 2)))


def relative(updates: Updates, exact: Updates, names: Iterable[str] | None = None) -> float:
    """The rms error of the update, of all parameters or of some, by the rms update of all."""
    return rms(updates[n] - exact[n] for n in (exact if names is None else names)) / rms(exact.values())


def far_off(updates: Updates, exact: Updates) -> int:
    return sum(int(np.sum(np.abs(updates[name] - exact[name]) > 0.1 * peer.LR)) for name in exact)


def loss_errors(losses: list[float], exact: list[float]) -> str:
    return " ".join(f"{abs(a - b) / abs(b):.0e}" for a, b in zip(losses, exact, strict=True))


def compare(name: str) -> list[tuple[float, float]]:
    """Prints a line per state; returns the errors of aaecore's and of PyTorch's updates in float32."""
    size, errors = SIZES[name], []
    trainer = aaecore.Trainer(make_model(size), batch_size=size.batch, lr=peer.LR)
    rng = np.random.default_rng(1)
    xs = peer.batches(size, max(STATES) + len(STATES))
    for state in STATES:
        while trainer.steps < state:
            trainer.step(xs[trainer.steps])
        x, z = xs[trainer.steps], rng.standard_normal((size.batch, size.latent)).astype(np.float32)
        double, single = (torch_twin(trainer, size, dtype) for dtype in (torch.float64, torch.float32))
        exact, exact_losses = torch_step(double, x, z)
        theirs, their_losses = torch_step(single, x, z)
        ours, our_losses = our_step(trainer, x, z)
        errors.append((relative(ours, exact), relative(theirs, exact)))
        by_tensor = {n: relative(ours, exact, [n]) for n in exact}
        worst = max(by_tensor, key=by_tensor.__getitem__)
        print(
            f"{name:>4} {state:>5}  {errors[-1][0]:>9.1e} {errors[-1][1]:>9.1e}  "
            f"{far_off(ours, exact):>6} {far_off(theirs, exact):>6}  "
            f"{loss_errors(our_losses, exact_losses)}  {loss_errors(their_losses, exact_losses)}  "
            f"{by_tensor[worst]:.1e} {relative(theirs, exact, [worst]):.1e} {worst}",
            flush=True,
        )
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE")
    options = parser.parse_args()
    print(
        f"{'size':>4} {'steps':>5}  {'update':>9} {'torch32':>9}  {'far':>6} {'torch':>6}  "
        f"{'R     D     G':<17}  {'torch32':<17}  tensor torch32"
    )
    bad = []
    for name in options.sizes:
        errors = compare(name)
        ratio = statistics.median(ours / theirs for ours, theirs in errors)
        if ratio > RATIO_LIMIT or any(o > max(ERROR_LIMIT, RATIO_LIMIT * t) for o, t in errors):
            bad.append(f"{name} (median ratio {ratio:.1f})")
    if bad:
        raise SystemExit(f"too far from float64: {', '.join(bad)}")


if __name__ == "__main__":
    main()
