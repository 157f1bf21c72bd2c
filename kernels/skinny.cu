// Linear layers with at most 8 outputs (codes, logits) or 8 inputs: a block for each row of the batch, whose warps or threads share the long side.
#include "math.cuh"
#include "quad.cuh"
#include "reduce.cuh"

constexpr int MOST = 8, THREADS = 256;

// One warp for each output: y[b][o] = act(x[b] . W[o] + bias[o]). Grid: B.
template <class Math> DEVICE void forward_skinny(const float* x, const float* weight, const float* bias, float* y, int I, int O, int act, float slope) {
  const int o = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (o >= O) return;
  x += (long long)blockIdx.x * I, weight += (long long)o * I;
  const bool wide = is_wide(x, I) && is_wide(weight, I);
  float sum = 0.0f;
  for (int i = 4 * lane; i < I; i += 4 * 32) {
    const Quad a = load_quad(x + i, I - i, wide), b = load_quad(weight + i, I - i, wide);
    UNROLL
    for (int j = 0; j < 4; j++) sum = fmaf(Math::rounded(a.v[j]), Math::rounded(b.v[j]), sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) y[blockIdx.x * O + o] = activation(sum + bias[o], act, slope);
}

// The threads share the outputs: dx[b][i] = beta dx[b][i] + act'(x[b][i]) sum over o of dy[b][o] W[o][i]. Grid: B.
template <class Math>
DEVICE void backward_input_skinny(const float* dy, const float* weight, const float* x, float* dx, int I, int O, int act, int beta, float slope) {
  STATIC_SHARED(float, sums, THREADS / 32 * MOST);
  dy += (long long)blockIdx.x * O;
  float sum[MOST];
  UNROLL
  for (int i = 0; i < MOST; i++) sum[i] = 0.0f;
  for (int o = threadIdx.x; o < O; o += THREADS) {
    const float g = Math::rounded(dy[o]);
    UNROLL
    for (int i = 0; i < MOST; i++)
      if (i < I) sum[i] = fmaf(g, Math::rounded(weight[o * I + i]), sum[i]);
  }
  UNROLL
  for (int i = 0; i < MOST; i++) {
    sum[i] = warp_sum(sum[i]);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32 * MOST + i] = sum[i];
  }
  __syncthreads();
  if (threadIdx.x >= I) return;
  float total = 0.0f;
  for (int w = 0; w < THREADS / 32; w++) total += sums[w * MOST + threadIdx.x];
  const long long at = (long long)blockIdx.x * I + threadIdx.x;
  total *= activation_derivative(x[at], act, slope);
  dx[at] = beta ? dx[at] + total : total;
}

#define SKINNY_KERNELS(MATH, suffix)                                                                                                         \
  KERNEL(linear_forward_##suffix##_skinny, THREADS, const float* x, const float* weight, const float* bias, float* y, int, int I, int O,     \
         int act, double slope) {                                                                                                            \
    forward_skinny<MATH>(x, weight, bias, y, I, O, act, (float)slope);                                                                       \
  }                                                                                                                                          \
  KERNEL(linear_backward_input_##suffix##_skinny, THREADS, const float* dy, const float* weight, const float* x, float* dx, int, int I,      \
         int O, int act, int beta, double slope) {                                                                                           \
    backward_input_skinny<MATH>(dy, weight, x, dx, I, O, act, beta, (float)slope);                                                           \
  }

SKINNY_KERNELS(Ffma, ffma)
#if HAS_SM80
SKINNY_KERNELS(Tf32, tf32)
SKINNY_KERNELS(Bf16, bf16)
#endif
