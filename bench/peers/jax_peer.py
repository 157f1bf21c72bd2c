"""Training steps of JAX, compiled whole with their state donated: `jit` (one step a call) or `scan` (many).

bf16 makes the products of bf16 copies of float32 weights, with float32 sums. tf32 lets a GPU make them in TF32, as it
would by default; everything else asks for all bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from itertools import cycle

import jax
import jax.numpy as jnp
import jax_models
import numpy as np
import peer
import protocol
from jax import Array
from jax.nn import softplus
from jax_nets import Moments, Net, adam, apply, configure, mlp, moments
from sizes import Size

SCANNED = 8  # times that a scan goes through the batches on a GPU
State = tuple[Net, Net, Net, Moments, Moments, Moments, Array]


def initial(size: Size) -> State:
    ke, kd, kz, key = jax.random.split(jax.random.key(0), 4)
    encoder = mlp(ke, size.inputs, size.hidden, size.hidden, size.latent)
    decoder = mlp(kd, size.latent, size.hidden, size.hidden, size.inputs)
    discriminator = mlp(kz, size.latent, size.hidden, size.hidden, 1)
    optimizers = moments((encoder, decoder)), moments(discriminator), moments(encoder)
    return encoder, decoder, discriminator, *optimizers, key


def train(state: State, x: Array, z_prior: Array | None = None, *, precision: str = "fp32") -> tuple[State, Array]:
    """One step on x (B, inputs); the losses come as one array."""
    encoder, decoder, discriminator, reconstructing, judging, generating, key = state
    batch, latent = len(x), decoder[0][0].shape[0]
    run = partial(apply, precision=precision)

    def reconstruction(nets: tuple[Net, Net]) -> Array:
        logits = run(nets[1], run(nets[0], x))
        return (softplus(logits) - logits * x).sum() / batch

    first, gradients = jax.value_and_grad(reconstruction)((encoder, decoder))
    (encoder, decoder), reconstructing = adam((encoder, decoder), gradients, reconstructing)

    if z_prior is None:
        key, draw = jax.random.split(key)
        z_prior = jax.random.normal(draw, (batch, latent))
    codes, pull_back = jax.vjp(lambda net: run(net, x), encoder)

    def separation(net: Net) -> Array:
        logits = run(net, jnp.concatenate([z_prior, codes]))
        return softplus(-logits[:batch]).mean() + softplus(logits[batch:]).mean()

    second, gradients = jax.value_and_grad(separation)(discriminator)
    discriminator, judging = adam(discriminator, gradients, judging)

    third, gradient = jax.value_and_grad(lambda z: softplus(-run(discriminator, z)).mean())(codes)
    encoder, generating = adam(encoder, pull_back(gradient)[0], generating)
    new = (encoder, decoder, discriminator, reconstructing, judging, generating, key)
    return new, jnp.stack([first, second, third])


def start(options: peer.Options) -> partial[tuple[State, Array]]:
    """What makes a step; called before JAX computes anything."""
    configure(options)
    if options.device == "cuda":
        return partial(train, precision="bf16-both-ways" if options.precision == "bf16" else options.precision)
    return partial(train, precision=options.precision)


def clock_of(options: peer.Options, call: Callable[[], Array]) -> Callable[[int], float] | None:
    """On a GPU, whose work is waited for once after many calls, by the host's clock."""

    def clock(times: int) -> float:
        jax.config.update("jax_enable_x64", options.precision == "fp64")
        begin = time.perf_counter()
        for _ in range(times):
            losses = call()
        losses.block_until_ready()
        return time.perf_counter() - begin

    return clock if options.device == "cuda" else None


def step(options: peer.Options, batches: protocol.Arrays) -> peer.Timed:
    one = start(options)
    state, xs = initial(options.size), [jnp.asarray(x) for x in batches]
    if options.variant == "scan":
        many = jax.jit(lambda state, xs: jax.lax.scan(one, state, xs), donate_argnums=0)
        stacked = jnp.stack(xs * (SCANNED if options.device == "cuda" else 1))

        def scan() -> Array:
            nonlocal state
            state, losses = many(state, stacked)
            return losses

        return peer.Timed(lambda: scan().block_until_ready(), len(stacked), clock_of(options, scan))
    compiled, turns = jax.jit(one, donate_argnums=0), cycle(xs)

    def jit() -> Array:
        nonlocal state
        state, losses = compiled(state, next(turns))
        return losses

    return peer.Timed(lambda: jit().block_until_ready(), clock=clock_of(options, jit))


def epoch(options: peer.Options, rows: np.ndarray) -> peer.Timed:
    """`scan`: all full batches of an epoch in one call; `jit`: a call for each. The gather is in the compiled step."""
    one, batch = start(options), options.size.batch
    images, state = jnp.asarray(rows), initial(options.size)
    rng, full = np.random.default_rng(0), len(rows) // batch * batch

    def gather_and_train(images: Array, state: State, index: Array) -> tuple[State, Array]:
        x = jnp.take(images, index, axis=0, mode="clip").astype(jnp.float32) * (1 / 255)
        state, losses = one(state, x)
        return state, losses * len(index)

    def scan(images: Array, state: State, table: Array) -> tuple[State, Array]:
        return jax.lax.scan(partial(gather_and_train, images), state, table)

    index = np.zeros(full, np.int32).reshape(-1, batch)
    single = jax.jit(gather_and_train, donate_argnums=1)
    many = jax.jit(scan, donate_argnums=1).lower(images, state, index).compile()
    state, _ = single(images, state, index[0])
    state, _ = single(images, state, np.zeros(len(rows) - full, np.int32)) if full < len(rows) else (state, None)

    def make() -> np.ndarray:
        """The mean losses of an epoch."""
        nonlocal state
        order, made = rng.permutation(len(rows)).astype(np.int32), []
        table = order[:full].reshape(-1, batch)
        if options.variant == "scan":
            state, losses = many(images, state, table)
            made.append(losses)
        else:
            for index in table:
                state, losses = single(images, state, index)
                made.append(losses)
        if full < len(rows):
            state, losses = single(images, state, order[full:])
            made.append(losses)
        return np.sum([np.atleast_2d(losses).sum(0) for losses in jax.device_get(made)], axis=0) / len(rows)

    return peer.Timed(make, -(-len(rows) // batch))


@cache
def single(variant: str, precision: str) -> Callable[..., tuple[State, Array]]:
    """The step (state, x, z prior) of a check, the same function for every state, so that it is compiled once."""
    one = partial(train, precision=precision)
    if variant != "scan":
        return jax.jit(one)
    return jax.jit(lambda s, x, z: jax.lax.scan(lambda s, v: one(s, *v), s, (x[None], z[None])))


def check(options: peer.Options, given: protocol.State) -> protocol.Stepped:
    """On a GPU, where it takes long to compile, of `scan` the step that is repeated."""
    precision = start(options).keywords["precision"]
    real = jnp.float64 if options.precision == "fp64" else jnp.float32

    def net(values: dict[str, np.ndarray], network: str) -> Net:
        layers = [(values[w].T, values[b]) for w, b in protocol.layer_names(network)]
        return [tuple(jnp.array(a, real) for a in layer) for layer in layers]

    def table(phase: str) -> Moments:
        pairs, networks = given.moments[phase], protocol.PHASES[phase]
        both = [[net({n: p[i] for n, p in pairs.items()}, network) for network in networks] for i in (0, 1)]
        first, second = (tuple(nets) if len(nets) > 1 else nets[0] for nets in both)
        return first, second, jnp.array(given.steps[phase], jnp.int32)

    state = (*(net(given.weights, n) for n in ("encoder", "decoder", "discriminator")), *map(table, protocol.PHASES))
    x, z = (jnp.array(given.inputs[name], real) for name in ("x", "z"))
    variant = options.variant if options.device == "cpu" else "jit"
    state, losses = single(variant, precision)((*state, jax.random.key(0)), x, z)
    weights = {}
    for network, layers in zip(("encoder", "decoder", "discriminator"), state, strict=False):
        for names, (weight, bias) in zip(protocol.layer_names(network), layers, strict=True):
            weights |= dict(zip(names, (np.asarray(weight).T, np.asarray(bias)), strict=True))
    return protocol.Stepped(weights, [float(v) for v in losses.reshape(-1)])


if __name__ == "__main__":
    variants = dict.fromkeys(("jit", "scan"), ("fp32", "tf32", "bf16"))
    peer.main(peer.Library(variants, step, epoch, check, works=jax_models.LIBRARY))
