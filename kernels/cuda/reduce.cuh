// Sums over a warp and over a block, in an order that depends on the number of threads alone.
#pragma once

#include "device.cuh"

template <class T> DEVICE T warp_sum(T value) {  // the same in every lane
  UNROLL
  for (int lanes = 16; lanes; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

// N sums at once, spread over the lanes: afterwards sums[0] of lane l is number l N / 32. The order of each is that of warp_sum.
template <int N, int LANES = 16, int SIZE> DEVICE void spread_sum(float (&sums)[SIZE]) {
  static_assert(N <= 2 * LANES, "a lane gets one sum");
  constexpr int HALF = N / 2;
  const bool upper = HALF && threadIdx.x & LANES;  // this lane goes on with the upper half of the sums, its partner with the lower one
  UNROLL
  for (int i = 0; i < (HALF ? HALF : 1); i++) {
    const float mine = upper ? sums[i + HALF] : sums[i], other = upper ? sums[i] : sums[i + HALF];
    sums[i] = mine + __shfl_xor_sync(0xffffffffu, other, LANES);
  }
  if constexpr (LANES > 1) spread_sum<(HALF ? HALF : 1), LANES / 2>(sums);
}

// The sum over a block of THREADS, in thread 0. `warps` has room for one number of each warp; nobody else uses it before or after.
template <int THREADS, class T> DEVICE T block_sum(T value, T* warps) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  if (threadIdx.x == 0)
    for (int w = 0; w < THREADS / 32; w++) sum += warps[w];
  return sum;
}
