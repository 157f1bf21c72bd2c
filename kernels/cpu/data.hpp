// Moving data: copies, fills, and batches gathered out of a stored data set.

// Memory sets their speed; an element costs the time of about this many flops, which decides what is worth more than one thread.
constexpr double MOVE_COST = 8.0;

KERNEL(copy_columns) {
  long cols = dim[1], src_cols = dim[2], src_at = dim[3], dst_cols = dim[4], dst_at = dim[5];
  const float* src = in<float>(buf, 0) + src_at;
  float* dst = out<float>(buf, 1) + dst_at;
  with_beta(dim[6], [&](auto beta) {
    for_rows(dim[0], MOVE_COST * cols, [=](long r) {
#pragma GCC ivdep
      for (long c = 0; c < cols; ++c) put(beta, dst[r * dst_cols + c], src[r * src_cols + c]);
    });
  });
}

KERNEL(copy) {
  const float* src = in<float>(buf, 0);
  float* dst = out<float>(buf, 1);
  with_beta(dim[1], [&](auto beta) {
    for_elements(dim[0], MOVE_COST, [=](long i) { put(beta, dst[i], src[i]); });
  });
}

KERNEL(fill) {
  float *x = out<float>(buf, 0), value = (float)scalar[0];
  for_elements(dim[0], MOVE_COST, [=](long i) { x[i] = value; });
}

KERNEL(scale) {
  float *x = out<float>(buf, 0), factor = (float)scalar[0];
  for_elements(dim[0], MOVE_COST, [=](long i) { x[i] *= factor; });
}

KERNEL(scale_by) {
  const float *x = in<float>(buf, 0), factor = *in<float>(buf, 1);
  float* y = out<float>(buf, 2);
  for_elements(dim[0], MOVE_COST, [=](long i) { y[i] = x[i] * factor; });
}

KERNEL(to_real) { *out<float>(buf, 1) = (float)(*in<double>(buf, 0) * scalar[0]); }

KERNEL(standardise) {
  const float *x = in<float>(buf, 0), *mean = in<float>(buf, 1), scale = *in<float>(buf, 2);
  float* y = out<float>(buf, 3);
  long N = dim[1];
  for_rows(dim[0], MOVE_COST * N, [=](long r) {
#pragma GCC ivdep
    for (long c = 0; c < N; ++c) y[r * N + c] = (x[r * N + c] - mean[c]) * scale;
  });
}

KERNEL(average) {
  const float *x = in<float>(buf, 0), rate = *in<float>(buf, 1);
  float* average = out<float>(buf, 2);
  for_elements(dim[0], MOVE_COST, [=](long i) { average[i] += rate * (x[i] - average[i]); });
}

// The squares of a row are added in double: element i in lane i % 32, then the lanes in halves. The GPU does the same.
INLINE double sum_of_squares(const float* d, long n) {
  constexpr long LANES = 32;
  double lane[LANES] = {};
  long i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; ++j) lane[j] += (double)d[i + j] * (double)d[i + j];
  for (int j = 0; i + j < n; ++j) lane[j] += (double)d[i + j] * (double)d[i + j];
  for (int half = LANES / 2; half; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  return lane[0];
}

KERNEL(add_direction) {
  const float *x = in<float>(buf, 0), *d = in<float>(buf, 1);
  float* y = out<float>(buf, 2);
  long N = dim[1];
  double length = scalar[0];
  for_rows(dim[0], MOVE_COST * N, [=](long r) {
    double squares = sum_of_squares(d + r * N, N);
    float factor = squares == 0.0 ? 0.0f : (float)(length / __builtin_sqrt(squares));
#pragma GCC ivdep
    for (long i = r * N; i < (r + 1) * N; ++i) y[i] = x[i] + d[i] * factor;
  });
}

// out[r] = source[index[cursor + r]] * scale. The numbers are data, so no check of a launch has seen them.
template <class T> INLINE void gather(Buffers buf, Dims dim, Scalars scalar) {
  const T* source = in<T>(buf, 0);
  int64_t cursor = *in<int64_t>(buf, 2), M = dim[0], N = dim[1], B = dim[3];
  if (cursor < 0 || cursor > dim[2] - B) return aae::report(aae::BAD_INDEX);
  const int64_t* index = in<int64_t>(buf, 1) + cursor;
  float *x = out<float>(buf, 3), factor = (float)scalar[0];
  for_rows(B, MOVE_COST * N, [=](long r) {
    if (uint64_t(index[r]) >= uint64_t(M)) return aae::report(aae::BAD_INDEX);
    const T* row = source + index[r] * N;
#pragma GCC ivdep
    for (long c = 0; c < N; ++c) x[r * N + c] = (float)row[c] * factor;
  });
}

KERNEL(gather_rows_u8) { gather<uint8_t>(buf, dim, scalar); }
KERNEL(gather_rows) { gather<float>(buf, dim, scalar); }
KERNEL(cursor_advance) { *out<int64_t>(buf, 0) += dim[0]; }

// The tables of a burst: row `at`, modulo their length, belongs to the step that runs. Modulo as in Python: never negative.
INLINE long table_row(const int64_t* at, int64_t length) {
  int64_t rest = *at % length;
  return rest < 0 ? rest + length : rest;
}
KERNEL(log_value) { out<float>(buf, 2)[table_row(in<int64_t>(buf, 1), dim[0]) * dim[1] + dim[2]] = *in<float>(buf, 0); }
KERNEL(take_rate) { out<double>(buf, 2)[LR] = in<double>(buf, 0)[table_row(in<int64_t>(buf, 1), dim[0]) * dim[1] + dim[2]]; }
