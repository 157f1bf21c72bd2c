"""What all models of JAX share: fully connected networks, their precision, and Adam."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import peer
import protocol
from jax import Array

Net = list[tuple[Array, Array]]  # (weight (in, out), bias) per layer
Moments = tuple[Any, Any, Array]  # first, second, step count


def mlp(key: Array, *features: int) -> Net:
    net = []
    for inputs, outputs in pairwise(features):
        key, kw, kb = jax.random.split(key, 3)
        bound = inputs**-0.5
        weight = jax.random.uniform(kw, (inputs, outputs), minval=-bound, maxval=bound)
        net.append((weight, jax.random.uniform(kb, (outputs,), minval=-bound, maxval=bound)))
    return net


def dense(x: Array, weight: Array, bias: Array, precision: str) -> Array:
    if precision == "bf16-both-ways":
        return bf16_product(x, weight) + bias
    if precision == "bf16":
        x, weight = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    bits = jax.lax.Precision.HIGH if precision == "tf32" else jax.lax.Precision.HIGHEST
    return jnp.dot(x, weight, precision=bits, preferred_element_type=bias.dtype) + bias


def _bf16_dot(a: Array, b: Array) -> Array:
    return jnp.dot(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


@jax.custom_vjp
def bf16_product(x: Array, weight: Array) -> Array:
    """Gradients are rounded to bfloat16 as well: the transpose of `jnp.dot` would widen the weights instead."""
    return _bf16_dot(x, weight)


bf16_product.defvjp(
    lambda x, weight: (_bf16_dot(x, weight), (x, weight)),
    lambda saved, dy: (_bf16_dot(dy, saved[1].T), _bf16_dot(saved[0].T, dy)),
)


def apply(net: Net, x: Array, precision: str) -> Array:
    for layer in net[:-1]:
        x = jax.nn.relu(dense(x, *layer, precision))
    return dense(x, *net[-1], precision)


def moments(parameters: Any) -> Moments:
    return jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), jnp.int32)


def adam(parameters: Any, gradients: Any, state: Moments) -> tuple[Any, Moments]:
    first, second, count = state
    count = count + 1
    first = jax.tree.map(lambda m, g: protocol.BETA1 * m + (1 - protocol.BETA1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: protocol.BETA2 * v + (1 - protocol.BETA2) * g * g, second, gradients)
    rate = protocol.LR / (1 - protocol.BETA1**count)
    correction = jax.lax.rsqrt(1 - protocol.BETA2**count)
    moved = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) * correction + protocol.EPS), parameters, first, second
    )
    return moved, (first, second, count)


def configure(options: peer.Options) -> None:
    """Device, precision and threads; called before JAX computes anything."""
    jax.config.update("jax_platforms", options.device)
    jax.config.update("jax_enable_x64", options.precision == "fp64")
    if options.device == "cpu":
        # XLA makes one thread per core that the process may use, when it is used first: after this line.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
