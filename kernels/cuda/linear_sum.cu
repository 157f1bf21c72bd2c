// Weight gradients of long batches: adds what linear_backward_weight_part made of the parts, in their order, and ends them as the kernels of
// linear.cuh do that make all at once. The bias has blocks of its own behind those of the weight.
#include "adam.cuh"

constexpr int THREADS = 256;

// weight(i, n, sums) gets element i and the next three, as far as n go; bias(o, sum).
template <int PARTS, class Weight, class Bias> DEVICE void add_parts(const float* parts, int I, int O, const Weight& weight, const Bias& bias) {
  const int size = O * I, blocks = ((size + 3) / 4 + THREADS - 1) / THREADS;
  if (blockIdx.x < blocks) {
    const int i = 4 * (blockIdx.x * THREADS + threadIdx.x), n = size - i;
    if (n <= 0) return;
    const bool wide = n >= 4 && is_wide(parts, size);
    Quad part[PARTS];
    UNROLL
    for (int p = 0; p < PARTS; p++) part[p] = load_quad(parts + (long long)p * size + i, n, wide);
    UNROLL
    for (int p = 1; p < PARTS; p++)
      UNROLL
      for (int j = 0; j < 4; j++) part[0].v[j] += part[p].v[j];
    weight(i, n, part[0]);
  } else {
    const int o = (blockIdx.x - blocks) * THREADS + threadIdx.x;
    if (o >= O) return;
    float sum = 0.0f;
    UNROLL
    for (int p = 0; p < PARTS; p++) sum += parts[(long long)PARTS * size + p * O + o];
    bias(o, sum);
  }
}

#define SUM_KERNELS(PARTS)                                                                                                                    \
  KERNEL(linear_backward_weight_sum##PARTS, THREADS, const float*, const float*, float* dweight, float* dbias, int, int I, int O, int beta,   \
         const float* parts) {                                                                                                                \
    add_parts<PARTS>(                                                                                                                         \
        parts, I, O,                                                                                                                          \
        [&](int i, int n, Quad sum) {                                                                                                         \
          const bool wide = n >= 4 && is_aligned16(dweight);                                                                                  \
          const Quad old = load_quad(dweight + i, beta ? n : 0, wide && beta);                                                                \
          UNROLL                                                                                                                              \
          for (int j = 0; j < 4; j++) sum.v[j] = beta ? old.v[j] + sum.v[j] : sum.v[j];                                                       \
          store_quad(dweight + i, sum, n, wide);                                                                                              \
        },                                                                                                                                    \
        [&](int o, float sum) { dbias[o] = beta ? dbias[o] + sum : sum; });                                                                   \
  }                                                                                                                                           \
  KERNEL(linear_backward_weight_adam_sum##PARTS, THREADS, const float*, const float*, float* weight, float* m_weight, float* v_weight,        \
         float* bias, float* m_bias, float* v_bias, const double* state, int, int I, int O, const float* parts) {                             \
    const Adam adam = load_adam(state);                                                                                                       \
    add_parts<PARTS>(                                                                                                                         \
        parts, I, O,                                                                                                                          \
        [&](int i, int n, const Quad& sum) {                                                                                                  \
          const bool wide = n >= 4 && is_aligned16(weight) && is_aligned16(m_weight) && is_aligned16(v_weight);                               \
          const AdamQuad old = load_adam_quad(weight + i, m_weight + i, v_weight + i, n, wide);                                               \
          adam_quad(adam, sum, old, weight + i, m_weight + i, v_weight + i, n, wide);                                                         \
        },                                                                                                                                    \
        [&](int o, float sum) { adam_number(adam, sum, bias[o], m_bias[o], v_bias[o]); });                                                    \
  }

SUM_KERNELS(2)
SUM_KERNELS(4)
SUM_KERNELS(8)
