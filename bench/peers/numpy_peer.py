"""A training step of NumPy, written out by hand: in-place wherever that saves memory traffic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise

import numpy as np
import peer
import protocol
from sizes import Size

Array = np.ndarray


class Adam:
    def __init__(self, parameters: Sequence[Array]) -> None:
        self.parameters = parameters
        self.first = [np.zeros_like(p) for p in parameters]
        self.second = [np.zeros_like(p) for p in parameters]
        self.scratch = [np.empty_like(p) for p in parameters]
        self.count = 0

    def step(self, gradients: Sequence[Array]) -> None:
        self.count += 1
        rate = protocol.LR / (1 - protocol.BETA1**self.count)
        correction = (1 - protocol.BETA2**self.count) ** -0.5
        tables = (self.parameters, gradients, self.first, self.second, self.scratch)
        for p, g, m, v, t in zip(*tables, strict=True):
            np.multiply(g, 1 - protocol.BETA1, out=t)
            m *= protocol.BETA1
            m += t
            np.multiply(g, g, out=t)
            t *= 1 - protocol.BETA2
            v *= protocol.BETA2
            v += t
            np.sqrt(v, out=t)
            t *= correction
            t += protocol.EPS
            np.divide(m, t, out=t)
            t *= rate
            p -= t


class MLP:
    """Layers with ReLU between them; weights are (in, out)."""

    def __init__(self, rng: np.random.Generator, dtype: type[np.floating], *features: int) -> None:
        bounds = list(pairwise(features))
        self.weights = [rng.uniform(-(i**-0.5), i**-0.5, (i, o)).astype(dtype) for i, o in bounds]
        self.biases = [rng.uniform(-(i**-0.5), i**-0.5, o).astype(dtype) for i, o in bounds]
        self.parameters = [*self.weights, *self.biases]

    def forward(self, x: Array) -> list[Array]:
        """x and what every layer makes of it."""
        outputs = [x]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = outputs[-1] @ weight
            y += bias
            if i + 1 < len(self.weights):
                np.maximum(y, 0, out=y)
            outputs.append(y)
        return outputs

    def backward_input(self, outputs: Sequence[Array], dy: Array, last: int = 0) -> list[Array]:
        """Gradients of every layer's output before its ReLU, after the gradient of the input of layer `last`."""
        made = [dy]
        for i in range(len(self.weights) - 1, last - 1, -1):
            dx = made[0] @ self.weights[i].T
            if i:
                dx *= outputs[i] > 0
            made.insert(0, dx)
        return made

    def gradients(self, outputs: Sequence[Array], dys: Sequence[Array]) -> list[Array]:
        """Of `parameters`, from the layers' inputs and the gradients of their outputs."""
        return [x.T @ dy for x, dy in zip(outputs, dys, strict=False)] + [dy.sum(0) for dy in dys]


def bce(logits: Array, target: Array | float) -> tuple[float, Array]:
    """Cross-entropy summed over features and averaged over rows, and its gradient by the logits."""
    small = np.exp(-np.abs(logits))
    loss = (np.maximum(logits, 0) - logits * target + np.log1p(small)).sum() / len(logits)
    gradient = np.where(logits >= 0, 1, small) / (1 + small)
    gradient -= target
    gradient *= np.float32(1 / len(logits))
    return float(loss), gradient


class NumpyAAE:
    def __init__(self, size: Size, dtype: type[np.floating] = np.float32) -> None:
        self.rng, self.dtype = np.random.default_rng(0), dtype
        hidden = (size.hidden, size.hidden)
        self.encoder = MLP(self.rng, dtype, size.inputs, *hidden, size.latent)
        self.decoder = MLP(self.rng, dtype, size.latent, *hidden, size.inputs)
        self.discriminator = MLP(self.rng, dtype, size.latent, *hidden, 1)
        self.optimizers = {
            "reconstruction": Adam([*self.encoder.parameters, *self.decoder.parameters]),
            "discriminator": Adam(self.discriminator.parameters),
            "generator": Adam(self.encoder.parameters),
        }

    def step(self, x: Array, z_prior: Array | None = None) -> tuple[float, float, float]:
        """One step on x (B, inputs); returns the reconstruction, discriminator and generator loss."""
        encoder, decoder, discriminator = self.encoder, self.decoder, self.discriminator
        encoded = encoder.forward(x)
        decoded = decoder.forward(encoded[-1])
        reconstruction, dy = bce(decoded[-1], x)
        dz, *decoding = decoder.backward_input(decoded, dy)
        encoding = encoder.backward_input(encoded, dz, last=1)
        gradients = [*encoder.gradients(encoded, encoding), *decoder.gradients(decoded, decoding)]
        self.optimizers["reconstruction"].step(gradients)

        encoded = encoder.forward(x)
        z_prior = self.rng.standard_normal(encoded[-1].shape, self.dtype) if z_prior is None else z_prior
        judged = discriminator.forward(np.concatenate([z_prior, encoded[-1]]))
        real, dreal = bce(judged[-1][: len(x)], 1.0)
        fake, dfake = bce(judged[-1][len(x) :], 0.0)
        judging = discriminator.backward_input(judged, np.concatenate([dreal, dfake]), last=1)
        self.optimizers["discriminator"].step(discriminator.gradients(judged, judging))

        judged = discriminator.forward(encoded[-1])
        generator, dy = bce(judged[-1], 1.0)
        dz = discriminator.backward_input(judged, dy)[0]
        self.optimizers["generator"].step(encoder.gradients(encoded, encoder.backward_input(encoded, dz, last=1)))
        return reconstruction, real + fake, generator


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    model, turns = NumpyAAE(options.size), cycle(xs)
    return peer.Timed(lambda: model.step(next(turns)))


def epoch(options: peer.Options, rows: Array) -> peer.Timed:
    model, batch = NumpyAAE(options.size), options.size.batch

    def make(steps: int | None = None) -> Array:
        """The mean losses of an epoch, or of its first steps."""
        order, total = model.rng.permutation(len(rows)), np.zeros(3)
        for start in range(0, len(rows), batch)[:steps]:
            x = rows[order[start : start + batch]].astype(np.float32)
            x *= 1 / 255
            total += len(x) * np.array(model.step(x))
        return total / len(rows)

    make(3)
    return peer.Timed(make, -(-len(rows) // batch))


def check(options: peer.Options, state: protocol.State) -> protocol.Stepped:
    model = NumpyAAE(options.size, np.float64 if options.precision == "fp64" else np.float32)
    parameters: dict[str, Array] = {}
    for network in ("encoder", "decoder", "discriminator"):
        mlp = getattr(model, network)
        for (weight, bias), w, b in zip(protocol.layer_names(network), mlp.weights, mlp.biases, strict=True):
            parameters |= {weight: w.T, bias: b}  # views in aaecore's layout
    for name, parameter in parameters.items():
        parameter[...] = state.weights[name]
    places = {p.ctypes.data: name for name, p in parameters.items()}
    for phase, optimizer in model.optimizers.items():
        optimizer.count = state.steps[phase]
        for p, *both in zip(optimizer.parameters, optimizer.first, optimizer.second, strict=True):
            for own, given in zip(both, state.moments[phase][places[p.ctypes.data]], strict=True):
                own[...] = given.T
    losses = model.step(*(state.inputs[name].astype(model.dtype) for name in ("x", "z")))
    return protocol.Stepped(parameters, list(losses))


if __name__ == "__main__":
    peer.main(peer.Library({"inplace": ("fp32",)}, step, epoch, check))
