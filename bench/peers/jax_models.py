"""Training steps of the semi-supervised and the clustering model in JAX: compiled whole, their state donated.

As in `jax_peer.py`. Noise, dropout and draws of the priors are made in the compiled step; a check gives them instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peer
import protocol
import works
from jax import Array
from jax.nn import log_softmax, one_hot, relu, sigmoid, softmax, softplus
from jax_nets import Moments, Net, adam, apply, configure, dense, mlp, moments
from works import Work

RANDOM = "unsafe_rbg"  # of the kinds of random numbers the fastest on a CPU
EPS = 1e-5  # of batch norm, PyTorch's and aaecore's
Nets = dict[str, Any]  # layers by name; of a trunk with batch norm "weights" and "norms", (gamma, shift)
State = tuple[Nets, dict[str, Moments], Array]
Drawn = dict[str, Any] | None


def initial(work: Work) -> State:
    keys = iter(jax.random.split(jax.random.key(0, impl=RANDOM), 8))
    width, both = (work.hidden, work.hidden), work.classes + work.latent
    nets: Nets = {
        "trunk": mlp(next(keys), work.inputs, *width),
        "label_head": mlp(next(keys), work.hidden, work.classes),
        "style_head": mlp(next(keys), work.hidden, work.latent),
        "decoder": mlp(next(keys), both, *width, work.inputs),
        "label_critic": mlp(next(keys), work.classes, *width, 1),
        "style_critic": mlp(next(keys), work.latent, *width, 1),
    }
    if work.batch_norm:
        weights = [weight for weight, _ in nets["trunk"]]
        nets["trunk"] = {"weights": weights, "norms": [(jnp.ones(n), jnp.zeros(n)) for n in width]}
    tables = {phase: moments({n: nets[n] for n in moved}) for phase, moved in works.phases(work).items() if moved}
    return nets, tables, next(keys)


def normalise(x: Array, gamma: Array, shift: Array) -> Array:
    mean = x.mean(axis=0)
    away = x - mean
    return away * (gamma * jax.lax.rsqrt((away * away).mean(axis=0) + EPS)) + shift


class Step:
    """The losses of one step, of a work and a precision."""

    def __init__(self, work: Work, precision: str) -> None:
        self.work, self.run, self.dense = work, partial(apply, precision=precision), partial(dense, precision=precision)

    def trunk(self, net: Any, x: Array) -> Array:
        if self.work.batch_norm:
            none = jnp.zeros((), x.dtype)
            for weight, norm in zip(net["weights"], net["norms"], strict=True):
                x = relu(normalise(self.dense(x, weight, none), *norm))
            return x
        for layer in net:
            x = relu(self.dense(x, *layer))
        return x

    def corrupt(self, x: Array, key: Array, drawn: Drawn) -> Array:
        noise, dropped = jax.random.split(key)
        if self.work.noise:
            x = x + self.work.noise * (jax.random.normal(noise, x.shape) if drawn is None else drawn["noise"])
        if self.work.dropout and drawn is None:
            x = jnp.where(jax.random.bernoulli(dropped, 1 - self.work.dropout, x.shape), x / (1 - self.work.dropout), 0)
        elif self.work.dropout:
            x = x * drawn["keep"]
        return x

    def code(self, nets: Nets, x: Array) -> tuple[Array, Array]:
        """Of x that is corrupt."""
        h = self.trunk(nets["trunk"], x)
        return softmax(self.run(nets["label_head"], h)), self.run(nets["style_head"], h)

    def distance(self, decoder: Net, y: Array, z: Array, x: Array) -> Array:
        """Half the squared error of a sigmoid, summed over features, a mean over the rows."""
        return 0.5 * ((sigmoid(self.run(decoder, jnp.concatenate([y, z], axis=1))) - x) ** 2).sum() / len(x)

    def told_apart(self, critics: Nets, real: tuple[Array, Array], fake: tuple[Array, Array]) -> Array:
        total = jnp.zeros(())
        for name, r, f in zip(("label_critic", "style_critic"), real, fake, strict=True):
            logits = self.run(critics[name], jnp.concatenate([r, f]))
            total += softplus(-logits[: len(r)]).mean() + softplus(logits[len(r) :]).mean()
        return total

    def deceived(self, critics: Nets, codes: tuple[Array, Array]) -> Array:
        y, z = codes
        deceived = softplus(-self.run(critics["label_critic"], y)).mean()
        return deceived + softplus(-self.run(critics["style_critic"], z)).mean()

    def draw(self, key: Array, drawn: Drawn) -> tuple[Array, Array]:
        if drawn is not None:
            return drawn["y"], drawn["z"]
        of_y, of_z = jax.random.split(key)
        work = self.work
        y = one_hot(jax.random.randint(of_y, (work.batch,), 0, work.classes), work.classes)
        return y, jax.random.normal(of_z, (work.batch, work.latent))

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        return -jnp.take_along_axis(log_softmax(logits), labels[:, None], axis=1).mean()


def chosen(nets: Nets, *names: str) -> Nets:
    return {name: nets[name] for name in names}


def in_turn(
    state: State, x: Array, lx: Array, labels: Array, drawn: Drawn = None, *, work: Work, precision: str = "fp32"
) -> tuple[State, Array]:
    """The phases of the paper; the losses come as one array."""
    nets, tables, key = state
    one, moved, drawn = Step(work, precision), works.phases(work), drawn or {}
    key, *keys = jax.random.split(key, 5)
    nets, tables = dict(nets), dict(tables)
    losses = []

    def update(phase: str, gradients: Nets) -> None:
        new, tables[phase] = adam(chosen(nets, *moved[phase]), gradients, tables[phase])
        nets.update(new)

    def minimise(phase: str, loss: Callable[[Nets], Array]) -> None:
        value, gradients = jax.value_and_grad(loss)(chosen(nets, *moved[phase]))
        losses.append(value)
        update(phase, gradients)

    noisy = one.corrupt(x, keys[0], drawn.get("reconstruction"))
    minimise("reconstruction", lambda own: one.distance(own["decoder"], *one.code(own, noisy), x))

    again = one.corrupt(x, keys[1], drawn.get("code"))
    codes, pull_back = jax.vjp(lambda own: one.code(own, again), chosen(nets, *moved["generator"]))
    real = one.draw(keys[2], drawn.get("priors"))
    minimise("discriminator", lambda own: one.told_apart(own, real, codes))
    value, gradient = jax.value_and_grad(lambda codes: one.deceived(nets, codes))(codes)
    losses.append(value)
    update("generator", pull_back(gradient)[0])

    if work.labelled:
        noisy_lx = one.corrupt(lx, keys[3], drawn.get("classification"))

        def classification(own: Nets) -> Array:
            return one.cross_entropy(one.run(own["label_head"], one.trunk(own["trunk"], noisy_lx)), labels)

        minimise("classification", classification)
    return (nets, tables, key), jnp.stack(losses)


def together(
    state: State, x: Array, lx: Array, labels: Array, drawn: Drawn = None, *, work: Work, precision: str = "fp32"
) -> tuple[State, Array]:
    """One update of all but the discriminators, then theirs."""
    nets, tables, key = state
    one, moved, drawn = Step(work, precision), works.phases(work), drawn or {}
    key, noise, draws = jax.random.split(key, 3)
    noisy = one.corrupt(jnp.concatenate([x, lx]) if work.labelled else x, noise, drawn.get("reconstruction"))

    def all_losses(own: Nets) -> tuple[Array, tuple[Any, ...]]:
        h = one.trunk(own["trunk"], noisy)
        logits, z = one.run(own["label_head"], h), one.run(own["style_head"], h[: len(x)])
        y = softmax(logits[: len(x)])
        reconstruction, generator = one.distance(own["decoder"], y, z, x), one.deceived(nets, (y, z))
        said, weighed = [generator], works.GENERATOR * generator
        if work.labelled:
            said.append(one.cross_entropy(logits[len(x) :], labels))
            weighed += works.CLASSIFICATION * said[1]
        return reconstruction + jax.lax.stop_gradient(reconstruction) * weighed, (reconstruction, said, (y, z))

    own, critics = (chosen(nets, *moved[phase]) for phase in ("reconstruction", "discriminator"))
    (_, (reconstruction, said, codes)), gradients = jax.value_and_grad(all_losses, has_aux=True)(own)
    own, first = adam(own, gradients, tables["reconstruction"])
    real = one.draw(draws, drawn.get("priors"))
    discriminator, gradients = jax.value_and_grad(lambda own: one.told_apart(own, real, codes))(critics)
    critics, second = adam(critics, gradients, tables["discriminator"])
    new = ({**own, **critics}, {"reconstruction": first, "discriminator": second}, key)
    return new, jnp.stack([reconstruction, discriminator, *said])


def start(options: peer.Options) -> partial[tuple[State, Array]]:
    """What makes a step; called before JAX computes anything."""
    configure(options)
    made = together if options.size.joint else in_turn
    return partial(made, work=options.size, precision=options.precision)


def step(options: peer.Options, xs: protocol.Arrays) -> peer.Timed:
    one, work = start(options), options.size
    rows = works.labelled_batches(work, len(xs))
    batches = [(jnp.asarray(x), jnp.asarray(lx), jnp.asarray(y)) for x, (lx, y) in zip(xs, rows, strict=True)]
    state = initial(work)
    if options.variant == "scan":
        many = jax.jit(lambda state, batches: jax.lax.scan(lambda s, b: one(s, *b), state, batches), donate_argnums=0)
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches)

        def scan() -> None:
            nonlocal state
            state, losses = many(state, stacked)
            losses.block_until_ready()

        return peer.Timed(scan, len(batches))
    compiled, turns = jax.jit(one, donate_argnums=0), cycle(batches)

    def jit() -> None:
        nonlocal state
        state, losses = compiled(state, *next(turns))
        losses.block_until_ready()

    return peer.Timed(jit)


# --- a check ----------------------------------------------------------------------------------------------------------


@cache
def single(work: Work, precision: str, variant: str) -> Callable[..., tuple[State, Array]]:
    """The step (state, inputs) of a check, the same function for every state, so that it is compiled once."""
    one = partial(together if work.joint else in_turn, work=work, precision=precision)
    if variant == "jit":
        return jax.jit(lambda state, inputs: one(state, *inputs))

    def scan(state: State, inputs: Any) -> tuple[State, Array]:
        return jax.lax.scan(lambda s, i: one(s, *i), state, jax.tree.map(lambda a: a[None], inputs))

    return jax.jit(scan)


def check(options: peer.Options, given: protocol.State) -> protocol.Stepped:
    start(options)
    work, real = options.size, jnp.float64 if options.precision == "fp64" else jnp.float32

    def net(values: dict[str, np.ndarray], network: str) -> Any:
        count = sum(name.startswith(f"{network}.") and name.endswith(".weight") for name in values)
        places = [f"{network}.{i}" for i in range(count)]
        layers = [(jnp.array(values[f"{p}.weight"].T, real), jnp.array(values[f"{p}.bias"], real)) for p in places]
        if network != "trunk" or not work.batch_norm:
            return layers
        norms = [tuple(jnp.array(values[f"{p}.norm.{kind}"], real) for kind in ("gamma", "shift")) for p in places]
        return {"weights": [weight for weight, _ in layers], "norms": norms}

    networks = dict.fromkeys(name.split(".", 1)[0] for name in given.weights)
    nets = {network: net(given.weights, network) for network in networks}
    tables = {}
    for phase, moved in works.phases(work).items():
        if moved:
            both = [{n: net({k: v[i] for k, v in given.moments[phase].items()}, n) for n in moved} for i in (0, 1)]
            tables[phase] = (*both, jnp.array(given.steps[phase], jnp.int32))
    rows, drawn = protocol.unfold(given.inputs)
    floats = partial(jax.tree.map, lambda a: jnp.array(a, real))
    lx, labels = rows.get("labelled.x", rows["x"][:0]), rows.get("labelled.y", np.zeros((0, 1))).argmax(axis=1)
    inputs = (floats(rows["x"]), floats(lx), jnp.array(labels), floats(drawn))
    start_state = (nets, tables, jax.random.key(0, impl=RANDOM))
    (nets, tables, _), losses = single(work, options.precision, options.variant)(start_state, inputs)
    return protocol.Stepped(
        named(nets),
        [float(v) for v in losses.reshape(-1)],
        {
            phase: {n: (m, v) for (n, m), v in zip(named(first).items(), named(second).values(), strict=True)}
            for phase, (first, second, _) in tables.items()
        },
    )


def named(nets: Nets) -> dict[str, np.ndarray]:
    """Arrays by aaecore's names, in its layout."""
    made = {}
    for network, net in nets.items():
        if isinstance(net, dict):
            for i, (weight, (gamma, shift)) in enumerate(zip(net["weights"], net["norms"], strict=True)):
                made |= {f"{network}.{i}.weight": weight.T, f"{network}.{i}.norm.gamma": gamma}
                made[f"{network}.{i}.norm.shift"] = shift
        else:
            for i, (weight, bias) in enumerate(net):
                made |= {f"{network}.{i}.weight": weight.T, f"{network}.{i}.bias": bias}
    return {name: np.asarray(array) for name, array in made.items()}


LIBRARY = peer.Library(dict.fromkeys(("jit", "scan"), ("fp32", "bf16")), step, check=check)
