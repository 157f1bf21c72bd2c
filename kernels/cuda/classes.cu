// Classes and clusters: the softmax of a row, its cross-entropy, and heads of clusters.
//
// A sum is made by eight neighbouring lanes, number j in lane j % 8, added in pairs: the order of the CPU, so that what is made of it has the
// CPU's bits. A loss is a sum of floats in double, in an order that depends on the shape alone.
#include "reduce.cuh"

constexpr int THREADS = 256, MOST_THREADS = 1024, LANES = 8;

DEVICE int element() { return blockIdx.x * THREADS + threadIdx.x; }

// Sums and the largest over the lanes of a group, in every one of them.
DEVICE float lanes_sum(float value) {
  UNROLL
  for (int lanes = 1; lanes < LANES; lanes *= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}
DEVICE float lanes_most(float value) {
  UNROLL
  for (int lanes = 1; lanes < LANES; lanes *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, lanes);
    value = other > value ? other : value;
  }
  return value;
}

// The sum of f(j) over 0 <= j < n.
template <class F> DEVICE float row_sum(int n, F f) {
  float sum = 0.0f;
  for (int j = threadIdx.x % LANES; j < n; j += LANES) sum += f(j);
  return lanes_sum(sum);
}

// exp(logit - the largest of the row). A NaN is never the largest, and is in the row's total.
struct Softmax {
  const float* logits;
  float largest, total;
  DEVICE Softmax(const float* row, int C) : logits(row), largest(bits_to_float(0xff800000u)) {
    for (int j = threadIdx.x % LANES; j < C; j += LANES) largest = row[j] > largest ? row[j] : largest;
    largest = lanes_most(largest);
    total = row_sum(C, [&](int j) { return exponential(j); });
  }
  DEVICE float exponential(int j) const { return exp_f(logits[j] - largest); }
};

// Eight lanes have a row. Beyond the end the last one is read again, and nothing comes of it.
KERNEL(softmax, THREADS, const float* logits, float* p, int B, int C) {
  const int row = element() / LANES;
  const Softmax softmax(logits + min(row, B - 1) * C, C);
  if (row >= B) return;
  for (int j = threadIdx.x % LANES; j < C; j += LANES) p[row * C + j] = softmax.exponential(j) / softmax.total;
}

KERNEL(softmax_backward, THREADS, const float* dp, const float* p, float* dlogits, int B, int C, int beta) {
  const int row = element() / LANES, first = min(row, B - 1) * C;
  const float mean = row_sum(C, [&](int j) { return p[first + j] * dp[first + j]; });
  if (row >= B) return;
  for (int j = threadIdx.x % LANES; j < C; j += LANES) {
    const float g = p[first + j] * (dp[first + j] - mean);
    dlogits[first + j] = beta ? dlogits[first + j] + g : g;
  }
}

// One block, of as many threads as there can be, takes so many rows at a time: a batch has few numbers.
KERNEL(softmax_cross_entropy, MOST_THREADS, const float* logits, const float* target, float* dlogits, float* loss, int B, int C, double weight) {
  STATIC_SHARED(double, warps, MOST_THREADS / 32);
  const float factor = (float)(weight / B);
  double sum = 0.0;
  for (int turn = 0; turn < B; turn += MOST_THREADS / LANES) {
    const int row = turn + threadIdx.x / LANES, first = min(row, B - 1) * C;
    const Softmax softmax(logits + first, C);
    const float targets = row_sum(C, [&](int j) { return target[first + j]; }), log_total = log_sum_exp(0.0f, softmax.total);
    if (row < B)
      for (int j = threadIdx.x % LANES; j < C; j += LANES) {
        const float t = target[first + j];
        dlogits[first + j] = factor * (softmax.exponential(j) / softmax.total * targets - t);
        sum += (double)(t * (log_total - (logits[first + j] - softmax.largest)));
      }
  }
  sum = block_sum<MOST_THREADS>(sum, warps);
  if (threadIdx.x == 0) *loss = (float)(weight / B * sum);
}

// ---------------------------------------------------------------------------------------------------------------- heads

// A thread for each element of the result.
KERNEL(add_product, THREADS, const float* y, const float* heads, const float* z, float* out, int B, int C, int Z) {
  const int i = element();
  if (i >= B * Z) return;
  const float *shares = y + i / Z * C, *column = heads + i % Z;
  float sum = 0.0f;
  for (int c = 0; c < C; c++) sum += shares[c] * column[c * Z];
  out[i] = z[i] + sum;
}

KERNEL(add_product_backward, THREADS, const float* dout, const float* heads, float* dy, int B, int C, int Z, int beta) {
  const int i = element();
  if (i >= B * C) return;
  const float *gradient = dout + i / C * Z, *head = heads + i % C * Z;
  float sum = 0.0f;
  for (int k = 0; k < Z; k++) sum += gradient[k] * head[k];
  dy[i] = beta ? dy[i] + sum : sum;
}

// Eight lanes for each element of the result.
KERNEL(add_product_backward_heads, THREADS, const float* y, const float* dout, float* dheads, int B, int C, int Z, int beta) {
  const int i = element() / LANES, at = min(i, C * Z - 1), c = at / Z, k = at % Z;
  const float sum = row_sum(B, [&](int r) { return y[r * C + c] * dout[r * Z + k]; });
  if (i < C * Z && threadIdx.x % LANES == 0) dheads[i] = beta ? dheads[i] + sum : sum;
}

DEVICE float distance(const float* a, const float* b, int Z) {
  float sum = 0.0f;
  for (int k = 0; k < Z; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sqrt_f(sum);
}

// One block: there are few heads. A distance is made again for each element that needs it.
KERNEL(head_hinge, MOST_THREADS, const float* heads, float* dheads, float* loss, int C, int Z, double least, double weight) {
  STATIC_SHARED(double, warps, MOST_THREADS / 32);
  for (int i = threadIdx.x; i < C * Z; i += MOST_THREADS) {
    const float* own = heads + i / Z * Z;
    float sum = 0.0f;
    for (int j = 0; j < C; j++) sum += hinge_pull(distance(own, heads + j * Z, Z), (float)least) * (heads[i] - heads[j * Z + i % Z]);
    dheads[i] = sum * -(float)weight;
  }
  double sum = 0.0;
  for (int i = threadIdx.x; i < C * C; i += MOST_THREADS) {
    const int one = i / C, other = i % C;
    if (other > one) sum += (double)hinge(distance(heads + one * Z, heads + other * Z, Z), (float)least);
  }
  sum = block_sum<MOST_THREADS>(sum, warps);
  if (threadIdx.x == 0) *loss = (float)(weight * sum);
}
