// Layers that are narrow on one side: codes, logits. Padded to a panel they would waste most of every vector.
//
// A weight of at most SKINNY outputs is plain (out, in), without padding. The reduction over a long axis then runs along vectors, whose
// lanes are added at the end: VL sums at a time, by a transpose. The order depends on the shapes only.

constexpr long SKINNY = VL / 2;

// acc[r][c] += sum over n of a[r * a_stride + n] * b[c * b_stride + n], by lanes n % VL.
template <class P, int R, int C>
INLINE void dots(const float* a, long a_stride, const float* b, long b_stride, long depth, V (&acc)[R][C]) {
  auto step = [&](auto&& get) __attribute__((always_inline)) {
    V y[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) y[c] = P::rounded(get(b + c * b_stride));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      V x = P::rounded(get(a + r * a_stride));
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) acc[r][c] = fma(x, y[c], acc[r][c]);
    }
  };
  long n = 0;
  for (; n + VL <= depth; n += VL) step([=](const float* p) __attribute__((always_inline)) { return load(p + n); });
  if (n < depth) step([=](const float* p) __attribute__((always_inline)) { return load_first(p + n, depth - n); });
}

// sums[r * C + c] = the lanes of acc[r][c] added up.
template <int R, int C> INLINE void add_lanes(const V (&acc)[R][C], float* sums) {
  static_assert(R * C <= VL, "one transpose");
  float rows[VL * VL] = {}, columns[VL * VL];
#pragma GCC unroll 16
  for (int i = 0; i < R * C; ++i) store(rows + i * VL, acc[i / C][i % C]);
  transpose(rows, VL, columns, VL);
  V part[VL];
  for (int i = 0; i < VL; ++i) part[i] = load(columns + i * VL);
  for (int n = VL / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) part[i] = part[i] + part[i + n];
  store(sums, part[0]);
}

// Calls whole(first row) for every R rows of the batch, and single(row) for those that are left.
template <int R, class F, class G> INLINE void for_row_groups(long batch, double flops_per_row, F&& whole, G&& single) {
  for_rows((batch + R - 1) / R, R * flops_per_row, [=](long group) {
    long r = group * R;
    if (r + R <= batch) return whole(r);
    for (; r < batch; ++r) single(r);
  });
}

// -------------------------------------------------------------------------------------------------------- few outputs

template <class P, int R, int C> INLINE void forward_rows(const Forward& f, const float* weight, long r0) {
  V acc[R][C] = {};
  dots<P>(f.x + r0 * f.inputs, f.inputs, weight, f.inputs, f.inputs, acc);
  float sums[VL];
  add_lanes(acc, sums);
  finish_in_memory(f, sums, R, C, r0, 0);
}

template <class P> INLINE void forward_skinny(const Forward& f, const float* weight, long batch) {
  with_count<SKINNY>(f.outputs, [&](auto C) {
    for_row_groups<VL / C>(
        batch, 2.0 * f.inputs * C, [=](long r) { forward_rows<P, VL / C, C>(f, weight, r); },
        [=](long r) { forward_rows<P, 1, C>(f, weight, r); });
  });
}

// R rows of the gradient, all columns of them one after the other.
template <class P, int R, int C> INLINE void backward_input_wide(const BackwardInput& f, const float* weight, long r0) {
  V dy[R][C], w[C], sum[R][1];
  for (int i = 0; i < R; ++i)
    for (int c = 0; c < C; ++c) dy[i][c] = P::rounded(splat(f.dy[(r0 + i) * C + c]));
  for (long k = 0; k < f.inputs; k += VL) {
    for (int c = 0; c < C; ++c) w[c] = P::rounded(load_first(weight + c * f.inputs + k, f.inputs - k));
    for (int i = 0; i < R; ++i) {
      sum[i][0] = splat(0.0f);
      for (int c = 0; c < C; ++c) sum[i][0] = fma(dy[i][c], w[c], sum[i][0]);
    }
    finish(f, sum, r0, k);
  }
}

template <class P> INLINE void backward_input_skinny(const BackwardInput& f, const float* weight, long batch) {
  with_count<SKINNY>(f.outputs, [&](auto C) {
    constexpr int R = C <= 2 ? 4 : 2;  // rows that share the loads of weights; their dy stay in registers
    for_row_groups<R>(
        batch, 2.0 * f.inputs * C, [=](long r) { backward_input_wide<P, R, C>(f, weight, r); },
        [=](long r) { backward_input_wide<P, 1, C>(f, weight, r); });
  });
}

template <class P, int C, int NV, class Sink>
INLINE void weight_rows(const float* x, const float* dy, long batch, long inputs, long k, const Sink& sink) {
  V acc[C][NV] = {};
  long last = inputs - k - (NV - 1) * VL;  // floats of the last vector
  for (long r = 0; r < batch; ++r) {
    V row[NV];
    for (int j = 0; j < NV; ++j) {
      const float* p = x + r * inputs + k + j * VL;
      row[j] = P::rounded(NV > 1 ? load(p) : load_first(p, last));
    }
    for (int c = 0; c < C; ++c) {
      V g = P::rounded(splat(dy[r * C + c]));
      for (int j = 0; j < NV; ++j) acc[c][j] = fma(g, row[j], acc[c][j]);
    }
  }
  for (int c = 0; c < C; ++c)
    for (int j = 0; j < NV; ++j) sink.take_first(c * inputs + k + j * VL, acc[c][j], NV > 1 ? VL : last);
}

template <class P, class Sink, class Bias>
INLINE void backward_weight_skinny(
    const float* x, const float* dy, long batch, long inputs, long outputs, const Sink& sink, Bias&& take_bias) {
  with_count<SKINNY>(outputs, [&](auto C) {
    constexpr int NV = C <= 2 ? 4 : 2;
    long tasks = (inputs + NV * VL - 1) / (NV * VL);
    aae::parallel(tasks, 2.0 * batch * inputs * C, [&](long task) {
      long k = task * NV * VL;
      if (k + NV * VL <= inputs) weight_rows<P, C, NV>(x, dy, batch, inputs, k, sink);
      else
        for (; k < inputs; k += VL) weight_rows<P, C, 1>(x, dy, batch, inputs, k, sink);
      if (task == 0) take_bias(0, column_sum<P>(dy, batch, C, C), C);
    });
  });
}

// --------------------------------------------------------------------------------------------------------- few inputs

// dx[r][k] = sum over n of dy[r][n] W[n][k] runs along the outputs, which are next to each other in a panel.
template <class P, int R, int C> INLINE void backward_input_narrow(const BackwardInput& f, const float* weight, long r0) {
  V acc[R][C] = {};
  for (long n0 = 0; n0 < f.outputs; n0 += NR) {
    long width = panel_width(f.outputs, n0);
    dots<P>(f.dy + r0 * f.outputs + n0, f.outputs, weight + n0 * C, width, min_l(width, f.outputs - n0), acc);
  }
  float sums[VL];
  add_lanes(acc, sums);
  finish_in_memory(f, sums, R, C, r0, 0);
}

template <class P> INLINE void backward_few_inputs(const BackwardInput& f, const float* weight, long batch) {
  with_count<SKINNY>(f.inputs, [&](auto C) {
    for_row_groups<VL / C>(
        batch, 2.0 * f.outputs * C, [=](long r) { backward_input_narrow<P, VL / C, C>(f, weight, r); },
        [=](long r) { backward_input_narrow<P, 1, C>(f, weight, r); });
  });
}
