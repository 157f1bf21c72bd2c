// The arguments of a linear layer's passes, and what they do with finished sums: vectors of the common activations end in registers, all
// others in memory, with the same bits.

template <bool WHOLE> struct ForwardColumns;
struct Forward {
  using Whole = ForwardColumns<true>;
  using CutOff = ForwardColumns<false>;
  const float *x, *bias;
  float* y;
  long inputs, outputs;
  int act;
  float slope;
  INLINE_MEMBER long columns() const { return outputs; }
};

INLINE bool ends_in_registers(const Forward& f, bool) { return f.act == RELU || f.act == IDENTITY; }

// y = act(sums + bias) for a tile of sums [rows][width], cut off at the last output.
static __attribute__((noinline)) void finish_in_memory(const Forward& f, const float* sums, long rows, long width, long r0, long n0) {
  long columns = min_l(f.outputs - n0, width);
  const float* bias = f.bias + n0;
  with_activation(f.act, [&](auto act) {
    for (long i = 0; i < rows; ++i) {
      float* y = f.y + (r0 + i) * f.outputs + n0;
#pragma GCC ivdep
      for (long c = 0; c < columns; ++c) y[c] = activation(sums[i * width + c] + bias[c], act, f.slope);
    }
  });
}

// The same in registers, for rows from r0 and VL columns from n0 on, of which the first n exist, or all if WHOLE.
template <bool WHOLE> struct ForwardColumns {
  V bias, least;
  float* y;
  long stride, n;
  INLINE_MEMBER ForwardColumns(const Forward& f, long r0, long n0)
      : bias(load_some<WHOLE>(f.bias + n0, f.outputs - n0)), least(splat(f.act == RELU ? 0.0f : -__builtin_inff())),
        y(f.y + r0 * f.outputs + n0), stride(f.outputs), n(f.outputs - n0) {}
  INLINE_MEMBER void take(int i, V sum) const {
    V v = sum + bias;
    store_some<WHOLE>(y + i * stride, v < least ? least : v, n);  // NaN stays
  }
};

struct BackwardInputColumns;
struct BackwardInput {
  using Whole = BackwardInputColumns;
  using CutOff = BackwardInputColumns;  // never used: see ends_in_registers
  const float *dy, *x;
  float* dx;
  long inputs, outputs;
  int act;
  bool accumulate;
  float slope;
  INLINE_MEMBER long columns() const { return inputs; }
};

// dx = beta dx + sums act'(x) for a tile of sums [rows][width], cut off at the last input.
static __attribute__((noinline)) void finish_in_memory(
    const BackwardInput& f, const float* sums, long rows, long width, long r0, long k0) {
  long columns = min_l(f.inputs - k0, width);
  with_activation(f.act, [&](auto act) {
    with_beta(f.accumulate, [&](auto beta) {
      for (long i = 0; i < rows; ++i) {
        const float* x = f.x + (r0 + i) * f.inputs + k0;
        float* dx = f.dx + (r0 + i) * f.inputs + k0;
#pragma GCC ivdep
        for (long c = 0; c < columns; ++c) put(beta, dx[c], sums[i * width + c] * activation_derivative(x[c], act, f.slope));
      }
    });
  });
}

// The same in registers, for whole vectors and ReLU. With the other cases here as well, gcc spills the sums of every tile.
struct BackwardInputColumns {
  const float* x;
  float* dx;
  long stride;
  INLINE_MEMBER BackwardInputColumns(const BackwardInput& f, long r0, long k0)
      : x(f.x + r0 * f.inputs + k0), dx(f.dx + r0 * f.inputs + k0), stride(f.inputs) {}
  INLINE_MEMBER void take(int i, V sum) const {
    store(dx + i * stride, sum * (load(x + i * stride) > splat(0.0f) ? splat(1.0f) : splat(0.0f)));
  }
};

INLINE bool ends_in_registers(const BackwardInput& f, bool whole) { return f.act == RELU && !f.accumulate && whole; }

template <class Columns, class Layer, int MR, int NV>
INLINE void finish_in_registers(const Layer& f, const V (&acc)[MR][NV], long r0, long column) {
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) {
    Columns columns(f, r0, column + j * VL);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) columns.take(i, acc[i][j]);
  }
}

// Ends a tile of sums whose first vector lies at row r0 and `column`.
template <class Layer, int MR, int NV> INLINE void finish(const Layer& f, const V (&acc)[MR][NV], long r0, long column) {
  bool whole = f.columns() - column >= NV * VL;
  if (!ends_in_registers(f, whole)) {
    float sums[MR * NV * VL];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) store(sums + (i * NV + j) * VL, acc[i][j]);
    return finish_in_memory(f, sums, MR, NV * VL, r0, column);
  }
  if (whole) finish_in_registers<typename Layer::Whole>(f, acc, r0, column);
  else finish_in_registers<typename Layer::CutOff>(f, acc, r0, column);
}
