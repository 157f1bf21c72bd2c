// Classes and clusters: the softmax of a row, its cross-entropy, and heads of clusters.
//
// A sum over the C numbers of a row is that of 8 lanes, number j in lane j % 8, added in pairs: an order that depends on the shape alone, and the
// same on a GPU.

// Sum of f(j) over 0 <= j < n.
template <class F> INLINE float row_sum(long n, F f) {
  float lane[8] = {};
  long j = 0;
  for (; j + 8 <= n; j += 8)
    for (int k = 0; k < 8; ++k) lane[k] += f(j + k);
  for (int k = 0; j + k < n; ++k) lane[k] += f(j + k);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// Rows are taken in blocks of at most so many numbers, or one row: exponentials vectorise across the rows of a block.
constexpr long BLOCK_OF_ROWS = 1024;
INLINE long rows_of_block(long C) { return max_l(1, BLOCK_OF_ROWS / max_l(1, C)); }

// e = exp(logits - the largest of their row), and in largest[r] that of row r. A NaN is never the largest, and is in the row's sum of e.
INLINE void exponentials(const float* logits, float* e, float* largest, long rows, long C) {
  for (long r = 0; r < rows; ++r) {
    const float* row = logits + r * C;
    float most = -__builtin_inff();
    for (long j = 0; j < C; ++j) most = row[j] > most ? row[j] : most;
    largest[r] = most;
#pragma GCC ivdep
    for (long j = 0; j < C; ++j) e[r * C + j] = row[j] - most;
  }
#pragma GCC ivdep
  for (long i = 0; i < rows * C; ++i) e[i] = exp_f(e[i]);
}

KERNEL(softmax) {
  const float* logits = in<float>(buf, 0);
  float* p = out<float>(buf, 1);
  long B = dim[0], C = dim[1], step = rows_of_block(C);
  aae::parallel((B + step - 1) / step, 30.0 * B * C, [&](long block) {
    long first = block * step, rows = min_l(step, B - first);
    float largest[BLOCK_OF_ROWS], *e = p + first * C;
    exponentials(logits + first * C, e, largest, rows, C);
    for (long r = 0; r < rows; ++r, e += C) {
      float total = row_sum(C, [=](long j) { return e[j]; });
#pragma GCC ivdep
      for (long j = 0; j < C; ++j) e[j] = e[j] / total;
    }
  });
}

KERNEL(softmax_backward) {
  const float *dp = in<float>(buf, 0), *p = in<float>(buf, 1);
  float* dlogits = out<float>(buf, 2);
  long C = dim[1];
  with_beta(dim[2], [&](auto beta) {
    for_rows(dim[0], 5.0 * C, [=](long r) {
      const float *g = dp + r * C, *share = p + r * C;
      float mean = row_sum(C, [=](long j) { return share[j] * g[j]; });
#pragma GCC ivdep
      for (long j = 0; j < C; ++j) put(beta, dlogits[r * C + j], share[j] * (g[j] - mean));
    });
  });
}

// The cross-entropies of a block of rows without their weight, and in d their gradient times `factor`.
INLINE double cross_entropy(const float* logits, const float* target, float* d, long rows, long C, float factor) {
  float largest[BLOCK_OF_ROWS];
  double sum = 0.0;
  exponentials(logits, d, largest, rows, C);
  for (long r = 0; r < rows; ++r, logits += C, target += C, d += C) {
    float total = row_sum(C, [=](long j) { return d[j]; }), targets = row_sum(C, [=](long j) { return target[j]; });
    float most = largest[r], log_total = log_sum_exp(0.0f, total);
    sum += sum_part(0, C, [=](long j) {
      d[j] = factor * (d[j] / total * targets - target[j]);
      return target[j] * (log_total - (logits[j] - most));
    });
  }
  return sum;
}

KERNEL(softmax_cross_entropy) {
  const float *logits = in<float>(buf, 0), *target = in<float>(buf, 1);
  float* dlogits = out<float>(buf, 2);
  double weight = scalar[0] / dim[0];
  long C = dim[1], step = rows_of_block(C);
  double total = sum_parts(dim[0], step, 40.0 * C, [&](long begin, long end) {
    double sum = 0.0;
    for (long r = begin; r < end; r += step)
      sum += cross_entropy(logits + r * C, target + r * C, dlogits + r * C, min_l(step, end - r), C, (float)weight);
    return sum;
  });
  *out<float>(buf, 3) = (float)(weight * total);
}

// A small matrix [K][n] with its rows, or its columns if `transposed`, padded to whole vectors: [K][width].
struct SmallMatrix {
  const float* values;
  long K, width;
};
INLINE SmallMatrix small_matrix(const float* matrix, long K, long n, bool transposed) {
  long width = round_up(n, VL);
  float* values = static_cast<float*>(aae::scratch((K * width + 1) * sizeof(float), aae::SHARED));
  for (long k = 0; values && k < K; ++k)
    for (long j = 0; j < width; ++j) values[k * width + j] = j < n ? matrix[transposed ? j * K + k : k * n + j] : 0.0f;
  return {values, K, width};
}

// Calls f(row, j, sums) for the vectors of sum over k of a[row][k] matrix[k][j ...]; each is one chain in the order of k.
template <class F> INLINE void small_product(const float* a, const SmallMatrix& matrix, long rows, F f) {
  if (!matrix.values) return;
  for_rows(rows, 2.0 * matrix.K * matrix.width, [=](long r) {
    for (long j = 0; j < matrix.width; j += VL) {
      V sums = splat(0.0f);
      for (long k = 0; k < matrix.K; ++k) sums = sums + splat(a[r * matrix.K + k]) * load(matrix.values + k * matrix.width + j);
      f(r, j, sums);
    }
  });
}

KERNEL(add_product) {
  const float* z = in<float>(buf, 2);
  float* y = out<float>(buf, 3);
  long Z = dim[2];
  small_product(in<float>(buf, 0), small_matrix(in<float>(buf, 1), dim[1], Z, false), dim[0], [=](long r, long j, V sums) {
    store_first(y + r * Z + j, load_first(z + r * Z + j, Z - j) + sums, Z - j);
  });
}

KERNEL(add_product_backward) {
  float* dy = out<float>(buf, 2);
  long C = dim[1];
  with_beta(dim[3], [&](auto beta) {
    small_product(in<float>(buf, 0), small_matrix(in<float>(buf, 1), dim[2], C, true), dim[0], [=](long r, long j, V sums) {
      float* d = dy + r * C + j;
      store_first(d, beta ? load_first(d, C - j) + sums : sums, C - j);
    });
  });
}

KERNEL(add_product_backward_heads) {
  const float *y = in<float>(buf, 0), *dout = in<float>(buf, 1);
  float* dheads = out<float>(buf, 2);
  long B = dim[0], C = dim[1], Z = dim[2];
  with_beta(dim[3], [&](auto beta) {
    for_rows(C, 2.0 * B * Z, [=](long c) {
      for_vectors(Z, [=](auto whole, long j, long left) {
        V sum = sum_rows<1>(B, [=](long r) {
          return Sums<1>{{splat(y[r * C + c]) * load_some<whole>(dout + r * Z + j, left)}};
        }).of[0];
        float* d = dheads + c * Z + j;
        store_some<whole>(d, beta ? load_some<whole>(d, left) + sum : sum, left);
      });
    });
  });
}

// max(0, least - distance) summed over the heads after head i, and in d its row of the gradient: minus `factor` times the directions from the
// heads that are nearer than `least`. Heads that coincide have none. `apart` has room for a number of each of the C heads.
INLINE double hinge_of_head(const float* heads, const SmallMatrix& columns, long C, long i, float least, float factor, float* d, float* apart) {
  const float* own = heads + i * columns.K;
  for (long j = 0; j < C; ++j) apart[j] = 0.0f;
  for (long k = 0; k < columns.K; ++k) {
    const float* others = columns.values + k * columns.width;
#pragma GCC ivdep
    for (long j = 0; j < C; ++j) apart[j] += (own[k] - others[j]) * (own[k] - others[j]);
  }
#pragma GCC ivdep
  for (long j = 0; j < C; ++j) apart[j] = sqrt_f(apart[j]);
  for (long k = 0; k < columns.K; ++k) d[k] = 0.0f;
  for (long j = 0; j < C; ++j) {
    float pull = hinge_pull(apart[j], least);
    const float* other = heads + j * columns.K;
#pragma GCC ivdep
    for (long k = 0; k < columns.K; ++k) d[k] += pull * (own[k] - other[k]);
  }
  for (long k = 0; k < columns.K; ++k) d[k] *= -factor;
  return sum_part(i + 1, C, [=](long j) { return hinge(apart[j], least); });
}

KERNEL(head_hinge) {
  const float* heads = in<float>(buf, 0);
  float *dheads = out<float>(buf, 1), least = (float)scalar[0], factor = (float)scalar[1];
  long C = dim[0], Z = dim[1];
  SmallMatrix columns = small_matrix(heads, Z, C, true);
  if (!columns.values) return;
  double sum = sum_parts(C, 1, 6.0 * C * Z, [&](long begin, long end) {
    float* apart = static_cast<float*>(aae::scratch(C * sizeof(float)));
    double part = 0.0;
    for (long i = begin; apart && i < end; ++i) part += hinge_of_head(heads, columns, C, i, least, factor, dheads + i * Z, apart);
    return part;
  });
  *out<float>(buf, 2) = (float)(scalar[1] * sum);
}
