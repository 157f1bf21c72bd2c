// Moving data: copies, fills, batches gathered out of a stored data set, and the tables of a burst. A thread for each element, but for one op.
#include "reduce.cuh"

constexpr int THREADS = 256;

DEVICE int element() { return blockIdx.x * THREADS + threadIdx.x; }

KERNEL(copy_columns, THREADS, const float* src, float* dst, int B, int cols, int src_cols, int src_at, int dst_cols, int dst_at, int beta) {
  const int i = element();
  if (i >= B * cols) return;
  const int row = i / cols, column = i % cols;
  const float value = src[row * src_cols + src_at + column];
  float* to = dst + row * dst_cols + dst_at + column;
  *to = beta ? *to + value : value;
}

KERNEL(copy, THREADS, const float* src, float* dst, int N, int beta) {
  const int i = element();
  if (i < N) dst[i] = beta ? dst[i] + src[i] : src[i];
}

KERNEL(fill, THREADS, float* x, int N, double value) {
  const int i = element();
  if (i < N) x[i] = (float)value;
}

KERNEL(scale, THREADS, float* x, int N, double factor) {
  const int i = element();
  if (i < N) x[i] *= (float)factor;
}

KERNEL(scale_by, THREADS, const float* x, const float* factor, float* y, int N) {
  const int i = element();
  if (i < N) y[i] = x[i] * *factor;
}

KERNEL(to_real, 1, const double* x, float* y, double factor) { *y = (float)(*x * factor); }

KERNEL(standardise, THREADS, const float* x, const float* mean, const float* scale, float* y, int B, int N) {
  const int i = element();
  if (i < B * N) y[i] = (x[i] - mean[i % N]) * *scale;
}

KERNEL(average, THREADS, const float* x, const float* rate, float* average, int N) {
  const int i = element();
  if (i < N) average[i] += *rate * (x[i] - average[i]);
}

// A warp for each row. The squares are added in double as on the CPU: element i in lane i % 32, then the lanes in halves.
KERNEL(add_direction, THREADS, const float* x, const float* d, float* y, int B, int N, double length) {
  const int row = element() / 32, lane = threadIdx.x % 32;
  if (row >= B) return;
  double squares = 0.0;
  for (int c = lane; c < N; c += 32) {
    const double value = d[row * N + c];
    squares += value * value;
  }
  squares = warp_sum(squares);
  const float factor = squares == 0.0 ? 0.0f : (float)(length / sqrt(squares));
  for (int c = lane; c < N; c += 32) y[row * N + c] = x[row * N + c] + d[row * N + c] * factor;
}

// out[r] = source[index[cursor + r]] * scale
template <class T> DEVICE void gather(const T* source, const long long* index, const long long* cursor, float* out, int N, int B, float scale) {
  const int i = element();
  if (i >= B * N) return;
  const int row = i / N, column = i % N;
  out[i] = (float)source[index[*cursor + row] * N + column] * scale;
}

KERNEL(gather_rows_u8, THREADS, const unsigned char* source, const long long* index, const long long* cursor, float* out, int, int N, int, int B,
       double scale) {
  gather(source, index, cursor, out, N, B, (float)scale);
}

KERNEL(gather_rows, THREADS, const float* source, const long long* index, const long long* cursor, float* out, int, int N, int, int B,
       double scale) {
  gather(source, index, cursor, out, N, B, (float)scale);
}

KERNEL(cursor_advance, 1, long long* cursor, int by) { *cursor += by; }

// The tables of a burst: row `at`, modulo their length, belongs to the step that runs.
KERNEL(log_value, 1, const float* value, const long long* at, float* log, int M, int N, int column) { log[*at % M * N + column] = *value; }
KERNEL(take_rate, 1, const double* rates, const long long* at, double* state, int M, int N, int column) {
  state[LR] = rates[*at % M * N + column];
}
