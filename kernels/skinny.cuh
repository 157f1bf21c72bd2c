// Layers with at most 8 outputs or inputs, alone and together with what follows them: a block makes R rows of the batch.
//
// FAN IN is a layer, or its input gradient, from many numbers of a row to few, whose sums all threads share; FAN OUT is one from few to many.
// A kernel of several calls (aaecore/fusion.py) does one after the other what their own kernels do, so it gives the same bits; the few numbers
// between them stay in shared memory, `few`: R rows of MOST.
//
// skinny*.cu instantiate them for one arithmetic each.
#pragma once

#include "loss.cuh"
#include "math.cuh"
#include "quad.cuh"
#include "reduce.cuh"

constexpr int MOST = 8, THREADS = 256, WARPS = THREADS / 32;  // MOST is NARROW in aaecore/geometry.py

struct Weights {
  const float* at;  // (O, I)
  int I, O;
};

// Up to MOST neighbours: a row of weights of a layer with few inputs.
struct Few {
  Quad low, high;
  DEVICE float operator[](int i) const { return i < 4 ? low.v[i] : high.v[i - 4]; }
};
DEVICE Few load_few(const float* p, int n, bool wide) {
  Few few = {load_quad(p, n, wide), {{0.0f, 0.0f, 0.0f, 0.0f}}};
  if (n > 4) few.high = load_quad(p + 4, n - 4, wide);
  return few;
}

// Adds up what all threads have of R rows of `n` sums and gives each to finish(row of the batch, which, sum), whose results go to `few`;
// what there is none of is 0.
template <int R, class Finish> DEVICE void finish_few(float (&sums)[R * MOST], int n, int B, float* few, const Finish& finish) {
  constexpr int N = R * MOST;
  STATIC_SHARED(float, parts, WARPS * N);
  spread_sum<N>(sums);
  if (threadIdx.x % (32 / N) == 0) parts[threadIdx.x * N / 32] = sums[0];
  __syncthreads();
  if (threadIdx.x >= N) return;
  const int row = blockIdx.x * R + threadIdx.x / MOST, which = threadIdx.x % MOST;
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += parts[w * N + threadIdx.x];
  few[threadIdx.x] = row < B && which < n ? finish(row, which, total) : 0.0f;
}

// Few sums of a row: x[b] . W[o] over the inputs of a layer.
template <class Math, int R, class Finish> DEVICE void fan_in_forward(const float* x, const Weights& w, int B, float* few, const Finish& finish) {
  const bool wide = is_wide(x, w.I) && is_wide(w.at, w.I);
  float sums[R * MOST] = {};
  NO_UNROLL
  for (int i = 4 * threadIdx.x; i < w.I; i += 4 * THREADS) {
    Quad a[R];
    UNROLL
    for (int r = 0; r < R; r++) {
      const int row = blockIdx.x * R + r;
      a[r] = load_quad(x + (long long)row * w.I + i, row < B ? w.I - i : 0, wide && row < B);
    }
    UNROLL
    for (int o = 0; o < MOST; o++) {
      const Quad b = load_quad(w.at + o * w.I + i, o < w.O ? w.I - i : 0, wide && o < w.O);
      UNROLL
      for (int r = 0; r < R; r++)
        UNROLL
        for (int j = 0; j < 4; j++) sums[r * MOST + o] = fmaf(Math::rounded(a[r].v[j]), Math::rounded(b.v[j]), sums[r * MOST + o]);
    }
  }
  finish_few<R>(sums, w.O, B, few, finish);
}

// Few sums of a row: dy[b][o] W[o][i] over the outputs of a layer.
template <class Math, int R, class Finish> DEVICE void fan_in_backward(const float* dy, const Weights& w, int B, float* few, const Finish& finish) {
  const bool wide = is_wide(w.at, w.I);
  float sums[R * MOST] = {};
  for (int o = threadIdx.x; o < w.O; o += THREADS) {
    const Few b = load_few(w.at + o * w.I, w.I, wide);
    UNROLL
    for (int r = 0; r < R; r++) {
      const int row = blockIdx.x * R + r;
      const float g = row < B ? Math::rounded(dy[(long long)row * w.O + o]) : 0.0f;
      UNROLL
      for (int i = 0; i < MOST; i++) sums[r * MOST + i] = fmaf(g, Math::rounded(b[i]), sums[r * MOST + i]);
    }
  }
  finish_few<R>(sums, w.I, B, few, finish);
}

// y[b][o] = act(few[b] . W[o] + bias[o])
template <class Math, int R>
DEVICE void fan_out_forward(const float* few, const Weights& w, const float* bias, float* y, int B, int act, float slope) {
  const bool wide = is_wide(w.at, w.I);
  __syncthreads();  // `few` is there
  for (int o = threadIdx.x; o < w.O; o += THREADS) {
    const Few b = load_few(w.at + o * w.I, w.I, wide);
    UNROLL
    for (int r = 0; r < R; r++) {
      const int row = blockIdx.x * R + r;
      if (row >= B) break;
      float sum = 0.0f;
      UNROLL
      for (int i = 0; i < MOST; i++) sum = fmaf(Math::rounded(few[r * MOST + i]), Math::rounded(b[i]), sum);
      y[(long long)row * w.O + o] = activation(sum + bias[o], act, slope);
    }
  }
}

// dx[b][i] = beta dx[b][i] + act'(x[b][i]) sum over o of few[b][o] W[o][i]
template <class Math, int R>
DEVICE void fan_out_backward(const float* few, const Weights& w, const float* x, float* dx, int B, int act, int beta, float slope) {
  const bool wide = is_wide(w.at, w.I) && is_wide(x, w.I) && is_wide(dx, w.I);
  __syncthreads();  // `few` is there
  NO_UNROLL
  for (int i = 4 * threadIdx.x; i < w.I; i += 4 * THREADS) {
    Quad b[MOST] = {};
    UNROLL
    for (int o = 0; o < MOST; o++)
      if (o < w.O) b[o] = load_quad(w.at + o * w.I + i, w.I - i, wide);
    UNROLL
    for (int r = 0; r < R; r++) {
      const int row = blockIdx.x * R + r;
      if (row >= B) break;
      const long long at = (long long)row * w.I + i;
      Quad input = {}, old = {}, result;
      if (act != IDENTITY) input = load_quad(x + at, w.I - i, wide);
      if (beta) old = load_quad(dx + at, w.I - i, wide);
      UNROLL
      for (int j = 0; j < 4; j++) {
        float sum = 0.0f;
        UNROLL
        for (int o = 0; o < MOST; o++) sum = fmaf(Math::rounded(few[r * MOST + o]), Math::rounded(b[o].v[j]), sum);
        sum *= activation_derivative(input.v[j], act, slope);
        result.v[j] = beta ? old.v[j] + sum : sum;
      }
      store_quad(dx + at, result, w.I - i, wide);
    }
  }
}

// Rows of n numbers, as FAN OUT takes them.
template <int R> DEVICE void load_rows(const float* from, int n, int B, float* few) {
  const int row = blockIdx.x * R + threadIdx.x / MOST, which = threadIdx.x % MOST;
  if (threadIdx.x < R * MOST) few[threadIdx.x] = row < B && which < n ? from[(long long)row * n + which] : 0.0f;
}

// What becomes of a sum of a layer with few outputs, and of the input gradient of one with few inputs.
struct Output {
  const float* bias;
  float* y;
  int O, act;
  float slope;
  DEVICE float operator()(int row, int o, float sum) const { return y[(long long)row * O + o] = activation(sum + bias[o], act, slope); }
};
struct InputGradient {
  const float* x;
  float* dx;
  int I, act, beta;
  float slope;
  DEVICE float operator()(int row, int i, float sum) const {
    const long long at = (long long)row * I + i;
    sum *= activation_derivative(x[at], act, slope);
    return dx[at] = beta ? dx[at] + sum : sum;
  }
};

#define FAN_KERNELS(MATH, suffix, R, more)                                                                                                           \
  KERNEL_BLOCKS(linear_forward_##suffix##_fan_in##more, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I,  \
         int O, int act, double slope) {                                                                                                             \
    STATIC_SHARED(float, few, R * MOST);                                                                                                             \
    fan_in_forward<MATH, R>(x, {weight, I, O}, B, few, Output{bias, y, O, act, (float)slope});                                                       \
  }                                                                                                                                                  \
  KERNEL_BLOCKS(linear_forward_##suffix##_fan_out##more, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I, \
         int O, int act, double slope) {                                                                                                             \
    STATIC_SHARED(float, few, R * MOST);                                                                                                             \
    load_rows<R>(x, I, B, few);                                                                                                                      \
    fan_out_forward<MATH, R>(few, {weight, I, O}, bias, y, B, act, (float)slope);                                                                    \
  }                                                                                                                                                  \
  KERNEL_BLOCKS(linear_backward_input_##suffix##_fan_in##more, THREADS, 2, const float* dy, const float* weight, const float* x, float* dx, int B,   \
         int I, int O, int act, int beta, double slope) {                                                                                            \
    STATIC_SHARED(float, few, R * MOST);                                                                                                             \
    fan_in_backward<MATH, R>(dy, {weight, I, O}, B, few, InputGradient{x, dx, I, act, beta, (float)slope});                                          \
  }                                                                                                                                                  \
  KERNEL_BLOCKS(linear_backward_input_##suffix##_fan_out##more, THREADS, 2, const float* dy, const float* weight, const float* x, float* dx, int B,  \
         int I, int O, int act, int beta, double slope) {                                                                                            \
    STATIC_SHARED(float, few, R * MOST);                                                                                                             \
    load_rows<R>(dy, O, B, few);                                                                                                                     \
    fan_out_backward<MATH, R>(few, {weight, I, O}, x, dx, B, act, beta, (float)slope);                                                               \
  }

// Several calls in one: the parameters of each, one call after the other. What a call would read of the one before is not read again.
#define FUSED_KERNELS(MATH, suffix)                                                                                                          \
  KERNEL(forward_forward_##suffix, THREADS, const float* x, const float* weight, const float* bias, float* y, int B, int I, int O, int act,  \
         double slope, const float*, const float* weight2, const float* bias2, float* y2, int, int, int O2, int act2, double slope2) {       \
    STATIC_SHARED(float, few, MOST);                                                                                                         \
    fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, Output{bias, y, O, act, (float)slope});                                               \
    fan_out_forward<MATH, 1>(few, {weight2, O, O2}, bias2, y2, B, act2, (float)slope2);                                                      \
  }                                                                                                                                          \
  KERNEL(forward_copy_##suffix, THREADS, const float* x, const float* weight, const float* bias, float* y, int B, int I, int O, int act,     \
         double slope, const float*, float* dst, int, int) {                                                                                 \
    STATIC_SHARED(float, few, MOST);                                                                                                         \
    const Output output = {bias, y, O, act, (float)slope};                                                                                   \
    fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, [&](int row, int o, float sum) { return dst[row * O + o] = output(row, o, sum); });   \
  }                                                                                                                                          \
  KERNEL(backward_backward_##suffix, THREADS, const float* dy, const float* weight, const float* x, float* dx, int B, int I, int O, int act, \
         int beta, double slope, const float*, const float* weight2, const float* x2, float* dx2, int, int I2, int, int act2, int beta2,     \
         double slope2) {                                                                                                                    \
    STATIC_SHARED(float, few, MOST);                                                                                                         \
    fan_in_backward<MATH, 1>(dy, {weight, I, O}, B, few, InputGradient{x, dx, I, act, beta, (float)slope});                                  \
    fan_out_backward<MATH, 1>(few, {weight2, I2, I}, x2, dx2, B, act2, beta2, (float)slope2);                                                \
  }                                                                                                                                          \
  KERNEL(forward_loss_backward_##suffix, THREADS, const float* x, const float* weight, const float* bias, float* logits, int B, int I,       \
         int O, int act, double slope, const float*, float*, float*, int, int real, double loss_weight, const float*, const float*,          \
         const float* x2, float* dx, int, int, int, int act2, int beta2, double slope2) {                                                    \
    STATIC_SHARED(float, few, MOST);                                                                                                         \
    const Output output = {bias, logits, O, act, (float)slope};                                                                              \
    const AdversarialBce loss(B, real, loss_weight);                                                                                         \
    fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, [&](int row, int o, float sum) { return loss.of(output(row, o, sum), row).grad; });   \
    fan_out_backward<MATH, 1>(few, {weight, I, O}, x2, dx, B, act2, beta2, (float)slope2);                                                   \
  }

#define SKINNY_KERNELS(MATH, suffix) \
  FAN_KERNELS(MATH, suffix, 1, )     \
  FAN_KERNELS(MATH, suffix, 4, 4)    \
  FUSED_KERNELS(MATH, suffix)
