// Linear layers: y = act(x W^T + b), their input gradient and their weight gradient, alone and with Adam. Weights lie as (out, in).
//
// linear_*.cu instantiate them for one arithmetic each. A kernel is named after its op, the arithmetic and the tile:
// linear_forward_tf32_small. Its parameters are those of the op.
#pragma once

#include "adam.cuh"
#include "sliced.cuh"
#include "tile.cuh"

// ---------------------------------------------------------------------------------------------------------- epilogues
// prefetch(M, m0, n0) is called before the product: what the tile needs of memory may come into L2 meanwhile. ready() is called when a thread has its
// sums. Then load(row, column, n) reads what belongs to n <= 4 neighbours of a row of the product, and store(row, column, n, sums, loaded) ends
// them; AHEAD quads of a thread are asked for before one is ended. take_row(row, sum) gets the sum of a row of the first operand, if SUMS_ROWS.

struct Forward {  // y = act(sums + bias)
  static constexpr bool SUMS_ROWS = false;
  static constexpr int AHEAD = 4;
  using Loaded = Quad;
  const float* bias;
  float* y;
  int O, act;
  float slope;
  bool wide;
  template <class T> DEVICE void prefetch(int, int, int) const {}
  DEVICE const Forward& ready() const { return *this; }
  DEVICE Quad load(int, int column, int n) const { return load_quad(bias + column, n, wide); }
  DEVICE void store(int row, int column, int n, Quad sum, const Quad& b) const {
    UNROLL
    for (int j = 0; j < 4; j++) sum.v[j] = activation(sum.v[j] + b.v[j], act, slope);
    store_quad(y + (long long)row * O + column, sum, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

struct BackwardInput {  // dx = beta dx + sums act'(x)
  static constexpr bool SUMS_ROWS = false;
  static constexpr int AHEAD = 4;
  struct Loaded {
    Quad x, dx;
  };
  const float* x;
  float* dx;
  int I, act, beta;
  float slope;
  bool wide;
  template <class T> DEVICE void prefetch(int, int, int) const {}
  DEVICE const BackwardInput& ready() const { return *this; }
  DEVICE Loaded load(int row, int column, int n) const {
    const long long at = (long long)row * I + column;
    Loaded loaded = {};
    if (act != IDENTITY) loaded.x = load_quad(x + at, n, wide);
    if (beta) loaded.dx = load_quad(dx + at, n, wide);
    return loaded;
  }
  DEVICE void store(int row, int column, int n, Quad sum, const Loaded& old) const {
    UNROLL
    for (int j = 0; j < 4; j++) {
      const float g = sum.v[j] * activation_derivative(old.x.v[j], act, slope);
      sum.v[j] = beta ? old.dx.v[j] + g : g;
    }
    store_quad(dx + (long long)row * I + column, sum, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

struct BackwardWeight {  // dW = beta dW + sums, db = beta db + sum of rows
  static constexpr bool SUMS_ROWS = true;
  static constexpr int AHEAD = 4;
  using Loaded = Quad;
  float *dweight, *dbias;
  int I, beta;
  bool wide;
  template <class T> DEVICE void prefetch(int, int, int) const {}
  DEVICE const BackwardWeight& ready() const { return *this; }
  DEVICE Quad load(int row, int column, int n) const {
    Quad old = {};
    if (beta) old = load_quad(dweight + (long long)row * I + column, n, wide);
    return old;
  }
  DEVICE void store(int row, int column, int n, Quad sum, const Quad& old) const {
    UNROLL
    for (int j = 0; j < 4; j++) sum.v[j] = beta ? old.v[j] + sum.v[j] : sum.v[j];
    store_quad(dweight + (long long)row * I + column, sum, n, wide);
  }
  DEVICE void take_row(int row, float sum) const { dbias[row] = beta ? dbias[row] + sum : sum; }
};

struct BackwardWeightAdam {  // both gradients go to Adam where they are made
  static constexpr bool SUMS_ROWS = true;
  float *weight, *m_weight, *v_weight, *bias, *m_bias, *v_bias;
  const double* state;
  int I;
  bool wide;
  struct Ready {
    using Loaded = AdamQuad;
    static constexpr int AHEAD = 2;
    Adam adam;
    float *weight, *m_weight, *v_weight;
    int I;
    bool wide;
    DEVICE AdamQuad load(int row, int column, int n) const {
      const int at = row * I + column;  // of 2^31 at most, and a register less than an address
      return load_adam_quad(weight + at, m_weight + at, v_weight + at, n, wide);
    }
    DEVICE void store(int row, int column, int n, const Quad& sum, const AdamQuad& old) const {
      const int at = row * I + column;
      adam_quad(adam, sum, old, weight + at, m_weight + at, v_weight + at, n, wide);
    }
  };
  // Moments were last used a step ago, and those of a large model are no longer in L2.
  template <class T> DEVICE void prefetch(int M, int m0, int n0) const {
    prefetch_tile<T>(m_weight, M, I, m0, n0);
    prefetch_tile<T>(v_weight, M, I, m0, n0);
    prefetch_tile<T>(weight, M, I, m0, n0);
  }
  DEVICE Ready ready() const { return Ready{load_adam(state), weight, m_weight, v_weight, I, wide}; }
  DEVICE void take_row(int row, float sum) const { adam_number(load_adam(state), sum, bias[row], m_bias[row], v_bias[row]); }
};

// ------------------------------------------------------------------------------------------------------------- kernels

template <class T> constexpr bool IS_SLICED = false;
template <> constexpr bool IS_SLICED<Sliced> = true;

// The product of a tile: of slices that each warp has for itself, or of panels that all warps share.
template <class T, class Math, bool A_ALONG, bool B_ALONG, class Epilogue>
DEVICE void product(const float* a, const float* b, int M, int N, int K, const Epilogue& epilogue, int block_row) {
  if constexpr (IS_SLICED<T>) sliced_product<Math, A_ALONG, B_ALONG>(a, b, M, N, K, epilogue, block_row);
  else matrix_product<T, Math, A_ALONG, B_ALONG>(a, b, M, N, K, epilogue, block_row);
}

// The gradient of a part of the batch, for layers whose tiles are too few to fill a chip: the grid has the tiles once for each part, one below the
// other. `parts` has the gradients of all parts, (O, I) each, and then those of the bias, (O) each. linear_sum.cu adds them.
template <class T, class Math> DEVICE void weight_part(const float* x, const float* dy, float* parts, int B, int I, int O) {
  constexpr int CHUNK = 64;
  static_assert(CHUNK % T::BK == 0, "a part has whole chunks of every tile");
  const int tile_rows = (O + T::BM - 1) / T::BM, count = gridDim.y / tile_rows, part = blockIdx.y / tile_rows;
  const int rows = (B + CHUNK * count - 1) / (CHUNK * count) * CHUNK, first = min(part * rows, B);  // the last part has what is left
  const long long size = (long long)O * I;
  float *sums = parts + part * size, *bias = parts + count * size + (long long)part * O;
  product<T, Math, false, false>(dy + (long long)first * O, x + (long long)first * I, O, I, min(rows, B - first),
                                BackwardWeight{sums, bias, I, 0, is_wide(sums, I)}, blockIdx.y % tile_rows);
}

// `blocks`: how many of them a multiprocessor must hold at once.
#define FORWARD_KERNEL(MATH, TILE, blocks, suffix)                                                                                              \
  KERNEL_BLOCKS(linear_forward_##suffix, TILE::THREADS, blocks, const float* x, const float* weight, const float* bias, float* y, int B, int I, \
         int O, int act, double slope) {                                                                                                        \
    const bool wide = is_wide(y, O) && is_aligned16(bias);                                                                                      \
    product<TILE, MATH, true, true>(x, weight, B, O, I, Forward{bias, y, O, act, (float)slope, wide}, blockIdx.y);                              \
  }

#define BACKWARD_INPUT_KERNEL(MATH, TILE, blocks, suffix)                                                                                      \
  KERNEL_BLOCKS(linear_backward_input_##suffix, TILE::THREADS, blocks, const float* dy, const float* weight, const float* x, float* dx, int B, \
         int I, int O, int act, int beta, double slope) {                                                                                      \
    const bool wide = is_wide(x, I) && is_wide(dx, I);                                                                                         \
    product<TILE, MATH, true, false>(dy, weight, B, I, O, BackwardInput{x, dx, I, act, beta, (float)slope, wide}, blockIdx.y);                 \
  }

#define WEIGHT_KERNELS(MATH, TILE, blocks, updates, suffix)                                                                                    \
  KERNEL_BLOCKS(linear_backward_weight_##suffix, TILE::THREADS, blocks, const float* x, const float* dy, float* dweight, float* dbias, int B,  \
         int I, int O, int beta) {                                                                                                             \
    product<TILE, MATH, false, false>(dy, x, O, I, B, BackwardWeight{dweight, dbias, I, beta, is_wide(dweight, I)}, blockIdx.y);               \
  }                                                                                                                                            \
  KERNEL_BLOCKS(linear_backward_weight_adam_##suffix, TILE::THREADS, updates, const float* x, const float* dy, float* weight, float* m_weight, \
         float* v_weight, float* bias, float* m_bias, float* v_bias, const double* state, int B, int I, int O) {                               \
    const bool wide = is_wide(weight, I) && is_wide(m_weight, I) && is_wide(v_weight, I);                                                      \
    product<TILE, MATH, false, false>(                                                                                                         \
        dy, x, O, I, B, BackwardWeightAdam{weight, m_weight, v_weight, bias, m_bias, v_bias, state, I, wide}, blockIdx.y);                     \
  }

// Of long batches, on tensor cores: the float32 of one chain for each sum has no parts.
#define WEIGHT_PART_KERNEL(MATH, TILE, blocks, suffix)                                                                                             \
  KERNEL_BLOCKS(linear_backward_weight_part_##suffix, TILE::THREADS, blocks, const float* x, const float* dy, float* parts, int B, int I, int O) { \
    weight_part<TILE, MATH>(x, dy, parts, B, I, O);                                                                                                \
  }

// All of an arithmetic and a tile on tensor cores.
#define TENSOR_KERNELS(MATH, TILE, blocks, updates, suffix) \
  FORWARD_KERNEL(MATH, TILE, blocks, suffix)                \
  BACKWARD_INPUT_KERNEL(MATH, TILE, blocks, suffix)         \
  WEIGHT_KERNELS(MATH, TILE, blocks, updates, suffix)       \
  WEIGHT_PART_KERNEL(MATH, TILE, blocks, suffix)
