"""Kernels that measure what lies between the parts of a step: nodes of graphs, barriers, clusters, L2."""

from __future__ import annotations

SOURCE = r"""
typedef unsigned int u32;
extern __shared__ float4 dynamic[];

// One more than the mean of two numbers of the next block. It stands for a product: each block reads what another one
// wrote, and `dynamic` is as large as the launch says.
__device__ __forceinline__ void one_more(const float* a, const float* b, float* out) {
  float* mine = reinterpret_cast<float*>(dynamic);
  const u32 next = (blockIdx.x + 1) % gridDim.x;
  if (threadIdx.x == 0) mine[0] = 0.5f * (a[next] + b[next]) + 1.0f;
  __syncthreads();
  if (threadIdx.x == 31) out[blockIdx.x] = mine[0];
}
extern "C" __global__ void node(const float* a, const float* b, float* out) { one_more(a, b, out); }

// ROUNDS barriers of all blocks, which must run at the same time. Thread 0 adds to a counter, zero at first, and looks
// at it until all blocks have; a block that has looked too often ends and says so.
extern "C" __global__ void grid_barrier(u32* arrived, u32* late, int rounds) {
  const u32 patience = 1 << 20;  // less than a second
  for (int r = 1; r <= rounds; r++) {
    int failed = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
      u32 seen, looks = 0;
      asm volatile("red.release.gpu.global.add.u32 [%0], 1;" :: "l"(arrived) : "memory");
      do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
      while (seen < r * gridDim.x && ++looks < patience);
      failed = looks == patience;
    }
    if (__syncthreads_or(failed)) {
      *late = 1;
      return;
    }
  }
}

// Every block reads all of N 16-byte words, a power of two, 8 loads of a thread in flight, from a place of its own on.
extern "C" __global__ void l2_loads(const float4* data, int n, float* out) {
  float total = 0.0f;
  const int start = (int)((long long)blockIdx.x * n / gridDim.x) / 2048 * 2048 + threadIdx.x;
  for (int i = 0; i < n; i += 2048) {
    float4 v[8];
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const float4* from = data + (start + i + 256 * k & n - 1);
      asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];"
                   : "=f"(v[k].x), "=f"(v[k].y), "=f"(v[k].z), "=f"(v[k].w) : "l"(from));
    }
#pragma unroll
    for (int k = 0; k < 8; k++) total += v[k].x + v[k].y + v[k].z + v[k].w;
  }
  out[256 * blockIdx.x + threadIdx.x] = total;
}

// The same with cp.async into shared memory, in four stages of 4 copies of a thread: 64 KB of `dynamic`.
extern "C" __global__ void l2_copies(const float4* data, int n, float* out) {
  const u32 to = (u32)__cvta_generic_to_shared(dynamic) + 16 * threadIdx.x;
  const int start = (int)((long long)blockIdx.x * n / gridDim.x) / 1024 * 1024 + threadIdx.x;
  for (int i = 0; i < n; i += 1024) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const u32 slot = 16384 * (i / 1024 % 4) + 4096 * k;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                   :: "r"(to + slot), "l"(data + (start + i + 256 * k & n - 1)) : "memory");
    }
    asm volatile("cp.async.commit_group;\n cp.async.wait_group 3;" ::: "memory");
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  float total = 0.0f;  // of its last copies
  for (int k = 0; k < 16; k++) {
    const float4 v = dynamic[256 * k + threadIdx.x];
    total += v.x + v.y + v.z + v.w;
  }
  out[256 * blockIdx.x + threadIdx.x] = total;
}

#if __CUDA_ARCH__ >= 900
// `node`, launched so that it may begin while the one before still runs: it lets the next one begin at once, and then
// waits until the one before has ended and what it wrote can be seen.
extern "C" __global__ void early_node(const float* a, const float* b, float* out) {
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  one_more(a, b, out);
}

__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// ROUNDS times, every block of a cluster of 8 sums an eighth of a tile of 64 x 64 over the tiles of all blocks, each of
// 128 threads 16 bytes of every tile; then a barrier, as before the next tile is written. Without LOADS only that.
extern "C" __global__ void __cluster_dims__(8, 1, 1) cluster_sum(float* out, int rounds, int loads) {
  __shared__ float4 tile[1024];
  u32 rank, from[8];
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  const float one = rank + 1.0f;
  for (int i = threadIdx.x; i < 1024; i += 128) tile[i] = make_float4(one, one, one, one);
  const u32 mine = (u32)__cvta_generic_to_shared(tile + 128 * rank + threadIdx.x);
  for (int p = 0; p < 8; p++) asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(from[p]) : "r"(mine), "r"(p));
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  cluster_barrier();
  for (int r = 0; r < rounds; r++) {
    if (loads) {
      float4 v[8];
#pragma unroll
      for (int p = 0; p < 8; p++)
        asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
                     : "=f"(v[p].x), "=f"(v[p].y), "=f"(v[p].z), "=f"(v[p].w) : "r"(from[p]) : "memory");
#pragma unroll
      for (int p = 0; p < 8; p++) total.x += v[p].x, total.y += v[p].y, total.z += v[p].z, total.w += v[p].w;
    }
    cluster_barrier();
  }
  out[128 * blockIdx.x + threadIdx.x] = total.x + total.y + total.z + total.w;
}
#endif
"""
