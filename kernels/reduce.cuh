// Sums over a warp and over a block, in an order that depends on the number of threads alone.
#pragma once

#include "device.cuh"

template <class T> DEVICE T warp_sum(T value) {  // the same in every lane
  UNROLL
  for (int lanes = 16; lanes; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
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
