// Linear layers: y = act(x W^T + b), its input gradient, its weight gradient, and the weight gradient fused with Adam.
//
// Layout of a weight (out, in), and of its gradient and moments: panels of NR outputs, each [in][NR] contiguous, the last one NR or VL wide
// and padded with zeros. Panel j starts at j * NR * in. Forward and weight gradient read and write it as it lies; the input gradient
// transposes one panel at a time into scratch.
//
// Every output element is one chain of fused multiply-adds over the reduction index in ascending order, whatever tile it falls into and
// whichever thread runs the tile: the bits depend on the shapes only.

INLINE long panel_width(long outputs, long n0) { return outputs - n0 > VL ? NR : VL; }

// Calls tile<R>() for the R == rows, 1 <= rows <= MR_MAX: register tiles must know their height when compiled.
template <int R, class F> INLINE void with_rows(long rows, F&& tile) {
  if constexpr (R > 1)
    if (rows < R) return with_rows<R - 1>(rows, tile);
  tile.template operator()<R>();
}

// Splits `rows` into tiles whose heights differ by at most one, and calls f(first row, height).
template <class F> INLINE void for_tiles(long rows, F&& f) {
  long tiles = (rows + MR_MAX - 1) / MR_MAX;
  for (long t = 0; t < tiles; ++t) f(rows * t / tiles, rows * (t + 1) / tiles - rows * t / tiles);
}

// acc[i][j] = sum over k of a[i * stride + k] * panel[k][j]. Rows are addressed from every third one, which the address modes of x86
// reach with one index register.
template <int MR, int NV>
INLINE void dot_tile(const float* a, long stride, const float* panel, long depth, V (&acc)[MR][NV]) {
  const float* row[(MR + 2) / 3];
  for (int i = 0; i < (MR + 2) / 3; ++i) row[i] = a + 3 * i * stride;
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) acc[i][j] = splat(0.0f);
#pragma GCC unroll 4
  for (long k = 0; k < depth; ++k) {
    V b[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = load(panel + j * VL);
    panel += NV * VL;
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      V x = splat(row[i / 3][(i % 3) * stride + k]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = fma(x, b[j], acc[i][j]);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------- forward

struct Forward {
  const float *x, *bias;
  float* y;
  long inputs, outputs;
  int act;
  float slope;
};

INLINE V activate(V v, int act, float slope) {  // the cheap ones; the others run over stored rows
  const V zero = splat(0.0f);
  if (act == RELU) return v < zero ? zero : v;
  if (act == LEAKY_RELU) return v < zero ? splat(slope) * v : v;
  return v;
}

template <float (*F)(float)> INLINE void map_row(float* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = F(y[i]);
}

template <int MR, int NV>
static __attribute__((noinline)) void forward_tile(const Forward& f, const float* panel, long r0, long n0) {
  V acc[MR][NV];
  dot_tile<MR, NV>(f.x + r0 * f.inputs, f.inputs, panel, f.inputs, acc);
  float* y = f.y + r0 * f.outputs + n0;
  long columns = min_l(f.outputs - n0, NV * VL);
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) {
    long n = columns - j * VL;
    V bias = load_first(f.bias + n0 + j * VL, n);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      V v = activate(acc[i][j] + bias, f.act, f.slope);
      if (n >= VL) store(y + i * f.outputs + j * VL, v);
      else store_first(y + i * f.outputs + j * VL, v, n);
    }
  }
  for (int i = 0; i < MR && f.act >= SIGMOID; ++i)
    f.act == SIGMOID ? map_row<sigmoid_f>(y + i * f.outputs, columns) : map_row<tanh_f>(y + i * f.outputs, columns);
}

struct ForwardTile {
  const Forward& f;
  const float* panel;
  long r0, n0, width;
  template <int R> INLINE_MEMBER void operator()() const {
    width == NR ? forward_tile<R, 2>(f, panel, r0, n0) : forward_tile<R, 1>(f, panel, r0, n0);
  }
};

// Rows of a block stay in L2 while the panels stream past; few panels make room for more, smaller blocks to share out.
INLINE long block_rows(long panels) { return panels >= 8 ? 112 : 28; }

KERNEL(linear_forward) {
  const float* weight = in<float>(buf, 1);
  long batch = dim[0];
  Forward f = {in<float>(buf, 0), in<float>(buf, 2), out<float>(buf, 3), dim[1], dim[2], (int)dim[3], (float)scalar[0]};
  long panels = (f.outputs + NR - 1) / NR, per_block = block_rows(panels), blocks = (batch + per_block - 1) / per_block;
  aae::parallel(blocks * panels, 2.0 * batch * f.inputs * f.outputs, [&](long task) {
    long block = task / panels, n0 = task % panels * NR;
    long first = batch * block / blocks, rows = batch * (block + 1) / blocks - first;
    for_tiles(rows, [&](long r, long height) {
      with_rows<MR_MAX>(height, ForwardTile{f, weight + n0 * f.inputs, first + r, n0, panel_width(f.outputs, n0)});
    });
  });
}

// --------------------------------------------------------------------------------------------------- input gradient

struct BackwardInput {
  const float *dy, *x;
  float* dx;
  long inputs, outputs;
  int act;
  bool accumulate;
  float slope;
};

INLINE V derivative(V y, int act, float slope) {  // activation_derivative of scalar.h, on a vector
  const V zero = splat(0.0f), one = splat(1.0f);
  switch (act) {
    case RELU: return y > zero ? one : zero;
    case LEAKY_RELU: return y > zero ? one : splat(slope);
    case SIGMOID: return y * (one - y);
    case TANH: return one - y * y;
    default: return one;
  }
}

// d[q][k] for q < VL: the transpose of VL rows of VL floats, by log2(VL) rounds of a perfect shuffle.
INLINE void transpose(const float* s, long s_stride, float* d, long d_stride) {
  V r[VL], t[VL];
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) r[i] = load(s + i * s_stride);
#pragma GCC unroll 4
  for (int round = 1; round < VL; round *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < VL / 2; ++i) {
      t[2 * i] = interleave_low(r[i], r[i + VL / 2]);
      t[2 * i + 1] = interleave_high(r[i], r[i + VL / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < VL; ++i) r[i] = t[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) store(d + i * d_stride, r[i]);
}

// panel[n][0 .. width) = W[n][k0 .. k0 + width), zeros beyond the inputs; rows up to the padded number of outputs.
INLINE void pack_transposed(const float* weight, long inputs, long outputs, long k0, long width, float* panel) {
  long columns = min_l(inputs - k0, width);
  for (long n0 = 0; n0 < outputs; n0 += NR) {
    long w = panel_width(outputs, n0);
    const float* source = weight + n0 * inputs + k0 * w;
    for (long k = 0; k < width; k += VL)
      for (long q = 0; q < w; q += VL) {
        float* target = panel + (n0 + q) * width + k;
        if (k + VL <= columns) {
          transpose(source + k * w + q, w, target, width);
          continue;
        }
        for (long j = 0; j < VL; ++j)
          for (long i = 0; i < VL; ++i) target[j * width + i] = k + i < columns ? source[(k + i) * w + q + j] : 0.0f;
      }
  }
}

template <int MR, int NV>
static __attribute__((noinline)) void backward_input_tile(const BackwardInput& f, const float* panel, long r0, long k0) {
  V acc[MR][NV];
  dot_tile<MR, NV>(f.dy + r0 * f.outputs, f.outputs, panel, f.outputs, acc);
  const float* x = f.x + r0 * f.inputs + k0;
  float* dx = f.dx + r0 * f.inputs + k0;
  long columns = min_l(f.inputs - k0, NV * VL);
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) {
    long n = columns - j * VL;
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      long at = i * f.inputs + j * VL;
      V g = acc[i][j];
      if (f.act != IDENTITY) g = g * derivative(load_first(x + at, n), f.act, f.slope);
      if (f.accumulate) g = g + load_first(dx + at, n);
      store_first(dx + at, g, n);
    }
  }
}

struct BackwardInputTile {
  const BackwardInput& f;
  const float* panel;
  long r0, k0, width;
  template <int R> INLINE_MEMBER void operator()() const {
    width == NR ? backward_input_tile<R, 2>(f, panel, r0, k0) : backward_input_tile<R, 1>(f, panel, r0, k0);
  }
};

KERNEL(linear_backward_input) {
  const float* weight = in<float>(buf, 1);
  long batch = dim[0];
  BackwardInput f = {in<float>(buf, 0), in<float>(buf, 2), out<float>(buf, 3), dim[1], dim[2],
                     (int)dim[3],       dim[4] != 0,       (float)scalar[0]};
  long panels = (f.inputs + NR - 1) / NR;
  long blocks = panels >= 8 ? 1 : (batch + 55) / 56;  // each block packs the panel again, so there are few
  aae::parallel(blocks * panels, 2.0 * batch * f.inputs * f.outputs, [&](long task) {
    long block = task / panels, k0 = task % panels * NR, width = panel_width(f.inputs, k0);
    float* panel = static_cast<float*>(aae::scratch(round_up(f.outputs, VL) * width * sizeof(float)));
    if (!panel) return;
    pack_transposed(weight, f.inputs, f.outputs, k0, width, panel);
    long first = batch * block / blocks, rows = batch * (block + 1) / blocks - first;
    for_tiles(rows, [&](long r, long height) {
      with_rows<MR_MAX>(height, BackwardInputTile{f, panel, first + r, k0, width});
    });
  });
}

// -------------------------------------------------------------------------------------------------- weight gradient

// What becomes of a tile of the gradient, [MR][NV * VL] at offset `at` of the packed weight.
struct StoreGradient {
  float* gradient;
  bool accumulate;
  INLINE_MEMBER void prepare(long, int) const {}
  INLINE_MEMBER void take(long at, V g) const { store(gradient + at, accumulate ? load(gradient + at) + g : g); }
};

struct UpdateWeight {
  Adam adam;
  float *weight, *m, *v;
  INLINE_MEMBER void prepare(long at, int floats) const {  // the state is needed when the sums are done: ask for it now
    for (int i = 0; i < floats; i += 16) prefetch(weight + at + i), prefetch(m + at + i), prefetch(v + at + i);
  }
  INLINE_MEMBER void take(long at, V g) const { adam_memory(adam, g, weight + at, m + at, v + at); }
};

// The gradient of MR inputs x NV * VL outputs: sum over rows r of x[r * stride + i] * dy[r][j].
template <int MR, int NV, class Sink>
static __attribute__((noinline)) void weight_tile(const float* x, long stride, const float* dy, long batch, const Sink& sink, long at) {
  V acc[MR][NV];
  sink.prepare(at, MR * NV * VL);
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) acc[i][j] = splat(0.0f);
#pragma GCC unroll 2
  for (long r = 0; r < batch; ++r) {
    V b[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = load(dy + j * VL);
    dy += NV * VL;
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      V a = splat(x[i]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = fma(a, b[j], acc[i][j]);
    }
    x += stride;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) sink.take(at + (i * NV + j) * VL, acc[i][j]);
}

template <class Sink> struct WeightTile {
  const float *x, *dy;
  long stride, batch, at, width;
  const Sink& sink;
  template <int R> INLINE_MEMBER void operator()() const {
    width == NR ? weight_tile<R, 2>(x, stride, dy, batch, sink, at) : weight_tile<R, 1>(x, stride, dy, batch, sink, at);
  }
};

// panel[r][0 .. width) = dy[r][n0 .. n0 + width), zeros beyond the outputs.
INLINE void pack_columns(const float* dy, long batch, long outputs, long n0, long width, float* panel) {
  for (long r = 0; r < batch; ++r)
    for (long j = 0; j < width; j += VL) {
      const float* source = dy + r * outputs + n0 + j;
      long n = outputs - n0 - j;
      store(panel + r * width + j, n >= VL ? load(source) : load_first(source, n));
    }
}

// Column sums of a packed panel, in four interleaved chains.
INLINE V column_sum(const float* panel, long batch, long width) {
  V s[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  long r = 0;
  for (; r + 4 <= batch; r += 4)
    for (int c = 0; c < 4; ++c) s[c] = s[c] + load(panel + (r + c) * width);
  for (int c = 0; r + c < batch; ++c) s[c] = s[c] + load(panel + (r + c) * width);
  return (s[0] + s[1]) + (s[2] + s[3]);
}

// Runs over all tiles of the gradient: tiles go to `sink`, the bias gradient to take_bias(first output, vector, how many).
template <class Sink, class Bias>
INLINE void backward_weight(const float* x, const float* dy, const int64_t* dim, const Sink& sink, Bias&& take_bias) {
  long batch = dim[0], inputs = dim[1], outputs = dim[2];
  long panels = (outputs + NR - 1) / NR, parts = panels >= 8 ? 1 : (inputs + 55) / 56;
  aae::parallel(panels * parts, 2.0 * batch * inputs * outputs, [&](long task) {
    long n0 = task / parts * NR, part = task % parts, width = panel_width(outputs, n0);
    float* panel = static_cast<float*>(aae::scratch(batch * width * sizeof(float)));
    if (!panel) return;
    pack_columns(dy, batch, outputs, n0, width, panel);
    long first = inputs * part / parts, rows = inputs * (part + 1) / parts - first;
    for_tiles(rows, [&](long k, long height) {
      k += first;
      with_rows<MR_MAX>(height, WeightTile<Sink>{x + k, panel, inputs, batch, n0 * inputs + k * width, width, sink});
    });
    for (long j = 0; part == 0 && j < width; j += VL) take_bias(n0 + j, column_sum(panel + j, batch, width), outputs - n0 - j);
  });
}

KERNEL(linear_backward_weight) {
  float* dbias = out<float>(buf, 3);
  bool accumulate = dim[3] != 0;
  backward_weight(in<float>(buf, 0), in<float>(buf, 1), dim, StoreGradient{out<float>(buf, 2), accumulate}, [&](long n, V g, long count) {
    store_first(dbias + n, accumulate ? load_first(dbias + n, count) + g : g, count);
  });
}

KERNEL(linear_backward_weight_adam) {
  float *bias = out<float>(buf, 5), *m_bias = out<float>(buf, 6), *v_bias = out<float>(buf, 7);
  Adam adam = load_adam(in<double>(buf, 8));
  UpdateWeight sink = {adam, out<float>(buf, 2), out<float>(buf, 3), out<float>(buf, 4)};
  backward_weight(in<float>(buf, 0), in<float>(buf, 1), dim, sink, [&](long n, V g, long count) {
    adam_memory_first(adam, g, bias + n, m_bias + n, v_bias + n, count);
  });
}
