// Linear layers, forward and input gradient: y = act(x W^T + b), dx = (dy W) act'. The weight gradient is in weight.hpp.
//
// Layout of a weight (out, in), and of its gradient and moments: panels of NR outputs, each [in][NR] contiguous, the last one NR or VL wide
// and padded with zeros. Panel j starts at j * NR * in. Forward and weight gradient read and write it as it lies; the input gradient
// transposes one panel at a time into scratch. At most VL / 2 outputs are plain (out, in): skinny.hpp.
//
// Every output element is one chain of multiply-adds over the reduction index in ascending order, whatever tile it falls into and
// whichever thread runs the tile: the bits depend on the shapes only.

// ---------------------------------------------------------------------------------------------------------- forward

template <class P, int MR, int NV>
static __attribute__((noinline)) void forward_tile(const Forward& f, const float* x, const float* panel, long r0, long n0, Ahead ahead) {
  V acc[MR][NV];
  long depth = lanes<P>(f.inputs);
  dot_tile<P>(x + r0 * depth, depth, panel, depth, ahead, acc);
  if (f.act != RELU || f.outputs - n0 < NV * VL) {
    float sums[MR * NV * VL];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) store(sums + (i * NV + j) * VL, acc[i][j]);
    return finish_forward(f, sums, MR, NV * VL, r0, n0);
  }
  float* y = f.y + r0 * f.outputs + n0;
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) {
    V bias = load(f.bias + n0 + j * VL);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      V v = acc[i][j] + bias, zero = splat(0.0f);
      store(y + i * f.outputs + j * VL, v < zero ? zero : v);  // NaN stays
    }
  }
}

// panel[k][0 .. width) from a packed weight's panel [inputs][width], k in lanes.
template <class P> INLINE const float* forward_panel(const float* weight, long inputs, long width) {
  if (P::PER_LANE == 1) return weight;
  float* panel = static_cast<float*>(aae::scratch(lanes<P>(inputs) * width * sizeof(float)));
  for (long k = 0; panel && k < inputs; k += P::PER_LANE)
    for (long j = 0; j < width; j += VL) {
      const float* even = weight + k * width + j;
      store(panel + k / P::PER_LANE * width + j, P::pair(load(even), k + 1 < inputs ? load(even + width) : splat(0.0f)));
    }
  return panel;
}

template <class P> INLINE void forward(Buffers buf, Dims dim, Scalars scalar) {
  long batch = dim[0];
  Forward f = {in<float>(buf, 0), in<float>(buf, 2), out<float>(buf, 3), dim[1], dim[2], (int)dim[3], (float)scalar[0]};
  if (f.outputs <= SKINNY) return forward_skinny<P>(f, in<float>(buf, 1), batch);
  const float *weight = in<float>(buf, 1), *x = P::lanes_along_columns(f.x, batch, f.inputs);
  if (!x) return;
  long panels = (f.outputs + NR - 1) / NR;
  long blocks = max_l((batch + 111) / 112, parts_per_panel(panels, (batch + 27) / 28));  // 112 rows stay in L2 while panels stream past
  aae::parallel(blocks * panels, 2.0 * batch * f.inputs * f.outputs, [&](long task) {
    long block = task / panels, n0 = task % panels * NR, width = panel_width(f.outputs, n0);
    const float* panel = forward_panel<P>(weight + n0 * f.inputs, f.inputs, width);
    if (!panel) return;
    const float* next = weight + min_l(task % panels + 1, panels - 1) * NR * f.inputs;  // what this thread is likely to do next
    long first = batch * block / blocks, rows = batch * (block + 1) / blocks - first, tile = 0;
    for_tiles(rows, [&](long r, long height) {
      Ahead ahead = {next + tile++ % TILES * LINES * LINE, BLOCK * NR};
      with_count<MR_MAX>(height, [&](auto R) {
        width == NR ? forward_tile<P, R, 2>(f, x, panel, first + r, n0, ahead) : forward_tile<P, R, 1>(f, x, panel, first + r, n0, ahead);
      });
    });
  });
}

KERNEL(linear_forward) { forward<Float32>(buf, dim, scalar); }
KERNEL(linear_forward_bf16) { forward<Bfloat16>(buf, dim, scalar); }

// --------------------------------------------------------------------------------------------------- input gradient

template <class P, int MR, int NV>
static __attribute__((noinline)) void backward_input_tile(
    const BackwardInput& f, const float* dy, const float* panel, long r0, long k0, Ahead ahead) {
  V acc[MR][NV];
  long depth = lanes<P>(f.outputs);
  dot_tile<P>(dy + r0 * depth, depth, panel, depth, ahead, acc);
  if (f.act != RELU || f.accumulate || f.inputs - k0 < NV * VL) {
    float sums[MR * NV * VL];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) store(sums + (i * NV + j) * VL, acc[i][j]);
    return finish_backward_input(f, sums, MR, NV * VL, r0, k0);
  }
  const float* x = f.x + r0 * f.inputs + k0;
  float* dx = f.dx + r0 * f.inputs + k0;
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j)
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      long at = i * f.inputs + j * VL;
      store(dx + at, acc[i][j] * (load(x + at) > splat(0.0f) ? splat(1.0f) : splat(0.0f)));
    }
}

template <class P> INLINE void backward_input(Buffers buf, Dims dim, Scalars scalar) {
  const float* weight = in<float>(buf, 1);
  long batch = dim[0];
  BackwardInput f = {in<float>(buf, 0), in<float>(buf, 2), out<float>(buf, 3), dim[1], dim[2],
                     (int)dim[3],       dim[4] != 0,       (float)scalar[0]};
  if (f.outputs <= SKINNY) return backward_input_skinny<P>(f, weight, batch);
  if (f.inputs <= SKINNY) return backward_few_inputs<P>(f, weight, batch);
  const float* dy = P::lanes_along_columns(f.dy, batch, f.outputs);
  if (!dy) return;
  long panels = (f.inputs + NR - 1) / NR;
  long blocks = parts_per_panel(panels, (batch + 27) / 28);
  aae::parallel(blocks * panels, 2.0 * batch * f.inputs * f.outputs, [&](long task) {
    long block = task / panels, k0 = task % panels * NR, width = panel_width(f.inputs, k0);
    float* panel = static_cast<float*>(aae::scratch(round_up(lanes<P>(f.outputs), VL) * width * sizeof(float)));
    if (!panel) return;
    pack_transposed<P>(weight, f.inputs, f.outputs, k0, width, panel);
    const float* next = weight + min_l(task % panels + 1, panels - 1) * NR * NR;  // a part of each of the weight's panels
    long first = batch * block / blocks, rows = batch * (block + 1) / blocks - first, tile = 0;
    for_tiles(rows, [&](long r, long height) {
      Ahead ahead = {next + tile++ % TILES * LINES * LINE, NR * f.inputs};
      with_count<MR_MAX>(height, [&](auto R) {
        width == NR ? backward_input_tile<P, R, 2>(f, dy, panel, first + r, k0, ahead)
                    : backward_input_tile<P, R, 1>(f, dy, panel, first + r, k0, ahead);
      });
    });
  });
}

KERNEL(linear_backward_input) { backward_input<Float32>(buf, dim, scalar); }
KERNEL(linear_backward_input_bf16) { backward_input<Bfloat16>(buf, dim, scalar); }
