// Batch norm, over the rows of a batch, column by column, with the activation behind it.
//
// A block has 32 columns and all rows. Warp k has the rows r with r % 8 = k, each lane a column: these are the 8 chains of a sum of the CPU,
// which are added in the same pairs, so that what is made of the sums has the CPU's bits.
#include "device.cuh"

constexpr int COLUMNS = 32, CHAINS = 8, THREADS = COLUMNS * CHAINS;

// The column of a thread; beyond the end the last one is read again, and nothing comes of it.
struct Column {
  int at;
  bool is_there;
  DEVICE explicit Column(int F) {
    const int column = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
    is_there = column < F;
    at = is_there ? column : F - 1;
  }
  DEVICE bool is_first_chain() const { return is_there && threadIdx.x < COLUMNS; }  // who writes what there is one of
};

// The sum of the chains of a column, in every thread of it. `chains` has room for one number of each thread; nobody else uses it before or after.
DEVICE float sum_of_chains(float chain, float* chains) {
  chains[threadIdx.x] = chain;
  __syncthreads();
  const float* c = chains + threadIdx.x % COLUMNS;
  return ((c[0] + c[32]) + (c[64] + c[96])) + ((c[128] + c[160]) + (c[192] + c[224]));
}

DEVICE float scale_of(float variance, double eps) { return 1.0f / sqrt_f(variance + (float)eps); }

KERNEL(batch_norm_forward, THREADS, const float* x, const float* gamma, const float* shift, float* y, float* moments, int B, int F, int act,
       double slope, double eps) {
  STATIC_SHARED(float, sums, THREADS);
  STATIC_SHARED(float, squares, THREADS);
  const Column column(F);
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
  const Column column(F);
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
