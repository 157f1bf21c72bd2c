"""How probable data are to a restricted Boltzmann machine: its partition function, exactly or by sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import arguments
from ..core.memory import Buffer
from ..core.random import Generator
from ..functions import bernoulli
from ..functions.tensor import Tensor
from ..models.rbm import RBM

MOST_HIDDEN = 20  # units whose states can be enumerated: a million of them
BLOCK = 7  # units whose states, 128, are looked at at once
TEMPERATURES = 2000
LOG_2_PI = math.log(2 * math.pi)


class Estimate(NamedTuple):
    """Of log Z: what to take for it, and its standard error."""

    log_z: float
    error: float


def log_partition(rbm: RBM) -> float:
    """log Z of a machine of at most 20 hidden units, exactly: the sum over all of their states, in float64.

    Z = sum over h of e^(c.h) prod over i of (1 + e^(b_i + (h W)_i)); for Gaussian visible units, whose number is V,
    (2 pi)^(V/2) sum over h of e^(c.h + b.(h W) + |h W|^2 / 2), for data in their unit.

    Raises:
        ValueError: more hidden units. TypeError: no RBM.
    """
    w, c, b = _parameters(rbm)
    if len(c) > MOST_HIDDEN:
        raise ValueError(f"rbm: expected at most {MOST_HIDDEN} hidden units, whose states are summed, got {len(c)}")
    low, low_bias = _sums(w[:BLOCK]), _sums(c[:BLOCK, None])[:, 0]
    parts = [_log_sum(_without_hidden(rbm, low + above, b) + low_bias + bias) for above, bias in _states(w, c)]
    return _log_sum(np.array(parts))


def _states(w: np.ndarray, c: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """What each state of the units above BLOCK gives the visible units, and its own bias."""
    yield from zip(_sums(w[BLOCK:]), _sums(c[BLOCK:, None])[:, 0].tolist(), strict=True)


def _sums(rows: np.ndarray) -> np.ndarray:
    """The sum of every subset of the rows, (2^n, columns); by additions, so that no thread of a BLAS matters."""
    table = np.zeros((1, rows.shape[1]))
    for row in rows:
        table = np.concatenate((table, table + row))
    return table


def _without_hidden(rbm: RBM, pre: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log of the sum over the visible units of states of the hidden ones, which give them `pre` (N, visible)."""
    if rbm.rbm.gaussian:
        return np.asarray(len(b) / 2 * LOG_2_PI + (pre * b + pre**2 / 2).sum(axis=1))
    return _softplus_sum(pre + b)


def ais(rbm: RBM, runs: int = 100, temperatures: int | Sequence[float] = TEMPERATURES, *, seed: int = 0) -> Estimate:
    """log Z by annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008).

    Chains go from the machine without weights, whose hidden units are free and whose visible ones follow their biases,
    to the machine itself: at an inverse temperature the weights and hidden biases are that part of what they are. They
    run on the machine's device, in float32 whatever its precision; the importance weights of the runs are in float64.
    The error says how the runs differ. Where all of them miss what is probable it is small nevertheless, and log Z is
    too low: see that it does not rise with more temperatures.

    Args:
        rbm: the machine, with Bernoulli or Gaussian visible units.
        runs: independent chains, at least 2.
        temperatures: how many steps from 0 to 1, evenly; or inverse temperatures that begin at 0, rise, and end at 1.
        seed: of all draws.

    Raises:
        ValueError, TypeError: a bad argument.
    """
    _, c, b = _parameters(rbm)
    betas, runs = _checked(temperatures), arguments.count("runs", runs, 2)
    machine, rng = rbm.rbm, Generator(rbm.backend, arguments.seed(seed))
    base = len(b) / 2 * LOG_2_PI if machine.gaussian else float(_softplus_sum(b[None])[0])
    v = machine.draw(machine.down(Tensor(rbm.backend.zeros((runs, len(c)))), "fp32"), rng)
    log_weights = np.zeros(runs)
    for before, beta in pairwise(betas.tolist()):
        logits = machine.up(v, "fp32").detach()
        pre = logits.numpy().astype(np.float64)
        log_weights += _softplus_sum(beta * pre) - _softplus_sum(before * pre)
        rng.advance()
        h = bernoulli(machine.probabilities(_scaled(logits, beta)), rng)
        v = machine.draw(machine.down(_scaled(h, beta), "fp32"), rng)
    top = log_weights.max()
    ratios = np.exp(log_weights - top)
    error = ratios.std(ddof=1) / math.sqrt(runs) / ratios.mean()
    return Estimate(base + len(c) * math.log(2) + float(top) + math.log(ratios.mean()), float(error))


def log_likelihood(rbm: RBM, x: Any, log_z: float | Estimate) -> np.ndarray:
    """log p(x) of rows x (N, input_dim) in nats, (N,) float64.

    Of Bernoulli units that is the probability of rows of 0 and 1. Of Gaussian ones it is the density in their unit.

    Args:
        rbm: the machine.
        x: rows; for Bernoulli units of 0 and 1, which grey values are the probabilities of: draw some. The values of an
            array of the device are not checked.
        log_z: of `log_partition` or `ais`.

    Raises:
        ValueError, TypeError: bad data, no RBM, or a `log_z` that is no finite number.
    """
    machine = _machine(rbm)
    log_z = arguments.number("log_z", log_z.log_z if isinstance(log_z, Estimate) else log_z, -math.inf, open_low=True)
    rows = machine.check_data(x, "x")
    if not (machine.rbm.gaussian or isinstance(rows, Buffer)):
        ends = (0, 255) if rows.dtype == np.uint8 else (0, 1)
        if bad := int(((rows != ends[0]) & (rows != ends[1])).sum()):
            expected = "0 and 1, as Bernoulli units are (grey values are probabilities: draw rows of them)"
            raise ValueError(f"x: expected {expected}, got {bad} of {rows.size} values that are neither")
    return -machine.free_energy(rows) - log_z


def _machine(rbm: Any) -> RBM:
    if not isinstance(rbm, RBM):
        raise TypeError(f"rbm: expected an RBM, got {type(rbm).__name__}")
    return rbm


def _parameters(rbm: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (hidden, visible), biases of the hidden and of the visible units, in float64."""
    machine = _machine(rbm).rbm
    w, c, b = (p.numpy().astype(np.float64) for p in (machine.weight, machine.bias, machine.visible_bias))
    return w, c, b


def _checked(temperatures: int | Sequence[float]) -> np.ndarray:
    """Inverse temperatures from 0 to 1."""
    if isinstance(temperatures, int | np.integer):
        return np.linspace(0.0, 1.0, arguments.count("temperatures", temperatures) + 1)
    betas = arguments.reals("temperatures", temperatures)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not (np.diff(betas) > 0).all():
        came = arguments.shown(temperatures)
        raise ValueError(f"temperatures: expected a number of steps, or numbers that rise from 0 to 1, got {came}")
    return np.asarray(betas, np.float64)


def _scaled(x: Tensor, factor: float) -> Tensor:
    """x times a number, in place."""
    x.backend.launch("scale", (x.buffer,), (x.buffer.size,), (factor,))
    return x


def _softplus_sum(x: np.ndarray) -> np.ndarray:
    """The sum over columns of log(1 + e^x), (rows,)."""
    factors = 1 + np.exp(-np.abs(x))  # of which a thousand have a product below 2^1000, so one logarithm is enough
    parts = [np.log(factors[:, i : i + 1000].prod(axis=1)) for i in range(0, x.shape[1], 1000)]
    return np.asarray(np.maximum(x, 0).sum(axis=1) + sum(parts))


def _log_sum(x: np.ndarray) -> float:
    """log of the sum of e^x."""
    top = float(x.max())
    return top + math.log(np.exp(x - top).sum())
