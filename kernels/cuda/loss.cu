// Losses with their gradients in one pass, the activation derivative, a bias with its activation, and the Gaussian posterior.
//
// A loss is a sum of floats in double: each block leaves its part in `partial`, and a second kernel of one warp, <op>_sum, adds the parts. Both
// in an order that depends on the shape alone.
#include "columns.cuh"
#include "loss.cuh"
#include "quad.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, ROW_THREADS = 64, PARTS = 1024;  // PARTS: the most blocks of a sum; aaecore/backends/cuda/kernels.py has the same numbers

KERNEL(activation_backward, THREADS, const float* dy, const float* y, float* dx, int N, int act, int beta, double slope) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= N) return;
  const float g = dy[i] * activation_derivative(y[i], act, (float)slope);
  dx[i] = beta ? dx[i] + g : g;
}

// The sum of f over this block's share of the quads of n elements, into its place in `partial`. f(i, left) takes elements i to i + 3, of which
// `left` exist, and gives their sum. It may write these elements of outputs.
template <class F> DEVICE void partial_sum(int n, double* partial, F f) {
  STATIC_SHARED(double, warps, THREADS / 32);
  double sum = 0.0;
  for (u32 i = 4 * (blockIdx.x * THREADS + threadIdx.x); i < (u32)n; i += 4 * gridDim.x * THREADS) sum += f((int)i, n - (int)i);
  sum = block_sum<THREADS>(sum, warps);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The same of a loss, whose gradient goes to dy. f(y, target) gives the value of an element and its gradient.
template <class F> DEVICE void partial_loss(const float* y, const float* target, float* dy, int n, double* partial, F f) {
  const bool wide = is_aligned16(y) && is_aligned16(target) && is_aligned16(dy);
  partial_sum(n, partial, [&](int i, int left) {
    const bool whole = wide && left >= 4;
    const Quad a = load_quad(y + i, left, whole), b = load_quad(target + i, left, whole);
    Quad gradient;
    double sum = 0.0;
    UNROLL
    for (int j = 0; j < 4; j++) {
      const ValueGrad r = f(a.v[j], b.v[j]);
      gradient.v[j] = r.grad;
      if (j < left) sum += (double)r.value;
    }
    store_quad(dy + i, gradient, left, whole);
    return sum;
  });
}

// The sum of the parts of n elements, of which a block takes so many at a time; in every lane of the one warp.
DEVICE double sum_of_parts(const double* partial, int n, int of_block = 4 * THREADS) {
  const int parts = min(PARTS, (n + of_block - 1) / of_block);
  double sum = 0.0;
  for (int i = threadIdx.x; i < parts; i += 32) sum += partial[i];
  return warp_sum(sum);
}

KERNEL(half_squared_error, THREADS, const float* y, const float* target, float* dy, float*, int B, int N, int act, double slope, double weight,
       double* partial) {
  const float factor = (float)(weight / B);
  partial_loss(y, target, dy, B * N, partial, [&](float a, float b) {
    const float d = a - b;
    const ValueGrad r = {d * d, factor * d * activation_derivative(a, act, (float)slope)};
    return r;
  });
}

KERNEL(half_squared_error_sum, 32, const float*, const float*, float*, float* loss, int B, int N, int, double, double weight, double* partial) {
  const double sum = sum_of_parts(partial, B * N);
  if (threadIdx.x == 0) *loss = (float)(0.5 * (weight / B) * sum);
}

KERNEL(bce_logits, THREADS, const float* logits, const float* target, float* dlogits, float*, int B, int N, double weight, double* partial) {
  const float factor = (float)(weight / B);
  partial_loss(logits, target, dlogits, B * N, partial, [&](float logit, float t) {
    ValueGrad r = bce_logit(logit, t);
    r.grad *= factor;
    return r;
  });
}

KERNEL(bce_logits_sum, 32, const float*, const float*, float*, float* loss, int B, int N, double weight, double* partial) {
  const double sum = sum_of_parts(partial, B * N);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum);
}

KERNEL(add_bias, THREADS, const float* x, const float* bias, float* y, int B, int N, int act, double slope) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < B * N) y[i] = activation(x[i] + bias[i % N], act, (float)slope);
}

KERNEL(inner_product, THREADS, const float* x, const float* v, float* dx, float*, int B, int N, double weight, double* partial) {
  const float factor = (float)(weight / B);
  partial_loss(x, v, dx, B * N, partial, [=](float a, float b) {
    const ValueGrad r = {a * b, factor * b};
    return r;
  });
}

KERNEL(inner_product_sum, 32, const float*, const float*, float*, float* loss, int B, int N, double weight, double* partial) {
  const double sum = sum_of_parts(partial, B * N);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum);
}

// A block has so many columns at a time, and the loss is made of their sums.
KERNEL(bias_product, COLUMN_THREADS, const float* bias, const float* v, float* dbias, float*, int B, int N, double weight, double* partial) {
  STATIC_SHARED(float, chains, 2 * COLUMN_THREADS);  // in turn: what one group leaves is read while the next one writes
  const float factor = (float)(weight / B);
  double sum = 0.0;
  for (int group = blockIdx.x, turn = 0; group * COLUMNS < N; group += gridDim.x, turn ^= 1) {
    const Column column(N, group);
    float chain = 0.0f;
    UNROLL_8
    for (int r = threadIdx.x / COLUMNS; r < B; r += CHAINS) chain += v[r * N + column.at];
    const float rows = sum_of_chains(chain, chains + turn * COLUMN_THREADS);
    if (!column.is_first_chain()) continue;
    dbias[column.at] = factor * rows;
    sum += (double)(bias[column.at] * rows);
  }
  if (threadIdx.x < 32) sum = warp_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL(bias_product_sum, 32, const float*, const float*, float*, float* loss, int B, int N, double weight, double* partial) {
  const double sum = sum_of_parts(partial, N, COLUMNS);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum);
}

// params (B, 2, Z): mean, then log variance.
KERNEL(gaussian_kl, THREADS, const float* params, float* dparams, float*, int B, int Z, double mean, double precision, double, double weight,
       double* partial) {
  const float factor = (float)(weight / B);
  partial_sum(B * Z, partial, [&](int first, int left) {
    double sum = 0.0;
    for (int i = first; i < first + min(4, left); i++) {
      const int at = i / Z * Z + i;  // 2 Z r + j
      const GaussianKl kl = gaussian_kl_of(params[at], params[at + Z], (float)mean, (float)precision);
      dparams[at] = factor * kl.dm;
      dparams[at + Z] = factor * kl.dlog_v;
      sum += (double)kl.value;
    }
    return sum;
  });
}

KERNEL(gaussian_kl_sum, 32, const float*, float*, float* loss, int B, int Z, double, double, double offset, double weight, double* partial) {
  const double sum = sum_of_parts(partial, B * Z);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum + weight * offset * Z);
}

// A mixture of C Gaussians of Z features.
struct Mixture {
  const float *log_scales, *means, *whitening;
  int Z, C;
  // Calls f(j, y[j]) with y[j] = sum over k <= j of whitening[j][k] (z[k] - mean[k]) of component c.
  template <class F> DEVICE void whitened(int c, const float* z, F f) const {
    const float *mean = means + c * Z, *factor = whitening + c * Z * Z;
    for (int j = 0; j < Z; j++) {
      float y = 0.0f;
      for (int k = 0; k <= j; k++) y += factor[j * Z + k] * (z[k] - mean[k]);
      f(j, y);
    }
  }
  DEVICE float term(int c, const float* z) const {
    float sum = 0.0f;
    whitened(c, z, [&](int, float y) { sum += y * y; });
    return log_scales[c] - 0.5f * sum;
  }
};

// ln p of a row, and in dz minus its gradient times `factor`. The terms are made twice: there may be more than a thread can keep.
DEVICE float log_density(const Mixture& p, const float* z, float* dz, float factor) {
  const int Z = p.Z;
  float largest = p.term(0, z), sum = 0.0f;
  for (int c = 1; c < p.C; c++) {
    const float term = p.term(c, z);
    largest = term > largest ? term : largest;
  }
  for (int k = 0; k < Z; k++) dz[k] = 0.0f;
  for (int c = 0; c < p.C; c++) {
    const float share = exp_f(p.term(c, z) - largest);
    sum += share;
    if (share == 0.0f) continue;
    const float* w = p.whitening + c * Z * Z;
    p.whitened(c, z, [&](int j, float y) {
      const float part = share * y;
      for (int k = 0; k <= j; k++) dz[k] += w[j * Z + k] * part;
    });
  }
  const float scale = factor / sum;
  for (int k = 0; k < Z; k++) dz[k] *= scale;
  return log_sum_exp(largest, sum);
}

// A thread for each row.
KERNEL(mixture_nll, ROW_THREADS, const float* z, const float* log_scales, const float* means, const float* whitening, float* dz, float*, int B,
       int Z, int C, double weight, double* partial) {
  STATIC_SHARED(double, warps, ROW_THREADS / 32);
  const Mixture p = {log_scales, means, whitening, Z, C};
  double sum = 0.0;
  for (u32 r = blockIdx.x * ROW_THREADS + threadIdx.x; r < (u32)B; r += gridDim.x * ROW_THREADS)
    sum -= (double)log_density(p, z + r * Z, dz + r * Z, (float)(weight / B));
  sum = block_sum<ROW_THREADS>(sum, warps);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL(mixture_nll_sum, 32, const float*, const float*, const float*, const float*, float*, float* loss, int B, int, int, double weight,
       double* partial) {
  const double sum = sum_of_parts(partial, B, ROW_THREADS);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum);
}

// One block, of as many threads as there can be: there is one logit for a row.
constexpr int MOST_THREADS = 1024;
KERNEL(adversarial_bce, MOST_THREADS, const float* logits, float* dlogits, float* loss, int B, int real, double weight) {
  STATIC_SHARED(double, warps, MOST_THREADS / 32);
  const AdversarialBce bce(B, real, weight);
  double sum = 0.0;
  for (int i = threadIdx.x; i < B; i += MOST_THREADS) {
    const ValueGrad r = bce.of(logits[i], i);
    dlogits[i] = r.grad;
    sum += bce.weight(i) * (double)r.value;
  }
  sum = block_sum<MOST_THREADS>(sum, warps);
  if (threadIdx.x == 0) *loss = (float)sum;
}

// params (B, 2, Z): mean, then log variance. A thread for each element of z.
KERNEL(gaussian_sample, THREADS, const float* params, const float* eps, float* z, int B, int Z) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= B * Z) return;
  const float* mean = params + i / Z * Z + i;  // 2 Z r + j
  z[i] = mean[0] + exp_f(0.5f * mean[Z]) * eps[i];
}

// d mean = dz, d log variance = dz eps exp(log variance / 2) / 2.
KERNEL(gaussian_sample_backward, THREADS, const float* dz, const float* params, const float* eps, float* dparams, int B, int Z, int beta) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= B * Z) return;
  const int at = i / Z * Z + i;
  const float g = dz[i], h = g * eps[i] * (0.5f * exp_f(0.5f * params[at + Z]));
  dparams[at] = beta ? dparams[at] + g : g;
  dparams[at + Z] = beta ? dparams[at + Z] + h : h;
}

KERNEL(sum_squares, THREADS, const float* x, double*, int N, int, double* partial) {
  const bool wide = is_aligned16(x);
  partial_sum(N, partial, [&](int i, int left) {
    const Quad q = load_quad(x + i, left, wide && left >= 4);
    double sum = 0.0;
    UNROLL
    for (int j = 0; j < 4; j++) sum += (double)q.v[j] * (double)q.v[j];
    return sum;
  });
}

KERNEL(sum_squares_sum, 32, const float*, double* total, int N, int beta, double* partial) {
  const double sum = sum_of_parts(partial, N);
  if (threadIdx.x == 0) *total = beta ? *total + sum : sum;
}
