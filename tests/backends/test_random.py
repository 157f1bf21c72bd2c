"""Random numbers: known answers of Philox, the same bits everywhere, and the distributions that the ops promise.

Seeds are fixed, so a test here cannot fail by bad luck. The statistical limits are those of five standard deviations
(a chance below 1e-6 for one statistic of a right generator), or of 1e-5 for Kolmogorov-Smirnov.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from case_kit import Case, case_id
from cases import CASES, make_buffers
from numpy.typing import NDArray

from aaecore.backends import cpu
from aaecore.backends.devices import get_backend
from aaecore.backends.reference import random
from aaecore.core.backend import Backend
from aaecore.core.ops import OPS

Array = NDArray[Any]

CPUS: dict[str, Backend] = {isa: cpu.CpuBackend(isa) for isa in cpu.compiled.supported()}
BACKENDS: dict[str, Backend] = {"reference": get_backend("reference"), **CPUS}
RANDOM = [name for name, op in OPS.items() if any(arg.name == "rng" and arg.role == "in" for arg in op.args)]
backends = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
cpus = pytest.mark.parametrize("backend", CPUS.values(), ids=CPUS)
BEST = next(iter(CPUS.values()))


def draw(
    backend: Backend,
    op: str,
    *,
    seed: int = 1,
    counter: int = 0,
    given: dict[str, Any] | None = None,
    **arguments: float,
) -> Array:
    """The numbers of one launch; `given` are its inputs, `arguments` its dims and scalars by name."""
    row = OPS[op]
    arrays = {"rng": np.array([seed, counter], np.uint64), **(given or {})}
    shapes = {a.name: tuple(int(arguments[d]) if isinstance(d, str) else d for d in a.shape) for a in row.args}
    buffers = [
        backend.empty(shapes[a.name]) if a.role == "out" else backend.from_host(np.array(arrays[a.name]), a.kind)
        for a in row.args
    ]
    backend.launch(op, buffers, [int(arguments[d]) for d in row.dims], [arguments[s] for s in row.scalars])
    return backend.to_host(buffers[-1])


def uniform(backend: Backend, n: int, seed: int = 1, counter: int = 0, stream: int = 0) -> Array:
    return draw(backend, "random_uniform", seed=seed, counter=counter, N=n, stream=stream, low=0, high=1)


def normal(backend: Backend, n: int, seed: int = 1, counter: int = 0, stream: int = 0) -> Array:
    return draw(backend, "random_normal", seed=seed, counter=counter, N=n, stream=stream, mean=0, std=1)


# --- the generator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, expected: str) -> None:
    """Vectors of Random123 (kat_vectors); the words are (block, stream, counter low, high) and (seed low, high)."""
    block, stream, *counter_words = (int(word, 16) for word in counter.split())
    seed_words = [int(word, 16) for word in key.split()]
    low_high = [words[0] + (words[1] << 32) for words in (counter_words, seed_words)]
    words = random.philox(low_high[1], low_high[0], stream, np.array([block]))
    assert words.tolist() == [[int(word, 16) for word in expected.split()]]


@backends
def test_uniform_known_answer(backend: Backend) -> None:
    """The first vector, through the op: the upper 24 bits of each word, exactly."""
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert uniform(backend, 4, seed=0).tolist() == [(word >> 8) / 2**24 for word in words]


@cpus
@pytest.mark.parametrize(
    ("seed", "counter", "stream"),
    [
        (0, 0, 0),
        (2**64 - 1, 2**64 - 1, 2**32 - 1),
        (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3),
        (2**32, 1, 0),
        (1, 2**32, 0),
    ],
)
def test_uniforms_are_exactly_those_of_the_reference(backend: Backend, seed: int, counter: int, stream: int) -> None:
    """Every word of the state counts, and blocks beyond 2^16 as well."""
    expected = uniform(BACKENDS["reference"], 4 * 70_000 + 3, seed, counter, stream)
    np.testing.assert_array_equal(uniform(backend, 4 * 70_000 + 3, seed, counter, stream), expected)


@cpus
def test_normals_are_those_of_the_reference(backend: Backend) -> None:
    """Within a few units of float32 rounding of the largest possible normal, 5.77."""
    got, expected = normal(backend, 100_001), normal(BACKENDS["reference"], 100_001)
    assert np.abs(got - expected).max() < 4 * 5.77 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("op", "case"), [pytest.param(op, c, id=f"{op}-{case_id(c)}") for op in RANDOM for c in CASES[op]]
)
def test_instruction_sets_give_the_same_bits(op: str, case: Case) -> None:
    arrays = make_buffers(op, case, np.random.default_rng(0))
    given = {arg.name: array for arg, array in zip(OPS[op].args, arrays, strict=True)}
    seed, counter = given["rng"].tolist()
    results = [
        draw(b, op, seed=seed, counter=counter, given=given, **case.dims, **case.scalars).tobytes()
        for b in CPUS.values()
    ]
    assert len(set(results)) == 1


@backends
def test_what_changes_the_numbers_and_what_does_not(backend: Backend) -> None:
    first = uniform(backend, 1000, seed=5, counter=6, stream=7)
    np.testing.assert_array_equal(uniform(backend, 1000, seed=5, counter=6, stream=7), first)
    np.testing.assert_array_equal(uniform(backend, 10, seed=5, counter=6, stream=7), first[:10])
    for other in ((4, 6, 7), (5, 7, 7), (5, 6, 8), (5 + 2**32, 6, 7), (5, 6 + 2**32, 7), (6, 5, 7), (5, 7, 6)):
        assert np.mean(uniform(backend, 1000, *other) == first) < 0.01


@backends
def test_rng_advance_gives_the_numbers_of_the_next_counter(backend: Backend) -> None:
    rng, out = backend.from_host(np.array([3, 2**32 - 1], np.uint64), "uint64"), backend.empty((9,))
    backend.launch("rng_advance", [rng])
    backend.launch("random_uniform", [rng, out], [9, 2], [0.0, 1.0])
    assert backend.to_host(rng).tolist() == [3, 2**32]
    np.testing.assert_array_equal(backend.to_host(out), uniform(backend, 9, 3, 2**32, 2))


# --- statistics -------------------------------------------------------------------------------------------------------

N = 200_000


def follows(x: Array, cdf: Callable[[Array], Array]) -> None:
    """Kolmogorov-Smirnov: D sqrt(n) exceeds 2.47 once in 1e5 times (2 exp(-2 d^2))."""
    theory = cdf(np.sort(np.asarray(x, np.float64)))
    steps = np.arange(len(x) + 1) / len(x)
    distance = max(np.max(steps[1:] - theory), np.max(theory - steps[:-1]))
    assert distance * math.sqrt(len(x)) < 2.47


def five_sigma(value: float, expected: float, variance: float) -> None:
    assert abs(value - expected) < 5 * math.sqrt(variance)


def uncorrelated(x: Array, y: Array) -> None:
    five_sigma(float(np.corrcoef(x, y)[0, 1]), 0, 1 / len(x))


def frequencies(counts: Array, probabilities: Array) -> None:
    """Chi-square; its mean is the degrees of freedom, its variance twice that."""
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = counts.sum() * probabilities[possible]
    freedom = max(possible.sum() - 1, 1)
    assert np.sum((counts[possible] - expected) ** 2 / expected) < freedom + 5 * math.sqrt(2 * freedom)


def normal_cdf(x: Array) -> Array:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()])


def test_uniform_distribution() -> None:
    x = draw(BEST, "random_uniform", N=N, stream=1, low=-3, high=2).astype(np.float64)
    assert x.min() >= -3
    assert x.max() <= 2
    five_sigma(x.mean(), -0.5, 25 / 12 / N)
    five_sigma(np.mean((x + 0.5) ** 2), 25 / 12, 5**4 / 180 / N)
    follows(x, lambda x: (x + 3) / 5)


def test_normal_distribution() -> None:
    x = (draw(BEST, "random_normal", N=N, stream=1, mean=2, std=5).astype(np.float64) - 2) / 5
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        double_factorial = math.prod(range(1, 2 * power, 2))  # the moment of order 2 power
        five_sigma(np.mean(x**power), moment, (double_factorial - moment**2) / N)
    assert np.abs(x).max() < 5.77
    assert np.abs(x).max() > 4
    follows(x, normal_cdf)
    for i in range(4):  # each place in a block by itself
        follows(x[i::4][:20_000], normal_cdf)


@pytest.mark.parametrize("draws", [uniform, normal], ids=["uniform", "normal"])
def test_numbers_are_uncorrelated(draws: Callable[..., Array]) -> None:
    """Between neighbours, streams, counters and seeds, in the numbers and in their squares (Box-Muller's radius)."""
    x = draws(BEST, N)
    pairs = [(x[:-lag], x[lag:]) for lag in range(1, 9)]
    pairs += [
        (x, draws(BEST, N, *other)) for other in ((2, 0, 0), (1, 1, 0), (1, 0, 1), (2**32 + 1, 0, 0), (1, 2**32, 0))
    ]
    for a, b in pairs:
        uncorrelated(a, b)
        uncorrelated(np.square(a - a.mean()), np.square(b - b.mean()))


def test_mixture() -> None:
    """Components far apart: their frequencies, and mean and covariance of each."""
    weights = np.array([0.5, 0.125, 0.0, 0.375])
    means = np.array([[0, 0], [100, 0], [0, 100], [100, 100]])
    factors = np.array([[[1, 0], [0.5, 2]], [[3, 0], [0, 0.5]], [[1, 0], [0, 1]], [[1, 0], [-2, 1]]])
    given = {"cumulative": weights.cumsum(), "means": means, "factors": factors}
    x = draw(BEST, "random_mixture", given=given, B=N, Z=2, C=4, stream=1).astype(np.float64)
    component = np.argmin(np.linalg.norm(x[:, None] - means, axis=2), axis=1)
    frequencies(np.bincount(component, minlength=4), weights)
    for c in (0, 1, 3):
        n = np.linalg.solve(factors[c], (x[component == c] - means[c]).T)  # standard normal again
        for row in n:
            follows(row[:20_000], normal_cdf)
        uncorrelated(*n)


def test_swiss_roll() -> None:
    """Without noise the radius tells the turn and the turn the angle; the noise is normal, in both directions alike."""
    turns = {"turns_from": 0.25, "turns_to": 2.25, "radius": 5.0}
    roll = draw(BEST, "random_swiss_roll", B=N, stream=1, noise=0, **turns).astype(np.float64)
    t = np.hypot(*roll.T) * 2.25 / 5
    angle = 2 * np.pi * t
    np.testing.assert_allclose(roll, (5 / 2.25 * t * np.array([np.cos(angle), np.sin(angle)])).T, atol=2e-5)
    follows(t, lambda t: np.square((t - 0.25) / 2))
    noise = (draw(BEST, "random_swiss_roll", B=N, stream=1, noise=0.5, **turns) - roll) / 0.5
    follows(noise[:, 0], normal_cdf)
    follows(noise[:, 1], normal_cdf)
    uncorrelated(*noise.T)
    uncorrelated(noise[:, 0], t)


@pytest.mark.parametrize("z", [2, 3, 4, 9])
def test_hypersphere(z: int) -> None:
    x = draw(BEST, "random_hypersphere", B=40_000, Z=z, stream=1, radius=2.5).astype(np.float64) / 2.5
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    for i in range(z):
        five_sigma(x[:, i].mean(), 0, 1 / z / len(x))
        five_sigma(np.mean(x[:, i] ** 2), 1 / z, 2 * (z - 1) / (z**2 * (z + 2)) / len(x))
        uncorrelated(x[:, i], x[:, (i + 1) % z])
        if z == 3:  # Archimedes: the slices of a sphere have equal areas
            follows(x[:, i], lambda x: (x + 1) / 2)


def test_categorical() -> None:
    probabilities = np.array([0.1, 0.4, 0.0, 0.05, 0.25, 0.2])
    given = {"cumulative": probabilities.cumsum()}
    x = draw(BEST, "random_categorical", given=given, B=N, C=6, stream=1)
    assert np.isin(x, (0, 1)).all()
    assert (x.sum(axis=1) == 1).all()
    frequencies(x.sum(axis=0, dtype=np.float64), probabilities)
    chosen = x.argmax(axis=1)
    uncorrelated(chosen[1:], chosen[:-1])


# --- labels, noise and moves -----------------------------------------------------------------------------------------

LABELS = np.arange(100_000) % 6 - 1  # -1 is none, and class 4 or more here none of the classes
LIKE = (LABELS[:, None] == np.arange(5)).astype(float)
SIZES = {"B": len(LIKE), "K": 5, "stream": 1}
WHOLE = {"B": len(LIKE), "stream": 1}


@backends
def test_labelled_mixture(backend: Backend) -> None:
    """A labelled row has the mean and the spread of its component, however rare that is; the others are as without."""
    means = np.array([[0, 0], [9, 0], [0, 9], [5, 5]])
    factors = np.array([[[1, 0], [0.5, 2]], [[3, 0], [0, 0.5]], [[1, 0], [0, 1]], [[1, 0], [-2, 1]]])
    given = {"cumulative": np.array([0.5, 0.5, 0.9, 1]), "means": means, "factors": factors}
    x = draw(backend, "random_mixture_of", given=given | {"like": LIKE}, Z=2, C=4, classes=3, **SIZES).astype(
        np.float64
    )
    for c in range(3):
        n = np.linalg.solve(factors[c], (x[c == LABELS] - means[c]).T)
        for row in n:
            follows(row, normal_cdf)
        uncorrelated(*n)
    rest = (LABELS == -1) | (LABELS >= 3)
    plain = draw(backend, "random_mixture", given=given, Z=2, C=4, **WHOLE)
    np.testing.assert_array_equal(x[rest], plain[rest])


@backends
def test_labelled_roll(backend: Backend) -> None:
    """A labelled row lies on its part of the roll, uniformly in probability; the others are as without."""
    roll = {"turns_from": 0.25, "turns_to": 2.25, "radius": 5.0, "noise": 0.0}
    x = draw(backend, "random_swiss_roll_of", given={"like": LIKE}, parts=4, **SIZES, **roll).astype(np.float64)
    u = np.square((np.hypot(*x.T) * 2.25 / 5 - 0.25) / 2)
    for c in range(4):
        follows(u[c == LABELS], lambda u, c=c: np.clip(4 * u - c, 0, 1))
        assert np.abs(u[c == LABELS] - (c + 0.5) / 4).max() < 0.125 + 1e-6
    rest = (LABELS == -1) | (LABELS == 4)
    np.testing.assert_array_equal(x[rest], draw(backend, "random_swiss_roll", **WHOLE, **roll)[rest])


@backends
def test_dropout_keeps_those_whose_uniform_is_large_enough(backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal(N)
    sizes = {"N": N, "stream": 3, "rate": 0.2}
    once = draw(backend, "dropout", given={"x": x, "y": np.full(N, np.nan)}, beta=0, **sizes)
    kept = uniform(backend, N, stream=3) >= np.float32(0.2)
    np.testing.assert_allclose(once, np.where(kept, 1.25 * x, 0), rtol=1e-6)
    five_sigma(kept.mean(), 0.8, 0.16 / N)
    twice = draw(backend, "dropout", given={"x": x, "y": x}, beta=1, **sizes)
    np.testing.assert_allclose(twice, x + once, rtol=1e-6, atol=1e-6)


@backends
def test_noise_is_that_of_random_normal(backend: Backend) -> None:
    noise = draw(backend, "add_noise", given={"x": np.zeros(1001)}, N=1001, stream=3, std=0.3)
    plain = draw(backend, "random_normal", N=1001, stream=3, mean=0, std=0.3)
    np.testing.assert_array_equal(noise, plain)


def test_moves() -> None:
    """Every move down is as likely as every other, and so is every move right, whatever the one down was."""
    image = np.zeros((5, 5))
    image[2, 2] = 1  # a dot in the middle, which no move loses
    given = {"x": np.tile(image.reshape(1, 25), (N, 1))}
    moved = draw(BEST, "translate", given=given, B=N, N=25, height=5, width=5, most=2, stream=1)
    assert (moved.sum(axis=1) == 1).all()
    frequencies(moved.sum(axis=0, dtype=np.float64), np.full(25, 1 / 25))


# --- the statistics notice --------------------------------------------------------------------------------------------


def test_a_wrong_distribution_is_noticed() -> None:
    """Each by one to three percent: a shift, a stretch, a neighbour's share, and a probability."""
    x = normal(BEST, N).astype(np.float64)
    counts = np.array([0.505, 0.495]) * N
    for test in (
        lambda: follows(x + 0.02, normal_cdf),
        lambda: follows(x * 1.03, normal_cdf),
        lambda: five_sigma(np.mean((1.02 * x) ** 2), 1, 2 / N),
        lambda: uncorrelated(x[1:] + 0.02 * x[:-1], x[:-1]),
        lambda: frequencies(counts, np.array([0.5, 0.5])),
        lambda: frequencies(np.array([N - 1.0, 1.0]), np.array([1.0, 0.0])),
    ):
        with pytest.raises(AssertionError):
            test()
