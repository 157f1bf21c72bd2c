// Everything that depends on the compiler: the only file with inline PTX. Kernels include this and no header of the toolkit, so that one
// source serves NVRTC (what users run, through CuPy), nvcc, and g++ (the emulator of tests/emulator, which has twins of all that stands here).
#pragma once

#include "scalar.h"

#ifndef __CUDACC__
#include "cuda_emu.h"
#else

// A kernel is KERNEL(name, threads of a block, parameters...) { ... }. Parameters are pointers, int and double, nothing else.
// KERNEL_BLOCKS says as well how many blocks a multiprocessor must hold at once; without a number the compiler guesses one, and may spill for it.
#define KERNEL_BLOCKS(name, threads, blocks, ...) extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)
#define KERNEL(name, threads, ...) KERNEL_BLOCKS(name, threads, 1, __VA_ARGS__)
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_8 _Pragma("unroll 8")
#define NO_UNROLL _Pragma("unroll 1")
// Shared memory: one-dimensional, declared at the top of a function. STATIC_SHARED has n elements, DYNAMIC_SHARED what the launch gives.
#define STATIC_SHARED(T, name, n) __shared__ __align__(16) T name[n]
extern __shared__ __align__(16) unsigned char aae_dynamic_shared[];
#define DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(aae_dynamic_shared)

// Asynchronous copies and tensor cores came with sm_80. What is compiled for older chips copies at once.
#define HAS_SM80 (__CUDA_ARCH__ >= 800)

// ------------------------------------------------------------------------------------------------ wide memory access

DEVICE float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
DEVICE float2 load2(const float* p) { return *reinterpret_cast<const float2*>(p); }
DEVICE void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }
DEVICE void store2(float* p, float2 v) { *reinterpret_cast<float2*>(p) = v; }
DEVICE void prefetch(const float* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }  // into L2, the 32 bytes that p is in
DEVICE bool is_aligned16(const void* p) { return reinterpret_cast<unsigned long long>(p) % 16 == 0; }

// ------------------------------------------------------------------------------- asynchronous copy, global -> shared

// N bytes, 4 or 16, both addresses multiples of N; zeros if not `inside`, when nothing is read. The bytes may be read after the wait.
template <int N> DEVICE void copy_async(float* shared, const float* global, bool inside) {
#if HAS_SM80
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared)), bytes = inside ? N : 0;
  if (N == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
  if (N == 16) store4(shared, inside ? load4(global) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
  else *shared = inside ? *global : 0.0f;
#endif
}
// Ends a group of copies; at most PENDING groups of this thread are under way after the wait.
DEVICE void commit_copies() {
#if HAS_SM80
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int PENDING> DEVICE void wait_copies() {
#if HAS_SM80
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// ------------------------------------------------------------------------------------------------------ tensor cores

#if HAS_SM80
DEVICE u32 round_tf32(float x) {  // to 11 significant bits, to nearest, ties away from zero
  u32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
DEVICE u32 pack_bf16(float low, float high) {  // two bfloat16, to nearest, ties to even; `low` in bits 0 to 15
  u32 bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
// d (16 x 8) += a (16 x K) b (K x 8), spread over the 32 lanes of a warp as the PTX manual says; K is 8 for tf32, 16 for bfloat16.
DEVICE void mma_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
#endif
