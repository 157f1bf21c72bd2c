"""The emulator of the CUDA kernels itself: it computes what a GPU would, and reports what a GPU would not forgive."""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator import build as builder
from emulator.emulator import BuildError, EmulatedDriver, EmulatorError, asan_environment, build, unavailable

from aaecore.driver import Launch, Node

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

f4, i4 = np.float32, np.int32
SEEDS = [0, 1, 2]

# Blocks of 64 threads with the same parameters, so that one test can run them all.
KERNELS = r"""
#include "device.cuh"
#define TEST(name) KERNEL(name, 64, const float* x, float* y, int n)
#define I ((int)threadIdx.x)
#define GLOBAL ((int)(blockIdx.x * 64 + threadIdx.x))

// y: x backwards within each block
TEST(reverse) {
  STATIC_SHARED(float, s, 64);
  s[I] = x[GLOBAL];
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_without_barrier) {
  STATIC_SHARED(float, s, 64);
  s[I] = x[GLOBAL];
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_twice) {
  STATIC_SHARED(float, s, 64);
  for (int round = 0; round < 2; round++) {
    s[I] = x[GLOBAL];
    __syncthreads();
    y[GLOBAL] = s[63 - I];
    __syncthreads();
  }
}
TEST(reverse_twice_without_second_barrier) {
  STATIC_SHARED(float, s, 64);
  for (int round = 0; round < 2; round++) {
    s[I] = x[GLOBAL];
    __syncthreads();
    y[GLOBAL] = s[63 - I];
  }
}
TEST(reverse_copied) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_copied_without_wait) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  commit_copies();
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_copied_without_commit) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  wait_copies<0>();
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_copied_without_barrier) {  // a wait is for the copies of its own thread
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  commit_copies();
  wait_copies<0>();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_first_of_two_groups) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  commit_copies();
  copy_async<4>(s + 64 + I, x + GLOBAL, true);
  commit_copies();
  wait_copies<1>();
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(reverse_second_of_two_groups) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL, true);
  commit_copies();
  copy_async<4>(s + 64 + I, x + GLOBAL, true);
  commit_copies();
  wait_copies<1>();
  __syncthreads();
  y[GLOBAL] = s[127 - I];
}
TEST(reverse_warps) {
  STATIC_SHARED(float, s, 64);
  s[I] = x[GLOBAL];
  __syncwarp();
  y[GLOBAL] = s[I ^ 31];
}
TEST(reverse_warps_without_barrier) {
  STATIC_SHARED(float, s, 64);
  s[I] = x[GLOBAL];
  y[GLOBAL] = s[I ^ 31];
}
TEST(reverse_warps_by_shuffle) { y[GLOBAL] = __shfl_xor_sync(0xffffffffu, x[GLOBAL], 31); }

TEST(half_of_shared_written) {
  STATIC_SHARED(float, s, 64);
  if (I < 32) s[I] = x[GLOBAL];
  __syncthreads();
  y[GLOBAL] = s[63 - I];
}
TEST(read_past_the_end) { y[GLOBAL] = x[GLOBAL + 1]; }
TEST(read_before_the_start) { y[GLOBAL] = x[GLOBAL - 1]; }
TEST(read_four_past_the_end) {
  const float4 v = load4(x + GLOBAL / 4 * 4 + 4);
  y[GLOBAL] = v.x;
}
TEST(write_past_the_end) { y[GLOBAL + 1] = x[GLOBAL]; }
TEST(shared_past_the_end) {
  STATIC_SHARED(float, s, 63);
  s[I] = x[GLOBAL];
  y[GLOBAL] = s[I];
}
TEST(dynamic_shared_past_the_end) {
  DYNAMIC_SHARED(float, s);
  s[2 * n + I] = x[GLOBAL];
}
TEST(copy_past_the_end) {
  DYNAMIC_SHARED(float, s);
  copy_async<4>(s + I, x + GLOBAL + 1, true);
}
TEST(misaligned_read) { y[GLOBAL] = load4(x + 1).x; }
TEST(misaligned_pair) { store2(y + GLOBAL * 0 + 1, make_float2(x[0], x[1])); }
TEST(misaligned_shared) {
  STATIC_SHARED(float, s, 68);
  if (I == 0) store4(s + 2, make_float4(x[0], x[1], x[2], x[3]));
}
TEST(misaligned_copy) {
  DYNAMIC_SHARED(float, s);
  if (I == 0) copy_async<16>(s, x + 1, true);
}
TEST(two_different_barriers) {
  if (I < 32) __syncthreads();
  else
    __syncthreads();
  y[GLOBAL] = x[GLOBAL];
}
TEST(barrier_for_a_half) {
  if (I < 32) __syncthreads();
  y[GLOBAL] = x[GLOBAL];
}
TEST(early_return) {
  if (I >= n) return;
  y[GLOBAL] = x[GLOBAL];
  __syncthreads();
}
TEST(shuffle_for_a_half) {
  float v = x[GLOBAL];
  if (I % 32 < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  y[GLOBAL] = v;
}
TEST(shuffle_for_a_half_then_barrier) {
  float v = x[GLOBAL];
  if (I % 32 < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  __syncthreads();
  y[GLOBAL] = v;
}
TEST(two_different_shuffles) {
  float v = x[GLOBAL];
  if (I % 32 < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  else
    v += __shfl_down_sync(0xffffffffu, v, 1);
  y[GLOBAL] = v;
}
TEST(shuffle_without_its_source) {
  if (I % 32 < 16) y[GLOBAL] = __shfl_xor_sync(0xffffu, x[GLOBAL], 16);
}
TEST(shuffle_outside_its_mask) { y[GLOBAL] = __shfl_xor_sync(0xffffu, x[GLOBAL], 1); }
TEST(blocks_write_one_element) {
  if (I == 0) y[0] = x[0];
}
TEST(block_reads_what_another_wrote) {
  y[GLOBAL] = x[GLOBAL];
  y[GLOBAL] += y[(GLOBAL + 64) % n];
}
TEST(block_writes_what_another_read) { y[GLOBAL] = x[GLOBAL] + y[GLOBAL / 2]; }
TEST(too_much_shared) {
  STATIC_SHARED(float, s, 48 * 256 + 1);
  s[I] = x[GLOBAL];
}

// ------------------------------------------------------------------------------------------- what comes out
KERNEL(sums, 32, const float* x, float* down, double* doubled, float* ints) {
  const int i = threadIdx.x;
  float d = x[i];
  double e = x[i];
  int k = i;
  UNROLL
  for (int lanes = 16; lanes; lanes /= 2) {
    d += __shfl_down_sync(0xffffffffu, d, lanes);
    e += __shfl_xor_sync(0xffffffffu, e, lanes);
    k += __shfl_xor_sync(0xffffffffu, k, lanes);
  }
  down[i] = d, doubled[i] = e, ints[i] = k;
}
KERNEL(partial_copy, 32, const float* x, float* y, int n) {
  STATIC_SHARED(float, s, 256);
  const int i = threadIdx.x;
  copy_async<16>(s + 4 * i, x + 4 * i, i < n);
  copy_async<4>(s + 128 + i, x + i, i < n);
  commit_copies();
  wait_copies<0>();
  store4(y + 4 * i, load4(s + 4 * i));
  y[128 + i] = s[128 + i];
}
KERNEL(read_unwritten, 32, const float* x, float* y) {
  STATIC_SHARED(float, s, 64);
  copy_async<4>(s + threadIdx.x, x, true);
  y[threadIdx.x] = s[threadIdx.x];
  y[32 + threadIdx.x] = s[32 + threadIdx.x];
}
KERNEL(scale, 32, const float* x, float* y, double factor) { y[threadIdx.x] = x[threadIdx.x] * (float)factor; }
KERNEL(fused, 32, const float* x, float* y) { y[threadIdx.x] = fmaf(x[0], x[1], x[2]) + (x[0] * x[1] + x[2]); }
KERNEL(next_of_double, 32, const double* x, double* y) { y[threadIdx.x] = sqrt(x[threadIdx.x]); }
KERNEL(where, 32, float* y, int width) {
  const int at = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
  y[at] = 1000 * blockIdx.y + 100 * blockIdx.x + max(0, min((int)threadIdx.x, width));
}
KERNEL(twice, 32, float* y) { y[threadIdx.x] *= 2.0f; }
KERNEL(plus_one, 32, float* y) { y[threadIdx.x] += 1.0f; }

// ---------------------------------------------------------------------------------------- tensor cores, traffic
#if HAS_SM80
KERNEL(round, 32, const float* x, float* tf32, float* low, float* high) {
  const int i = threadIdx.x;
  tf32[i] = bits_to_float(round_tf32(x[i]));
  const u32 pair = pack_bf16(x[i], -x[i]);
  low[i] = bits_to_float(pair << 16);
  high[i] = bits_to_float(pair & 0xffff0000u);
}
KERNEL(product_tf32, 32, const float* a, const float* b, float* d) {  // (16, 8) (8, 8)
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const u32 left[4] = {round_tf32(a[g * 8 + t]), round_tf32(a[(g + 8) * 8 + t]), round_tf32(a[g * 8 + t + 4]),
                       round_tf32(a[(g + 8) * 8 + t + 4])};
  const u32 right[2] = {round_tf32(b[t * 8 + g]), round_tf32(b[(t + 4) * 8 + g])};
  float acc[4];
  for (int r = 0; r < 4; r++) acc[r] = d[(g + r / 2 * 8) * 8 + 2 * t + r % 2];
  mma_tf32(acc, left, right);
  for (int r = 0; r < 4; r++) d[(g + r / 2 * 8) * 8 + 2 * t + r % 2] = acc[r];
}
KERNEL(product_bf16, 32, const float* a, const float* b, float* d) {  // (16, 16) (16, 8)
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  u32 left[4], right[2];
  for (int r = 0; r < 4; r++) {
    const float* p = a + (g + r % 2 * 8) * 16 + 2 * t + r / 2 * 8;
    left[r] = pack_bf16(p[0], p[1]);
  }
  for (int r = 0; r < 2; r++) right[r] = pack_bf16(b[(2 * t + r * 8) * 8 + g], b[(2 * t + 1 + r * 8) * 8 + g]);
  float acc[4];
  for (int r = 0; r < 4; r++) acc[r] = d[(g + r / 2 * 8) * 8 + 2 * t + r % 2];
  mma_bf16(acc, left, right);
  for (int r = 0; r < 4; r++) d[(g + r / 2 * 8) * 8 + 2 * t + r % 2] = acc[r];
}
#endif
KERNEL(read_fragment, 32, float* y, int pad) {  // lanes 4 g + t read row g, column t, of rows of 32 + pad floats
  DYNAMIC_SHARED(float, s);
  const int i = threadIdx.x, stride = 32 + pad;
  for (int row = 0; row < 8; row++) s[row * stride + i] = row;
  __syncthreads();
  y[i] = s[i / 4 * stride + i % 4];  // read
}
KERNEL(strided, 32, const float* x, float* y, int stride) {
  y[threadIdx.x] = x[threadIdx.x * stride];  // read
}
KERNEL(read_wide, 32, const float* x, float* y) {
  STATIC_SHARED(float, s, 128);
  const float4 v = load4(x + 4 * threadIdx.x);
  store4(s + 4 * threadIdx.x, v);
  copy_async<16>(s + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x < 16);
}
"""
SOURCE = "inline.cu"


def driver(mode="check", seed=0, text=KERNELS, **options):
    return EmulatedDriver(mode, seed, {SOURCE: text}, replace_all=True, **options)


def device(d, host):
    """A device array of the same content."""
    host = np.ascontiguousarray(host)
    array = d.allocate(host.nbytes).view(host.dtype)
    d.upload(array, host.reshape(-1))
    return array


def node(d, kernel, *arguments, grid=(1, 1), threads=32, shared=0):
    values = tuple(d.pointer(a) if isinstance(a, np.ndarray) else a for a in arguments)
    return Launch(SOURCE, kernel, grid, threads, shared, values)


def launch(d, kernel, *arguments, **options):
    d.launch(node(d, kernel, *arguments, **options))


def run_test(d, kernel):
    """y (128 floats) and x of one of the TEST kernels, in two blocks."""
    x = np.random.default_rng(0).random(128, f4)
    y = device(d, np.zeros(128, f4))
    launch(d, kernel, device(d, x), y, i4(128 if "block" in kernel else 50), grid=(2, 1), threads=64, shared=512)
    return d.download(y), x


def line_of(text):
    """The number of the line that ends with a text."""
    return next(i for i, line in enumerate(KERNELS.splitlines(), 1) if line.endswith(text))


# --- what is reported ------------------------------------------------------------------------------------------------

RACE = "race in shared memory: "
WRONG = {
    "reverse_without_barrier": RACE + "(read|write) after unordered (write|read)|uninitialised shared",
    "reverse_twice_without_second_barrier": RACE + "(write after unordered read|read after unordered write)",
    "reverse_copied_without_wait": RACE + "the destination of a copy_async, before its wait",
    "reverse_copied_without_commit": RACE + "the destination of a copy_async, before its wait",
    "reverse_copied_without_barrier": RACE + "(the destination|read after unordered write)|uninitialised shared",
    "reverse_second_of_two_groups": RACE + "the destination of a copy_async, before its wait",
    "reverse_warps_without_barrier": RACE + "(read|write) after unordered (write|read)|uninitialised shared",
    "half_of_shared_written": "read of uninitialised shared memory",
    "read_past_the_end": "out-of-bounds global read of 4 bytes, the last one 4 bytes past a buffer of 512",
    "read_before_the_start": "(illegal|out-of-bounds) global read of 4 bytes",
    "read_four_past_the_end": "out-of-bounds global read of 16 bytes, the last one 16 bytes past",
    "write_past_the_end": "out-of-bounds global write of 4 bytes|race in global memory: write after unordered write",
    "shared_past_the_end": "out-of-bounds shared write of 4 bytes",
    "dynamic_shared_past_the_end": "out-of-bounds shared write of 4 bytes",
    "copy_past_the_end": "out-of-bounds global read of 4 bytes",
    "misaligned_read": "misaligned global read of 16 bytes",
    "misaligned_pair": "misaligned global write of 8 bytes",
    "misaligned_shared": "misaligned shared write of 16 bytes",
    "misaligned_copy": "misaligned global read of 16 bytes",
    "two_different_barriers": r"divergent barrier: __syncthreads at inline.cu:\d+ while thread \d+ waits at inline.cu:",
    "barrier_for_a_half": r"a thread returns while \d+ threads wait|\d+ threads have returned before the __syncthreads",
    "early_return": r"a thread returns while \d+ threads wait|\d+ threads have returned before the __syncthreads",
    "shuffle_for_a_half": r"returns while others wait for it at __shfl_xor_sync|waits for lane \d+, which has returned",
    "shuffle_for_a_half_then_barrier": r"deadlock in block \d; 32 threads: __shfl_xor_sync at inline.cu:\d+",
    "two_different_shuffles": "divergent warp: lane",
    "shuffle_without_its_source": r"lane \d+ reads lane \d+, which is not in mask 0000ffff",
    "shuffle_outside_its_mask": r"lane \d+ is not in its mask 0000ffff",
    "blocks_write_one_element": "race in global memory: write after unordered write; .* thread 0 of another block",
    "block_reads_what_another_wrote": "race in global memory: (read|write) after unordered (write|read)",
    "block_writes_what_another_read": "race in global memory: (read|write) after unordered (write|read)",
    "too_much_shared": "49156 bytes of static shared memory, and there are 49152",
}
RIGHT = {
    "reverse": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_twice": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_copied": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_first_of_two_groups": lambda x: x.reshape(2, 64)[:, ::-1],
    "reverse_warps": lambda x: x.reshape(4, 32)[:, ::-1],
    "reverse_warps_by_shuffle": lambda x: x.reshape(4, 32)[:, ::-1],
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", WRONG)
def test_the_checked_build_reports(kernel, seed):
    with pytest.raises(EmulatorError, match=WRONG[kernel]) as info:
        run_test(driver(seed=seed), kernel)
    assert str(info.value).startswith(f"{kernel}: ")
    assert " pc 0x" not in str(info.value)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("kernel", RIGHT)
def test_correct_kernels_are_clean(kernel, mode, seed):
    y, x = run_test(driver(mode, seed), kernel)
    assert np.array_equal(y, RIGHT[kernel](x).ravel())


def test_a_report_names_the_lines():
    with pytest.raises(EmulatorError) as info:
        run_test(driver(), "reverse_twice_without_second_barrier")
    start = line_of("TEST(reverse_twice_without_second_barrier) {")
    assert f"at inline.cu:{start + 5}, this one at inline.cu:{start + 3} [block 0, 0 thread " in str(info.value)


def test_every_test_kernel_is_expected_to_be_right_or_wrong():
    assert set(re.findall(r"^TEST\((\w+)\)", KERNELS, re.MULTILINE)) == {*WRONG, *RIGHT}


def test_a_driver_goes_on_after_a_report():
    d = driver()
    for kernel in WRONG:
        with pytest.raises(EmulatorError):
            run_test(d, kernel)
        y, x = run_test(d, "reverse_copied")
        assert np.array_equal(y, RIGHT["reverse_copied"](x).ravel())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_block_too_many_is_out_of_bounds(seed):
    d = driver(seed=seed)
    x = device(d, np.ones(128, f4))
    with pytest.raises(EmulatorError, match=r"out-of-bounds global read .* \[block 2, 0 "):
        launch(d, "reverse", x, d.allocate(512), i4(128), grid=(3, 1), threads=64)


def test_a_block_too_few_leaves_nan():
    d = driver("fast")
    y = d.allocate(512).view(f4)
    launch(d, "reverse", device(d, np.ones(128, f4)), y, i4(128), grid=(1, 1), threads=64)
    assert np.array_equal(np.isnan(d.download(y)), np.arange(128) >= 64)


def test_freed_memory_is_out_of_bounds():
    d = driver()
    x, y = device(d, np.ones(32, f4)), d.allocate(128)
    stale = node(d, "scale", x, y, 2.0)
    d.launch(stale)
    del x
    with pytest.raises(EmulatorError, match=r"illegal global read of 4 bytes: 0x[0-9a-f]+ is in no buffer"):
        d.launch(stale)


def test_launches_are_ordered():
    d = driver()
    y = device(d, np.ones(32, f4))
    for _ in range(3):
        launch(d, "twice", y)
    assert (d.download(y) == 8).all()
    assert d.launches == 3


# --- launches that cannot be right -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (0, 1.5, "argument 0 has to be an address (int), not float"),
        (0, i4(0), "argument 0 has to be an address (int), not int32"),
        (0, True, "argument 0 has to be an address (int), not bool"),
        (2, 50, "argument 2 has to be np.int32, not int"),
        (2, np.int64(50), "argument 2 has to be np.int32, not int64"),
        (2, 50.0, "argument 2 has to be np.int32, not float"),
    ],
)
def test_argument_kinds_are_checked(place, value, expected):
    d = driver()
    x = device(d, np.ones(128, f4))
    arguments = [d.pointer(x), d.pointer(x), i4(50)]
    arguments[place] = value
    with pytest.raises(TypeError, match=re.escape(f"reverse: {expected}")):
        launch(d, "reverse", *arguments, threads=64)


def test_doubles_are_checked():
    d = driver()
    x = device(d, np.ones(32, f4))
    with pytest.raises(TypeError, match=re.escape("scale: argument 2 has to be a double (float), not float32")):
        launch(d, "scale", x, x, f4(2))
    with pytest.raises(TypeError, match=re.escape("scale takes 3 arguments (ppd), not 2")):
        launch(d, "scale", x, x)


@pytest.mark.parametrize("threads", [32, 128])
def test_blocks_have_the_threads_the_kernel_is_for(threads):
    d = driver()
    x = device(d, np.ones(128, f4))
    with pytest.raises(EmulatorError, match=f"{threads} threads in a block, and the kernel is for 64"):
        launch(d, "reverse", x, x, i4(50), threads=threads)


@pytest.mark.parametrize("options", [{"grid": (0, 1)}, {"grid": (1, 65536)}, {"shared": 228 << 10}])
def test_launches_a_device_has_no_room_for(options):
    d = driver()
    with pytest.raises(EmulatorError, match=r"blocks|shared memory"):
        launch(d, "twice", device(d, np.ones(32, f4)), **options)


def test_kernels_are_where_the_launch_says():
    d = driver()
    with pytest.raises(EmulatorError, match="there is no kernel nothing"):
        d.launch(Launch(SOURCE, "nothing", (1, 1), 32, 0, ()))
    with pytest.raises(EmulatorError, match=re.escape("the kernel twice is in inline.cu, not in other.cu")):
        d.launch(Launch("other.cu", "twice", (1, 1), 32, 0, (0,)))


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


# --- graphs ----------------------------------------------------------------------------------------------------------


def chain(d, y, after):
    """(y + 1) * 2, the second node after `after`."""
    return [Node(node(d, "plus_one", y), ()), Node(node(d, "twice", y), after)]


def replays(mode, seed, after, times=8):
    d = driver(mode, seed)
    y = device(d, np.zeros(32, f4))
    replay = d.graph(chain(d, y, after))
    results = []
    for _ in range(times):
        d.upload(y, np.full(32, f4(3)))
        replay()
        results.append(d.download(y)[0])
    assert d.launches == 2 * times
    return results


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("seed", SEEDS)
def test_graphs_keep_their_order(mode, seed):
    assert set(replays(mode, seed, (0,))) == {8}


def test_graphs_show_a_missing_dependency_by_their_result():
    assert set(replays("fast", 0, ())) == {8}
    assert set(replays("fast", 1, ())) == {7, 8}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checked_build_reports_a_missing_dependency(seed):
    with pytest.raises(EmulatorError, match=r"unordered write; .* by node [01] of the graph, which it does not come"):
        replays("check", seed, (), 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_may_order_nodes_through_others(seed):
    d = driver(seed=seed)
    x, y = device(d, np.full(32, f4(3))), device(d, np.zeros(32, f4))
    replay = d.graph(
        [
            Node(node(d, "plus_one", x), ()),
            Node(node(d, "twice", y), ()),  # of another buffer: free to run at any time
            Node(node(d, "scale", x, y, 1.0), (0, 1)),
            Node(node(d, "twice", x), (2,)),
        ]
    )
    replay()
    replay()
    assert d.download(x)[0] == 18
    assert d.download(y)[0] == 9


@pytest.mark.parametrize("after", [(1,), (2,), (-1,)])
def test_a_node_comes_after_earlier_ones_alone(after):
    d = driver("fast")
    with pytest.raises(ValueError, match="node 1 of a graph comes after node"):
        d.graph(chain(d, device(d, np.zeros(32, f4)), after))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_lives_as_long_as_its_views():
    d = driver("fast")
    gc.collect()
    before = d.allocated
    array = d.allocate(1000)
    assert d.pointer(array) % 256 == 0
    assert (array == 0xFF).all()
    view = array.view(np.uint8)[100:200]
    del array
    assert d.allocated == before + 1000
    view[:] = 1
    del view
    assert d.allocated == before
    assert d.allocate(0).size == 0


def test_copies_between_host_and_device():
    d = driver("fast")
    x = np.arange(6, dtype=f4).reshape(2, 3)
    a, b = device(d, x), d.allocate(24).view(f4)
    d.copy(b, a)
    out = d.download(b)
    d.zero(b)
    assert np.array_equal(out.reshape(2, 3), x)
    assert not d.download(b).any()
    with pytest.raises(ValueError, match=re.escape("upload of float32 (5,) into float32 (6,)")):
        d.upload(a, np.zeros(5, f4))
    with pytest.raises(ValueError, match="upload of float64"):
        d.upload(a, np.zeros(6))
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.upload(a, np.zeros((2, 3), f4).T)
    with pytest.raises(ValueError, match="copy of float32"):
        d.copy(a, b[:3])


def test_host_arrays_are_no_device_arrays():
    d = driver("fast")
    host = np.zeros(6, f4)
    for use in (d.pointer, d.zero, d.download, d.adopt):
        with pytest.raises(ValueError, match="not a device array"):
            use(host)


class Foreign:
    """An object of another library, over device memory."""

    def __init__(self, array, **changes):
        self.array = array
        interface = {"data": (array.ctypes.data, False), "shape": array.shape, "typestr": array.dtype.str, "version": 3}
        self.__cuda_array_interface__ = interface | {"strides": None} | changes


@pytest.mark.parametrize("strides", [None, (12, 4)])
def test_adopted_arrays_share_their_memory(strides):
    d = driver("fast")
    before = d.allocated
    adopted = d.adopt(Foreign(device(d, np.arange(6, dtype=f4)).reshape(2, 3), strides=strides))
    assert np.array_equal(adopted, [[0, 1, 2], [3, 4, 5]])
    launch(d, "fused", adopted, device(d, np.zeros(32, f4)))
    assert d.allocated == before + 24
    del adopted
    assert d.allocated == before


def test_adopted_arrays_by_dlpack():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4))
    adopted = d.adopt(array)
    assert d.pointer(adopted) == d.pointer(array)


def test_the_driver_knows_its_arrays():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4))
    assert d.owns(array[2:])
    assert d.owns(Foreign(array))
    assert not d.owns(np.zeros(6, f4))
    assert not d.owns([1, 2])


def test_what_cannot_be_adopted():
    d = driver("fast")
    array = device(d, np.arange(6, dtype=f4)).reshape(2, 3)
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.adopt(Foreign(array, strides=(4, 8)))
    with pytest.raises(ValueError, match="not C-contiguous"):
        d.adopt(array.T)
    with pytest.raises(ValueError, match="not a device array"):
        d.adopt(Foreign(array, shape=(1 << 20,)))
    with pytest.raises(ValueError, match="not a device array"):
        d.adopt(Foreign(np.zeros(4, f4)))


# --- builds ----------------------------------------------------------------------------------------------------------


def test_parameters_are_pointers_int_and_double():
    text = '#include "device.cuh"\nKERNEL(wrong, 32, float* y, float v) { y[0] = v; }\n'
    with pytest.raises(BuildError, match="parameters are pointers, int and double"):
        build("fast", {SOURCE: text}, replace_all=True)


def test_files_keep_their_names_apart():
    """Were they one namespace, the linker would take the `value` of one file for that of the other."""
    text = """
        #include "device.cuh"
        inline __attribute__((noinline)) float value() { return @; }
        KERNEL(k@, 1, float* y) { y[0] = value(); }
    """
    d = EmulatedDriver("fast", sources={f"k{n}.cu": text.replace("@", str(n)) for n in (1, 2)}, replace_all=True)
    for n in (1, 2):
        y = d.allocate(4).view(f4)
        d.launch(Launch(f"k{n}.cu", f"k{n}", (1, 1), 1, 0, (d.pointer(y),)))
        assert d.download(y) == n


def test_what_has_not_changed_is_not_compiled_again(monkeypatch):
    library = build("check", {SOURCE: KERNELS}, replace_all=True)
    monkeypatch.setattr(builder, "call", None)
    assert build("check", {SOURCE: KERNELS}, replace_all=True) == library


def test_a_header_is_part_of_the_files_that_include_it():
    texts = {"a.cu": '#include "a.cuh"', "a.cuh": '#include "deep.cuh"', "deep.cuh": "", "b.cu": ""}
    changed = texts | {"deep.cuh": "int x;"}
    assert builder.key(texts, "a.cu", []) != builder.key(changed, "a.cu", [])
    assert builder.key(texts, "b.cu", []) == builder.key(changed, "b.cu", [])
    assert builder.key(texts, "b.cu", []) != builder.key(texts, "b.cu", ["-O3"])


ASAN = """
import numpy as np
from emulator.emulator import EmulatedDriver
from aaecore.driver import Launch

text = '''
#include "device.cuh"
KERNEL(local_array, 32, const float* x, float* y, int n) {
  STATIC_SHARED(float, s, 32);
  float own[8];
  for (int i = 0; i < n; i++) own[i] = x[i];
  s[threadIdx.x] = own[threadIdx.x % 8];
  __syncthreads();
  y[threadIdx.x] = s[31 - threadIdx.x];
}
'''
d = EmulatedDriver("asan", sources={"inline.cu": text}, replace_all=True)
x, y = d.allocate(48).view("f4"), d.allocate(128).view("f4")
x[:] = 1
for n in (8, SIZE):
    d.launch(Launch("inline.cu", "local_array", (2, 1), 32, 0, (d.pointer(x), d.pointer(y), np.int32(n))))
    print(n, d.download(y).sum())
"""


@pytest.mark.parametrize(("size", "report"), [(8, ""), (9, "runtime error: index 8 out of bounds")])
def test_sanitizers(size, report):
    """AddressSanitizer and UndefinedBehaviorSanitizer see what the checker does not: arrays of a thread."""
    needed = asan_environment()
    if not all(Path(p).is_absolute() for p in needed["LD_PRELOAD"].split()):
        pytest.skip("g++ has no libasan or no libubsan: install them")
    environment = os.environ | needed | {"PYTHONPATH": str(Path(__file__).parent)}
    code = ASAN.replace("SIZE", str(size))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("8 32.0\n")
    assert (done.returncode != 0) == bool(report)
    assert report in done.stderr
