// The weight gradient of linear layers, stored or given to Adam where it is made. The layout of a weight is described in linear.hpp.

// What becomes of a vector of the gradient at offset `at` of the weight's storage.
struct StoreGradient {
  float* gradient;
  bool accumulate;
  INLINE_MEMBER void prepare(long) const {}
  INLINE_MEMBER void take(long at, V g) const { store(gradient + at, accumulate ? load(gradient + at) + g : g); }
  INLINE_MEMBER void take_first(long at, V g, long n) const {
    store_first(gradient + at, accumulate ? load_first(gradient + at, n) + g : g, n);
  }
};

struct UpdateWeight {
  Adam adam;
  float *weight, *m, *v;
  INLINE_MEMBER void prepare(long at) const { prefetch(weight + at), prefetch(m + at), prefetch(v + at); }
  INLINE_MEMBER void take(long at, V g) const { adam_memory(adam, g, weight + at, m + at, v + at); }
  INLINE_MEMBER void take_first(long at, V g, long n) const { adam_memory_first(adam, g, weight + at, m + at, v + at, n); }
};

// A finished tile whose vectors the next one hands to the sink while it computes: Adam's division and root, and the memory that the state
// comes from, then cost next to nothing.
struct Pending {
  long at = 0;
  int count = 0;
  V gradient[2 * MR_MAX];
};

// The gradient of MR inputs x NV * VL outputs: sum over the depth r of x[r * stride + i] * dy[r][j].
template <class P, int MR, int NV, class Sink>
static __attribute__((noinline)) void weight_tile(
    const float* x, long stride, const float* dy, long depth, const Sink& sink, long at, Pending& pending) {
  V acc[MR][NV];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) acc[i][j] = splat(0.0f);
  auto steps = [&](long n) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (long r = 0; r < n; ++r) {
      tile_step<P>(dy, acc, [&](int i) __attribute__((always_inline)) { return x[i]; });
      dy += NV * VL;
      x += stride;
    }
  };
  for (int i = 0; pending.count == 0 && i < MR * NV; ++i) sink.prepare(at + i * VL);
  long each = pending.count ? depth / pending.count : 0;
  for (int i = 0; i < pending.count; ++i) {
    sink.prepare(at + i * VL);
    steps(each);
    sink.take(pending.at + i * VL, pending.gradient[i]);
  }
  steps(depth - each * pending.count);
  pending.at = at;
  pending.count = MR * NV;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) pending.gradient[i * NV + j] = acc[i][j];
}

// panel[r][0 .. width) = dy[r][n0 .. n0 + width), r in lanes, zeros beyond the outputs.
template <class P> INLINE void pack_columns(const float* dy, long batch, long outputs, long n0, long width, float* panel) {
  for (long r = 0; r < batch; r += P::PER_LANE)
    for (long j = 0; j < width; j += VL) {
      const float *even = dy + r * outputs + n0 + j, *odd = even + outputs;
      long n = outputs - n0 - j;
      V below = P::PER_LANE == 1 || r + 1 == batch ? splat(0.0f) : load_first(odd, n);
      store(panel + r / P::PER_LANE * width + j, P::pair(n >= VL ? load(even) : load_first(even, n), below));
    }
}

constexpr long DEPTH_BLOCK = 1024;  // lanes of the batch at a time: a panel of dy and the lines of x that a tile reads stay in L2

// The gradient of `rows` inputs from `first` on and one panel of outputs, to `sink`: the sums of blocks of the batch, in their order.
template <class P, class Sink>
INLINE void weight_panel(
    const float* xs, const float* dy, long batch, long inputs, long outputs, long first, long rows, long n0, const Sink& sink) {
  long depth = lanes<P>(batch), blocks = (depth + DEPTH_BLOCK - 1) / DEPTH_BLOCK, width = panel_width(outputs, n0);
  bool packed = P::PER_LANE > 1 || outputs != width;  // else dy is such a panel as it lies
  long deepest = packed ? min_l(depth, DEPTH_BLOCK) : 0;
  float* panel = static_cast<float*>(aae::scratch((deepest + (blocks > 1 ? rows : 0)) * width * sizeof(float) + 1));
  if (!panel) return;
  StoreGradient partial = {panel + deepest * width, false};
  for (long b = 0; b < blocks; ++b) {
    long from = depth * b / blocks, deep = depth * (b + 1) / blocks - from;
    const float *x = xs + from * inputs + first, *part = dy + from * P::PER_LANE * outputs;
    if (packed) pack_columns<P>(part, min_l(batch - from * P::PER_LANE, deep * P::PER_LANE), outputs, n0, width, panel);
    const float* d = packed ? panel : part;
    auto tiles = [&](const auto& to, long origin) {
      Pending pending;
      for_tiles(rows, [&](long k, long height) {
        with_count<MR_MAX>(height, [&](auto R) {
          width == NR ? weight_tile<P, R, 2>(x + k, inputs, d, deep, to, origin + k * width, pending)
                      : weight_tile<P, R, 1>(x + k, inputs, d, deep, to, origin + k * width, pending);
        });
        for (int i = 0; b > 0 && i < pending.count; ++i)
          pending.gradient[i] = load(partial.gradient + k * width + i * VL) + pending.gradient[i];
      });
      for (int i = 0; i < pending.count; ++i) to.take(pending.at + i * VL, pending.gradient[i]);
    };
    b + 1 < blocks ? tiles(partial, 0) : tiles(sink, n0 * inputs + first * width);
  }
}

// All tiles of the gradient go to `sink`, the bias gradient to take_bias(first output, vector, how many).
template <class P, class Sink, class Bias>
INLINE void backward_weight(const float* x, const float* dy, const int64_t* dim, const Sink& sink, Bias&& take_bias) {
  long batch = dim[0], inputs = dim[1], outputs = dim[2];
  if (outputs <= SKINNY) return backward_weight_skinny<P>(x, dy, batch, inputs, outputs, sink, take_bias);
  const float* xs = P::lanes_along_rows(x, batch, inputs);
  if (!xs) return;
  long panels = (outputs + NR - 1) / NR;
  double flops = 2.0 * batch * inputs * outputs;
  long parts = parts_per_panel(panels, (inputs + 27) / 28, flops);
  aae::parallel(panels * parts, flops, [&](long task) {
    long n0 = task / parts * NR, part = task % parts, first = inputs * part / parts, rows = inputs * (part + 1) / parts - first;
    weight_panel<P>(xs, dy, batch, inputs, outputs, first, rows, n0, sink);
    for (long j = 0; part == 0 && j < panel_width(outputs, n0); j += VL) {
      long n = min_l(VL, outputs - n0 - j);
      if (n > 0) take_bias(n0 + j, column_sum<P>(dy + n0 + j, batch, outputs, n), n);
    }
  });
}

template <class P> INLINE void backward_weight_stored(Buffers buf, Dims dim) {
  float* dbias = out<float>(buf, 3);
  bool accumulate = dim[3] != 0;
  StoreGradient sink = {out<float>(buf, 2), accumulate};
  backward_weight<P>(in<float>(buf, 0), in<float>(buf, 1), dim, sink, [&](long n, V g, long count) {
    store_first(dbias + n, accumulate ? load_first(dbias + n, count) + g : g, count);
  });
}

template <class P> INLINE void backward_weight_adam(Buffers buf, Dims dim) {
  float *bias = out<float>(buf, 5), *m_bias = out<float>(buf, 6), *v_bias = out<float>(buf, 7);
  Adam adam = load_adam(in<double>(buf, 8));
  UpdateWeight sink = {adam, out<float>(buf, 2), out<float>(buf, 3), out<float>(buf, 4)};
  backward_weight<P>(in<float>(buf, 0), in<float>(buf, 1), dim, sink, [&](long n, V g, long count) {
    adam_memory_first(adam, g, bias + n, m_bias + n, v_bias + n, count);
  });
}

KERNEL(linear_backward_weight) { backward_weight_stored<Float32>(buf, dim); }
KERNEL(linear_backward_weight_bf16) { backward_weight_stored<Bfloat16>(buf, dim); }
KERNEL(linear_backward_weight_adam) { backward_weight_adam<Float32>(buf, dim); }
KERNEL(linear_backward_weight_adam_bf16) { backward_weight_adam<Bfloat16>(buf, dim); }
