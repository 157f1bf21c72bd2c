"""The emulator of the CUDA kernels itself: it computes what a GPU would, and counts its memory traffic."""

import numpy as np
import pytest
from emulator_kit import SEEDS, SOURCE, device, driver, f4, i4, launch, line_of, needs_compiler

pytestmark = needs_compiler


# --- what kernels compute --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffles(seed):
    d = driver("fast", seed)
    x = np.random.default_rng(1).integers(0, 100, 32).astype(f4)
    down, doubled, ints = d.allocate(128).view(f4), d.allocate(256).view("f8"), d.allocate(128).view(f4)
    launch(d, "sums", device(d, x), down, doubled, ints)
    assert down[0] == x.sum()
    assert (doubled == x.sum()).all()
    assert (ints == np.arange(32).sum()).all()


def test_indices():
    d = driver("fast", 1)
    y = d.allocate(6 * 32 * 4).view(f4)
    launch(d, "where", y, i4(20), grid=(3, 2))
    expected = 1000 * np.arange(2)[:, None, None] + 100 * np.arange(3)[:, None] + np.minimum(np.arange(32), 20)
    assert np.array_equal(d.download(y), expected.ravel())


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("capability", [(9, 0), (7, 5)])
def test_copies_that_are_not_inside_give_zeros(capability, mode):
    """And never read: the source ends where they begin."""
    d = driver(mode, capability=capability)
    x, y = np.random.default_rng(2).random(20, f4), d.allocate(160 * 4).view(f4)
    launch(d, "partial_copy", device(d, x), y, i4(5))
    out = d.download(y)
    assert np.array_equal(out[:20], x)
    assert np.array_equal(out[128:133], x[:5])
    assert not out[20:128].any()
    assert not out[133:].any()
    launch(d, "partial_copy", 0, y, i4(0))  # not even an address
    assert not d.download(y).any()


def test_what_nobody_wrote_is_nan_in_the_fast_build():
    d = driver("fast")
    y = device(d, np.zeros(64, f4))
    launch(d, "read_unwritten", device(d, np.ones(1, f4)), y)
    assert np.isnan(d.download(y)).all()


def test_denormals_are_flushed_during_launches_alone():
    d = driver("fast")
    tiny = f4(2e-38)
    x = device(d, np.full(32, tiny))
    y, z = d.allocate(128).view(f4), d.allocate(128).view(f4)
    launch(d, "scale", x, y, 0.25)
    assert not d.download(y).any()
    d.upload(x, np.full(32, f4(1e-40)))
    launch(d, "scale", x, z, 2.0**60)
    assert not d.download(z).any()
    assert tiny * f4(0.25) > 0


def test_fused_multiply_add_rounds_once_and_nothing_else_is_fused():
    d = driver("fast")
    a, c = f4(1 + 2.0**-12), f4(-1 - 2.0**-11)
    y = d.allocate(128).view(f4)
    launch(d, "fused", device(d, [a, a, c]), y)
    assert (d.download(y) == f4(2.0**-24)).all()  # the exact sum, and a zero from the rounded product


def test_double():
    d = driver("fast")
    x, y = np.random.default_rng(3).random(32), d.allocate(256).view("f8")
    launch(d, "next_of_double", device(d, x), y)
    assert np.array_equal(d.download(y), np.sqrt(x))


# --- tensor cores ----------------------------------------------------------------------------------------------------


def tf32(x):
    """To 11 significant bits, ties away from zero."""
    return ((np.asarray(x, f4).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(f4)


def bf16(x):
    """To 8 significant bits, ties to even."""
    bits = np.asarray(x, f4).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(f4)


def test_rounding():
    d = driver("fast")
    x = np.random.default_rng(4).standard_normal(32).astype(f4)
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, -1 - 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8]
    x[:10] = [*ties, 0.0, np.inf, -np.inf, 3e38]
    out = [d.allocate(128).view(f4) for _ in range(3)]
    launch(d, "round", device(d, x), *out)
    expected = tf32(x)
    expected[7:9] = x[7:9]
    assert np.array_equal(out[0], expected)
    assert np.array_equal(out[1], bf16(x))
    assert np.array_equal(out[2], -bf16(x))
    assert out[0][:3].tolist() == [1 + 2.0**-10, 1 + 4 * 2.0**-11, -1 - 2.0**-10]
    assert out[1][3:6].tolist() == [1, 1 + 4 * 2.0**-8, -1]


def test_nan_stays_nan():
    d = driver("fast")
    out = [d.allocate(128).view(f4) for _ in range(3)]
    launch(d, "round", device(d, np.full(32, np.nan, f4)), *out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize(("kernel", "k", "rounded"), [("product_tf32", 8, tf32), ("product_bf16", 16, bf16)])
def test_tensor_cores(kernel, k, rounded, mode):
    """Products and sums exact, then cut: the nearest float32 that is no larger in size."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((16, k)).astype(f4), rng.standard_normal((k, 8)).astype(f4)
    c = rng.standard_normal((16, 8)).astype(f4)
    d = driver(mode, seed=1)
    out = device(d, c)
    launch(d, kernel, device(d, a), device(d, b), out)
    exact = c + rounded(a).astype("f8") @ rounded(b).astype("f8")
    nearest = exact.astype(f4)
    cut = np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, f4(0)), nearest)
    assert np.array_equal(d.download(out).reshape(16, 8), cut)
    assert not np.array_equal(cut, nearest)


# --- memory traffic --------------------------------------------------------------------------------------------------


def traffic(d, space, access, kernel, *arguments, **options):
    """The only line with such accesses."""
    with d.profile() as lines:
        launch(d, kernel, *arguments, **options)
    (line,) = (n for n in lines if (n.space, n.access) == (space, access))
    assert line.file == SOURCE
    return line


@pytest.mark.parametrize(("pad", "passes"), [(0, 8), (4, 1), (8, 2)])
def test_bank_conflicts(pad, passes):
    d = driver()
    line = traffic(d, "shared", "read", "read_fragment", d.allocate(128), i4(pad), shared=8 * (32 + pad) * 4)
    assert (line.requests, line.transactions, line.ratio) == (1, passes, passes)
    assert line.line == line_of("y[i] = s[i / 4 * stride + i % 4];  // read")
    assert line.nbytes == 4


@pytest.mark.parametrize(("stride", "sectors"), [(1, 4), (2, 8), (8, 32)])
def test_coalescing(stride, sectors):
    d = driver()
    x = device(d, np.ones(32 * stride, f4))
    line = traffic(d, "global", "read", "strided", x, d.allocate(128), i4(stride))
    assert (line.requests, line.transactions, line.ratio) == (1, sectors, sectors / 4)


def test_traffic_of_wide_accesses():
    d = driver()
    with d.profile() as lines:
        launch(d, "read_wide", device(d, np.ones(128, f4)), d.allocate(128))
    load, store, read, write = sorted(lines, key=lambda n: (n.line, n.space))[:2] + lines[-2:]
    assert (load.space, load.nbytes, load.transactions, load.ratio) == ("global", 16, 16, 1)
    assert (store.space, store.nbytes, store.transactions, store.ratio) == ("shared", 16, 4, 1)
    assert (read.space, read.transactions, read.ratio) == ("global", 8, 1)  # of the 16 lanes that copy
    assert (write.space, write.transactions, write.ratio) == ("shared", 4, 1)


def test_only_the_checked_build_counts():
    with pytest.raises(ValueError, match="only the checked build"), driver("fast").profile():
        pass
