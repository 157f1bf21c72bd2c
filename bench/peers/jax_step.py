"""A training step of JAX, compiled whole with its state donated: jit (one step a call) or scan (many steps a call)."""

from __future__ import annotations

import os
from itertools import cycle, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import peer
from jax import Array
from jax.nn import softplus
from sizes import Size

Net = list[tuple[Array, Array]]  # (weight (in, out), bias) per layer
Moments = tuple[Any, Any, Array]  # first, second, step count
State = tuple[Net, Net, Net, Moments, Moments, Moments, Array]


def mlp(key: Array, *features: int) -> Net:
    net = []
    for inputs, outputs in pairwise(features):
        key, kw, kb = jax.random.split(key, 3)
        bound = inputs**-0.5
        weight = jax.random.uniform(kw, (inputs, outputs), minval=-bound, maxval=bound)
        net.append((weight, jax.random.uniform(kb, (outputs,), minval=-bound, maxval=bound)))
    return net


def apply(net: Net, x: Array) -> Array:
    for weight, bias in net[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ net[-1][0] + net[-1][1]


def moments(parameters: Any) -> Moments:
    return jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), jnp.int32)


def adam(parameters: Any, gradients: Any, state: Moments) -> tuple[Any, Moments]:
    first, second, count = state
    count = count + 1
    first = jax.tree.map(lambda m, g: peer.BETA1 * m + (1 - peer.BETA1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: peer.BETA2 * v + (1 - peer.BETA2) * g * g, second, gradients)
    rate = peer.LR / (1 - peer.BETA1**count)
    correction = jax.lax.rsqrt(1 - peer.BETA2**count)
    moved = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) * correction + peer.EPS), parameters, first, second
    )
    return moved, (first, second, count)


def initial(size: Size) -> State:
    ke, kd, kz, key = jax.random.split(jax.random.key(0), 4)
    encoder = mlp(ke, size.inputs, size.hidden, size.hidden, size.latent)
    decoder = mlp(kd, size.latent, size.hidden, size.hidden, size.inputs)
    discriminator = mlp(kz, size.latent, size.hidden, size.hidden, 1)
    optimizers = moments((encoder, decoder)), moments(discriminator), moments(encoder)
    return encoder, decoder, discriminator, *optimizers, key


def step(state: State, x: Array) -> tuple[State, Array]:
    """One step on x (B, inputs); the losses come as one array."""
    encoder, decoder, discriminator, reconstructing, judging, generating, key = state
    batch, latent = len(x), decoder[0][0].shape[0]

    def reconstruction(nets: tuple[Net, Net]) -> Array:
        logits = apply(nets[1], apply(nets[0], x))
        return (softplus(logits) - logits * x).sum() / batch

    first, gradients = jax.value_and_grad(reconstruction)((encoder, decoder))
    (encoder, decoder), reconstructing = adam((encoder, decoder), gradients, reconstructing)

    key, draw = jax.random.split(key)
    z_prior = jax.random.normal(draw, (batch, latent))
    codes, pull_back = jax.vjp(lambda net: apply(net, x), encoder)

    def separation(net: Net) -> Array:
        logits = apply(net, jnp.concatenate([z_prior, codes]))
        return softplus(-logits[:batch]).mean() + softplus(logits[batch:]).mean()

    second, gradients = jax.value_and_grad(separation)(discriminator)
    discriminator, judging = adam(discriminator, gradients, judging)

    third, gradient = jax.value_and_grad(lambda z: softplus(-apply(discriminator, z)).mean())(codes)
    encoder, generating = adam(encoder, pull_back(gradient)[0], generating)
    new = (encoder, decoder, discriminator, reconstructing, judging, generating, key)
    return new, jnp.stack([first, second, third])


def make(size: Size, variant: str, threads: int) -> peer.Timed:
    jax.config.update("jax_platforms", "cpu")
    # XLA makes one thread per core that the process may use, when it is used first: after this line.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    state, xs = initial(size), [jnp.asarray(x) for x in peer.batches(size)]
    if variant == "scan":
        many = jax.jit(lambda state, xs: jax.lax.scan(step, state, xs), donate_argnums=0)
        stacked = jnp.stack(xs)

        def scan() -> None:
            nonlocal state
            state, losses = many(state, stacked)
            losses.block_until_ready()

        return peer.Timed(scan, len(xs))
    one, turns = jax.jit(step, donate_argnums=0), cycle(xs)

    def jit() -> None:
        nonlocal state
        state, losses = one(state, next(turns))
        losses.block_until_ready()

    return peer.Timed(jit)


if __name__ == "__main__":
    peer.main(make, ["jit", "scan"])
