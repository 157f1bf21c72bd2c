// The kernels of the emulator's own tests. Blocks of 64 threads with the same parameters, so that one test can run them all.
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
