// Linear layers, forward and input gradient: y = act(x W^T + b), dx = (dy W) act'. The weight gradient is in weight.hpp.
//
// Layout of a weight (out, in), and of its gradient and moments: panels of NR outputs, each [in][NR] contiguous, the last one NR or VL wide
// and padded with zeros. Panel j starts at j * NR * in. Forward and weight gradient read and write it as it lies; the input gradient
// transposes one panel at a time into scratch. At most VL / 2 outputs are plain (out, in): skinny.hpp.
//
// Every output element is one chain of multiply-adds over the reduction index in ascending order, or the sum of a few such chains where the
// reduction is a long batch, whatever tile it falls into and whichever thread runs the tile: the bits depend on the shapes only.

// ---------------------------------------------------------------------------------------------------------- forward

template <class P, int MR, int NV>
static __attribute__((noinline)) void forward_tile(const Forward& f, const float* x, const float* panel, long r0, long n0, Ahead ahead) {
  V acc[MR][NV];
  long depth = lanes<P>(f.inputs);
  dot_tile<P>(x + r0 * depth, depth, panel, depth, ahead, acc);
  finish(f, acc, r0, n0);
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
  const float* weight = in<float>(buf, 1);
  if (f.outputs <= SKINNY) return forward_skinny<P>(f, weight, batch);
  const float* x = P::lanes_along_columns(f.x, batch, f.inputs);
  if (!x) return;
  long panels = (f.outputs + NR - 1) / NR;
  double flops = 2.0 * batch * f.inputs * f.outputs;
  long blocks = max_l((batch + 111) / 112, parts_per_panel(panels, (batch + 27) / 28, flops));  // 112 rows stay in L2
  for_blocks_and_panels(blocks, panels, flops, [&](long block, long p) {
    long n0 = p * NR, width = panel_width(f.outputs, n0);
    const float* panel = forward_panel<P>(weight + n0 * f.inputs, f.inputs, width);
    if (!panel) return;
    const float* next = weight + min_l(p + 1, panels - 1) * NR * f.inputs;  // what this thread is likely to do next
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
  finish(f, acc, r0, k0);
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
  double flops = 2.0 * batch * f.inputs * f.outputs;
  long blocks = parts_per_panel(panels, (batch + 27) / 28, flops);
  for_blocks_and_panels(blocks, panels, flops, [&](long block, long p) {
    long k0 = p * NR, width = panel_width(f.inputs, k0);
    float* panel = static_cast<float*>(aae::scratch(round_up(lanes<P>(f.outputs), VL) * width * sizeof(float)));
    if (!panel) return;
    pack_transposed<P>(weight, f.inputs, f.outputs, k0, width, panel);
    const float* next = weight + min_l(p + 1, panels - 1) * NR * NR;  // a part of each of the weight's panels
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
