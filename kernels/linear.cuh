// Linear layers: y = act(x W^T + b), their input gradient and their weight gradient, alone and with Adam. Weights lie as (out, in).
//
// linear_*.cu instantiate them for one arithmetic each. A kernel is named after its op, the arithmetic and the tile:
// linear_forward_tf32_small. Its parameters are those of the op.
#pragma once

#include "adam.cuh"
#include "tile.cuh"

// ---------------------------------------------------------------------------------------------------------- epilogues
// take(row, column, n, sums) gets n <= 4 neighbours of a row of the product; take_row(row, sum) the sum of a row of its first operand.

struct Forward {  // y = act(sums + bias)
  static constexpr bool SUMS_ROWS = false;
  const float* bias;
  float* y;
  int O, act;
  float slope;
  bool wide;
  DEVICE void take(int row, int column, int n, const Quad& sum) const {
    const Quad b = load_quad(bias + column, n, wide);
    Quad out;
    UNROLL
    for (int j = 0; j < 4; j++) out.v[j] = activation(sum.v[j] + b.v[j], act, slope);
    store_quad(y + (long long)row * O + column, out, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

struct BackwardInput {  // dx = beta dx + sums act'(x)
  static constexpr bool SUMS_ROWS = false;
  const float* x;
  float* dx;
  int I, act, beta;
  float slope;
  bool wide;
  DEVICE void take(int row, int column, int n, const Quad& sum) const {
    const long long at = (long long)row * I + column;
    Quad in = {}, out = {};
    if (act != IDENTITY) in = load_quad(x + at, n, wide);
    if (beta) out = load_quad(dx + at, n, wide);
    UNROLL
    for (int j = 0; j < 4; j++) {
      const float g = sum.v[j] * activation_derivative(in.v[j], act, slope);
      out.v[j] = beta ? out.v[j] + g : g;
    }
    store_quad(dx + at, out, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

struct BackwardWeight {  // dW = beta dW + sums, db = beta db + sum of rows
  static constexpr bool SUMS_ROWS = true;
  float *dweight, *dbias;
  int I, beta;
  bool wide;
  DEVICE void take(int row, int column, int n, const Quad& sum) const {
    float* to = dweight + (long long)row * I + column;
    Quad out = sum;
    if (beta) {
      const Quad old = load_quad(to, n, wide);
      UNROLL
      for (int j = 0; j < 4; j++) out.v[j] = old.v[j] + sum.v[j];
    }
    store_quad(to, out, n, wide);
  }
  DEVICE void take_row(int row, float sum) const { dbias[row] = beta ? dbias[row] + sum : sum; }
};

struct BackwardWeightAdam {  // both gradients go to Adam where they are made
  static constexpr bool SUMS_ROWS = true;
  float *weight, *m_weight, *v_weight, *bias, *m_bias, *v_bias;
  const double* state;
  int I;
  bool wide;
  DEVICE void take(int row, int column, int n, const Quad& sum) const {
    const long long at = (long long)row * I + column;
    adam_quad(load_adam(state), sum, weight + at, m_weight + at, v_weight + at, n, wide);
  }
  DEVICE void take_row(int row, float sum) const { adam_number(load_adam(state), sum, bias[row], m_bias[row], v_bias[row]); }
};

// ------------------------------------------------------------------------------------------------------------- kernels

#define LINEAR_KERNELS(MATH, TILE, suffix)                                                                                                 \
  KERNEL(linear_forward_##suffix, TILE::THREADS, const float* x, const float* weight, const float* bias, float* y, int B, int I, int O,    \
         int act, double slope) {                                                                                                          \
    const bool wide = is_wide(y, O) && is_aligned16(bias);                                                                                 \
    matrix_product<TILE, MATH, true, true>(x, weight, B, O, I, Forward{bias, y, O, act, (float)slope, wide});                              \
  }                                                                                                                                        \
  KERNEL(linear_backward_input_##suffix, TILE::THREADS, const float* dy, const float* weight, const float* x, float* dx, int B, int I,     \
         int O, int act, int beta, double slope) {                                                                                         \
    const bool wide = is_wide(x, I) && is_wide(dx, I);                                                                                     \
    matrix_product<TILE, MATH, true, false>(dy, weight, B, I, O, BackwardInput{x, dx, I, act, beta, (float)slope, wide});                  \
  }                                                                                                                                        \
  KERNEL(linear_backward_weight_##suffix, TILE::THREADS, const float* x, const float* dy, float* dweight, float* dbias, int B, int I,      \
         int O, int beta) {                                                                                                                \
    matrix_product<TILE, MATH, false, false>(dy, x, O, I, B, BackwardWeight{dweight, dbias, I, beta, is_wide(dweight, I)});                \
  }                                                                                                                                        \
  KERNEL(linear_backward_weight_adam_##suffix, TILE::THREADS, const float* x, const float* dy, float* weight, float* m_weight,             \
         float* v_weight, float* bias, float* m_bias, float* v_bias, const double* state, int B, int I, int O) {                           \
    const bool wide = is_wide(weight, I) && is_wide(m_weight, I) && is_wide(v_weight, I);                                                  \
    matrix_product<TILE, MATH, false, false>(                                                                                              \
        dy, x, O, I, B, BackwardWeightAdam{weight, m_weight, v_weight, bias, m_bias, v_bias, state, I, wide});                             \
  }
