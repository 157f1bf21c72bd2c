// Batch norm, over the rows of a batch, column by column, with the activation behind it: sums as in columns.cuh.
#include "columns.cuh"

constexpr int THREADS = COLUMN_THREADS;

DEVICE float scale_of(float variance, double eps) { return 1.0f / sqrt_f(variance + (float)eps); }

KERNEL(batch_norm_forward, THREADS, const float* x, const float* gamma, const float* shift, float* y, float* moments, int B, int F, int act,
       double slope, double eps) {
  STATIC_SHARED(float, sums, THREADS);
  STATIC_SHARED(float, squares, THREADS);
  const Column column(F, blockIdx.x);
  const int first = threadIdx.x / COLUMNS, c = column.at;
  float sum = 0.0f, square = 0.0f;
  UNROLL_8
  for (int r = first; r < B; r += CHAINS) sum += x[r * F + c];
  const float mean = sum_of_chains(sum, sums) / (float)B;
  UNROLL_8
  for (int r = first; r < B; r += CHAINS) {
    const float away = x[r * F + c] - mean;
    square += away * away;
  }
  const float variance = sum_of_chains(square, squares) / (float)B;
  if (column.is_first_chain()) moments[c] = mean, moments[F + c] = variance;
  if (!column.is_there) return;
  const float scale = scale_of(variance, eps), g = gamma[c], s = shift[c];
  for (int r = first; r < B; r += CHAINS) y[r * F + c] = activation(g * ((x[r * F + c] - mean) * scale) + s, act, (float)slope);
}

// A thread for each element.
KERNEL(batch_norm_apply, THREADS, const float* x, const float* gamma, const float* shift, const float* moments, float* y, int B, int F, int act,
       double slope, double eps) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= B * F) return;
  const int c = i % F;
  y[i] = activation(gamma[c] * ((x[i] - moments[c]) * scale_of(moments[F + c], eps)) + shift[c], act, (float)slope);
}

KERNEL(batch_norm_backward, THREADS, const float* dy, const float* x, const float* gamma, const float* moments, float* dx, float* dgamma,
       float* dshift, int B, int F, double eps) {
  STATIC_SHARED(float, products, THREADS);
  STATIC_SHARED(float, gradients, THREADS);
  const Column column(F, blockIdx.x);
  const int first = threadIdx.x / COLUMNS, c = column.at;
  const float mean = moments[c], scale = scale_of(moments[F + c], eps);
  float product = 0.0f, gradient = 0.0f;
  UNROLL_8
  for (int r = first; r < B; r += CHAINS) {
    const float g = dy[r * F + c];
    product += g * ((x[r * F + c] - mean) * scale);
    gradient += g;
  }
  product = sum_of_chains(product, products);
  gradient = sum_of_chains(gradient, gradients);
  if (column.is_first_chain()) dgamma[c] = product, dshift[c] = gradient;
  if (!column.is_there) return;
  const float factor = gamma[c] * scale, mean_dy = gradient / (float)B, mean_dyn = product / (float)B;
  UNROLL_8
  for (int r = first; r < B; r += CHAINS) dx[r * F + c] = factor * (dy[r * F + c] - (mean_dy + (x[r * F + c] - mean) * scale * mean_dyn));
}
