"""Kernels that measure a GPU itself: rates of its arithmetic on registers, and how its tensor cores round sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

THREADS, CHAINS = 256, 8  # of a block; independent results of a thread, so that none waits for the one before
SOURCE = r"""
typedef unsigned int u32;
// ITERATIONS rounds of CHAINS multiply-adds in each thread.
extern "C" __global__ void ffma_rate(float* out, int iterations) {
  float sum[8];
  const float a = 1.0f + 1e-6f * threadIdx.x, b = 1e-7f;
  for (int c = 0; c < 8; c++) sum[c] = c;
  for (int i = 0; i < iterations; i++)
#pragma unroll
    for (int c = 0; c < 8; c++) sum[c] = fmaf(sum[c], a, b);
  float total = 0.0f;
  for (int c = 0; c < 8; c++) total += sum[c];
  if (total == 12345.678f) out[0] = total;  // never: but the compiler must keep the sums
}

#define OPERANDS "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
  : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
  : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])
__device__ __forceinline__ void mma_tf32(float* d, const u32* a, const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 " OPERANDS);
}
__device__ __forceinline__ void mma_bf16(float* d, const u32* a, const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 " OPERANDS);
}
#define RATE(name, product) \
  extern "C" __global__ void name(float* out, int iterations) { \
    float sum[8][4]; \
    u32 a[4], b[2]; \
    for (int r = 0; r < 4; r++) a[r] = 0x3f803f80u + threadIdx.x; \
    for (int r = 0; r < 2; r++) b[r] = 0x3c003c00u + threadIdx.x; \
    for (int c = 0; c < 8; c++) for (int r = 0; r < 4; r++) sum[c][r] = 0.0f; \
    for (int i = 0; i < iterations; i++) \
      _Pragma("unroll") for (int c = 0; c < 8; c++) product(sum[c], a, b); \
    float total = 0.0f; \
    for (int c = 0; c < 8; c++) for (int r = 0; r < 4; r++) total += sum[c][r]; \
    if (total == 12345.678f) out[0] = total; \
  }
RATE(mma_tf32_rate, mma_tf32)
RATE(mma_bf16_rate, mma_bf16)

// d (16 x 8) = a (16 x 8) b (8 x 8) + d, one instruction of one warp; all row by row.
extern "C" __global__ void one_mma_tf32(const float* a, const float* b, float* d) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  u32 left[4], right[2];
  float sum[4];
  for (int i = 0; i < 4; i++) left[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (int i = 0; i < 2; i++) right[i] = __float_as_uint(b[(t + i * 4) * 8 + g]);
  for (int r = 0; r < 4; r++) sum[r] = d[(g + r / 2 * 8) * 8 + 2 * t + r % 2];
  mma_tf32(sum, left, right);
  for (int r = 0; r < 4; r++) d[(g + r / 2 * 8) * 8 + 2 * t + r % 2] = sum[r];
}
"""
RATES = {  # kernel: operations of a thread in one round of its loop
    "ffma_rate": 2 * CHAINS,
    "mma_tf32_rate": 2 * 16 * 8 * 8 * CHAINS // 32,
    "mma_bf16_rate": 2 * 16 * 8 * 16 * CHAINS // 32,
}
ULP = 2.0**-23  # of 1
QUESTIONS: dict[str, tuple[float, list[float]]] = {  # what is added to, and the products that are added to it
    "three quarters of an ulp to 1": (1.0, [0.75 * ULP]),
    "three quarters of an ulp from -1": (-1.0, [-0.75 * ULP]),
    "two halves of an ulp to 1": (1.0, [0.5 * ULP] * 2),
    "four quarters of an ulp to 1": (1.0, [0.25 * ULP] * 4),
    "eight eighths of an ulp to 1": (1.0, [0.125 * ULP] * 8),
    "half an ulp to 1": (1.0, [0.5 * ULP]),
}


@cache  # one source has several kernels that are loaded one by one
def cubin(architecture: str, source: str = SOURCE) -> bytes:
    """The kernels for an architecture such as sm_80; needs NVRTC and no GPU."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source, "probe.cu", [], [])
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", "-std=c++17"))
        return bytes(nvrtc.getCUBIN(program)) + b"\0"
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"{error}: {nvrtc.getProgramLog(program)}") from None


def asked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, b and d of `one_mma_tf32`: a question in each of the first rows."""
    a, d = np.zeros((16, 8), np.float32), np.zeros((16, 8), np.float32)
    for row, (start, products) in enumerate(QUESTIONS.values()):
        a[row, : len(products)], d[row] = products, start
    return a, np.ones((8, 8), np.float32), d


def answers(d: np.ndarray) -> dict[str, float]:
    """By question: by how many ulps of 1 the sum moved, away from zero."""
    starts = [start for start, _ in QUESTIONS.values()]
    return {q: float((abs(float(d[row, 0])) - abs(starts[row])) / ULP) for row, q in enumerate(QUESTIONS)}


def verdict(moved: dict[str, float]) -> str:
    """How a tensor core rounds its sums, as far as the questions tell."""
    up, down = moved["three quarters of an ulp to 1"], moved["three quarters of an ulp from -1"]
    names = {(0, 0): "toward zero", (1, 1): "to nearest", (0, 1): "down", (1, 0): "up"}
    rounding = names.get((int(up), int(down)), "in an unknown way")
    exact = [q for q in list(moved)[2:5] if moved[q] == 1.0]
    extra = {0: "no", 1: "one", 2: "two", 3: "three or more"}[len(exact)]
    return f"{rounding}, with {extra} extra bits of the addends"


def load(names: Sequence[str], architecture: str, source: str = SOURCE) -> dict[str, Any]:
    """Functions of the current GPU."""
    import cupy

    module = cupy.cuda.function.Module()
    module.load(cubin(architecture, source))
    return {name: module.get_function(name) for name in names}
