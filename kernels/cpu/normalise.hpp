// Batch norm, over the rows of a batch, column by column, with the activation behind it.
//
// A sum over rows is that of 8 chains in the order of the rows, row r in chain r % 8, added in pairs: an order that depends on the shape alone,
// and the same on a GPU. The variance is the mean of squares of what is left without the mean: in a second pass, where nothing cancels.

constexpr int ROW_CHAINS = 8;

template <int N> struct Sums {
  V of[N];
};

// The N sums over all rows r of the vectors that term(r) gives.
template <int N, class F> INLINE Sums<N> sum_rows(long rows, F term) {
  Sums<N> chain[ROW_CHAINS];
#pragma GCC unroll 8
  for (int k = 0; k < ROW_CHAINS; ++k)
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i) chain[k].of[i] = splat(0.0f);
  for (long r = 0; r < rows; r += ROW_CHAINS) {
    long left = rows - r;
#pragma GCC unroll 8
    for (int k = 0; k < ROW_CHAINS; ++k)
      if (k < left) {
        Sums<N> more = term(r + k);
#pragma GCC unroll 2
        for (int i = 0; i < N; ++i) chain[k].of[i] = chain[k].of[i] + more.of[i];
      }
  }
#pragma GCC unroll 3
  for (int step = 1; step < ROW_CHAINS; step *= 2)
#pragma GCC unroll 8
    for (int k = 0; k < ROW_CHAINS; k += 2 * step)
#pragma GCC unroll 2
      for (int i = 0; i < N; ++i) chain[k].of[i] = chain[k].of[i] + chain[k + step].of[i];
  return chain[0];
}

constexpr long COLUMNS = 64;  // of a task: four cache lines of each row

// Calls f(first, n) for panels of columns, in parallel.
template <class F> INLINE void for_columns(long columns, double flops_per_column, F f) {
  aae::parallel((columns + COLUMNS - 1) / COLUMNS, columns * flops_per_column,
                [&](long p) { f(p * COLUMNS, min_l(COLUMNS, columns - p * COLUMNS)); });
}

// Calls f(whole, j, n) for the vectors of n columns that begin at column j; `whole` says at compile time whether all of a vector's exist.
template <class F> INLINE void for_vectors(long columns, F f) {
  long j = 0;
  for (; j + VL <= columns; j += VL) f(Constant<1>(), j, columns - j);
  if (j < columns) f(Constant<0>(), j, columns - j);
}

// Rows of x, and what a column is moved and scaled by.
struct BatchNorm {
  const float *x, *gamma, *moments;
  long rows, columns;
  float eps;
  // 1 / sqrt(variance + eps) of n columns.
  INLINE_MEMBER void scales(long first, long n, float* scale) const {
    const float* variance = moments + columns + first;
    for (long c = 0; c < n; ++c) scale[c] = 1.0f / sqrt_f(variance[c] + eps);
  }
};

// Mean and variance of n columns from `first` on.
INLINE void batch_moments(const BatchNorm& p, long first, long n, float* moments) {
  V rows = splat((float)p.rows);
  for_vectors(n, [&](auto whole, long j, long left) {
    const float* x = p.x + first + j;
    V mean = sum_rows<1>(p.rows, [=](long r) { return Sums<1>{{load_some<whole>(x + r * p.columns, left)}}; }).of[0] / rows;
    V squares = sum_rows<1>(p.rows, [=](long r) {
      V away = load_some<whole>(x + r * p.columns, left) - mean;
      return Sums<1>{{away * away}};
    }).of[0];
    store_some<whole>(moments + first + j, mean, left);
    store_some<whole>(moments + p.columns + first + j, squares / rows, left);
  });
}

// y of n columns from `first` on.
INLINE void normalise(const BatchNorm& p, long first, long n, const float* shift, float* y, int64_t act, float slope) {
  float scale[COLUMNS];
  p.scales(first, n, scale);
  const float *mean = p.moments + first, *gamma = p.gamma + first, *to = shift + first;
  with_activation(act, [&](auto a) {
    for (long r = 0; r < p.rows; ++r) {
      const float* from = p.x + r * p.columns + first;
      float* out = y + r * p.columns + first;
#pragma GCC ivdep
      for (long c = 0; c < n; ++c) out[c] = activation(gamma[c] * ((from[c] - mean[c]) * scale[c]) + to[c], a, slope);
    }
  });
}

KERNEL(batch_norm_forward) {
  float *y = out<float>(buf, 3), *moments = out<float>(buf, 4);
  const float* shift = in<float>(buf, 2);
  BatchNorm p = {in<float>(buf, 0), in<float>(buf, 1), moments, dim[0], dim[1], (float)scalar[1]};
  for_columns(p.columns, 9.0 * p.rows, [&](long first, long n) {
    batch_moments(p, first, n, moments);
    normalise(p, first, n, shift, y, dim[2], (float)scalar[0]);
  });
}

KERNEL(batch_norm_apply) {
  const float* shift = in<float>(buf, 2);
  float* y = out<float>(buf, 4);
  BatchNorm p = {in<float>(buf, 0), in<float>(buf, 1), in<float>(buf, 3), dim[0], dim[1], (float)scalar[1]};
  for_columns(p.columns, 4.0 * p.rows,
              [&](long first, long n) { normalise(p, first, n, shift, y, dim[2], (float)scalar[0]); });
}

// dgamma = sum dy n and dshift = sum dy of n columns from `first` on.
INLINE void batch_norm_sums(const BatchNorm& p, const float* dy, long first, long n, const float* scale, float* dgamma, float* dshift) {
  for_vectors(n, [&](auto whole, long j, long left) {
    const float *x = p.x + first + j, *g = dy + first + j;
    V mean = load_some<whole>(p.moments + first + j, left), factor = load_some<whole>(scale + j, left);
    Sums<2> sums = sum_rows<2>(p.rows, [=](long r) {
      V gradient = load_some<whole>(g + r * p.columns, left);
      return Sums<2>{{gradient * ((load_some<whole>(x + r * p.columns, left) - mean) * factor), gradient}};
    });
    store_some<whole>(dgamma + first + j, sums.of[0], left);
    store_some<whole>(dshift + first + j, sums.of[1], left);
  });
}

KERNEL(batch_norm_backward) {
  const float* dy = in<float>(buf, 0);
  float *dx = out<float>(buf, 4), *dgamma = out<float>(buf, 5), *dshift = out<float>(buf, 6);
  BatchNorm p = {in<float>(buf, 1), in<float>(buf, 2), in<float>(buf, 3), dim[0], dim[1], (float)scalar[0]};
  for_columns(p.columns, 12.0 * p.rows, [&](long first, long n) {
    float scale[COLUMNS], factor[COLUMNS], mean_dy[COLUMNS], mean_dyn[COLUMNS];
    p.scales(first, n, scale);
    batch_norm_sums(p, dy, first, n, scale, dgamma, dshift);
    const float *mean = p.moments + first, *gamma = p.gamma + first;
    for (long c = 0; c < n; ++c) {
      factor[c] = gamma[c] * scale[c];
      mean_dy[c] = dshift[first + c] / (float)p.rows, mean_dyn[c] = dgamma[first + c] / (float)p.rows;
    }
    for (long r = 0; r < p.rows; ++r) {
      const float *x = p.x + r * p.columns + first, *g = dy + r * p.columns + first;
      float* d = dx + r * p.columns + first;
#pragma GCC ivdep
      for (long c = 0; c < n; ++c) d[c] = factor[c] * (g[c] - (mean_dy[c] + (x[c] - mean[c]) * scale[c] * mean_dyn[c]));
    }
  });
}
