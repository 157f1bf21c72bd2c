// Layers with at most 8 outputs or inputs, alone and together with what follows them: a block makes R rows of the batch.
//
// FAN IN is a layer, or its input gradient, from many numbers of a row to few, whose sums all threads share; FAN OUT is one from few to many.
// A kernel of several calls (aaecore/backends/cuda/fusion.py) computes what their own kernels compute, in the same order, so it gives the same bits; the few
// numbers between them stay in shared memory, `few`: R rows of MOST.
//
// skinny*.cu instantiate them for one arithmetic each.
#pragma once

#include "loss.cuh"
#include "math.cuh"
#include "quad.cuh"
#include "reduce.cuh"

constexpr int MOST = 8, THREADS = 256, WARPS = THREADS / 32;  // MOST is NARROW in aaecore/backends/cuda/kernels.py
constexpr int TURNS = 4;  // of a thread along the many numbers, whose loads are under way together: all it has for up to 1024 of them

struct Weights {
  const float* at;  // (O, I)
  int I, O;
};

// Up to MOST neighbours: a row of weights of a layer with few inputs; zeros where it has none.
struct Few {
  Quad low, high;
  DEVICE float operator[](int i) const { return i < 4 ? low.v[i] : high.v[i - 4]; }
};
// Factors are rounded once, as soon as they are there: every product would do it again. `few` has rounded ones.
template <class Math> DEVICE void round_quad(Quad& q) {
  UNROLL
  for (int j = 0; j < 4; j++) q.v[j] = Math::rounded(q.v[j]);
}
// A wide row has 4 or 8. Its last four are read in any case: a load that depends on n would be a branch.
template <bool WIDE> DEVICE Few load_few(const float* p, int n) {
  Few few = {load_quad(p, n, WIDE), load_quad(p + (WIDE ? n - 4 : 4), n - 4, WIDE)};
  UNROLL
  for (int j = 0; j < 4; j++) few.high.v[j] = n > 4 ? few.high.v[j] : 0.0f;
  return few;
}

// The row of the batch that is number r of this block. Beyond the end the last one is read again, and nothing comes of it.
template <int R> DEVICE long long batch_row(int r, int B) { return R == 1 ? blockIdx.x : min((int)blockIdx.x * R + r, B - 1); }

// Adds up what all threads have of R rows of `n` sums and gives each to finish(row of the batch, which, sum), whose results go to `few`;
// what there is none of is 0.
template <class Math, int R, class Finish> DEVICE void finish_few(float (&sums)[R * MOST], int n, int B, float* few, const Finish& finish) {
  constexpr int N = R * MOST;
  STATIC_SHARED(float, parts, WARPS * N);
  spread_sum<N>(sums);
  if (threadIdx.x % (32 / N) == 0) parts[threadIdx.x * N / 32] = sums[0];
  __syncthreads();
  if (threadIdx.x >= N) return;
  const int row = blockIdx.x * R + threadIdx.x / MOST, which = threadIdx.x % MOST;
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += parts[w * N + threadIdx.x];
  few[threadIdx.x] = row < B && which < n ? Math::rounded(finish(row, which, total)) : 0.0f;
}

// Few sums of a row: x[b] . W[o] over the inputs of a layer. Of outputs that are not there the last one is read again.
template <class Math, int R, bool WIDE> DEVICE void add_forward(const float* x, const Weights& w, int B, float (&sums)[R * MOST]) {
  NO_UNROLL
  for (int i = 4 * threadIdx.x; i < w.I; i += 4 * THREADS) {
    Quad a[R], b[MOST];
    UNROLL
    for (int r = 0; r < R; r++) a[r] = load_quad(x + batch_row<R>(r, B) * w.I + i, w.I - i, WIDE);
    UNROLL
    for (int o = 0; o < MOST; o++) b[o] = load_quad(w.at + min(o, w.O - 1) * w.I + i, w.I - i, WIDE);
    UNROLL
    for (int r = 0; r < R; r++) round_quad<Math>(a[r]);
    UNROLL
    for (int o = 0; o < MOST; o++) {
      round_quad<Math>(b[o]);
      UNROLL
      for (int r = 0; r < R; r++)
        UNROLL
        for (int j = 0; j < 4; j++) sums[r * MOST + o] = fmaf(a[r].v[j], b[o].v[j], sums[r * MOST + o]);
    }
  }
}
template <class Math, int R, class Finish> DEVICE void fan_in_forward(const float* x, const Weights& w, int B, float* few, const Finish& finish) {
  float sums[R * MOST] = {};
  if (is_wide(x, w.I) && is_wide(w.at, w.I)) add_forward<Math, R, true>(x, w, B, sums);
  else add_forward<Math, R, false>(x, w, B, sums);
  finish_few<Math, R>(sums, w.O, B, few, finish);
}

// Few sums of a row: dy[b][o] W[o][i] over the outputs of a layer.
template <class Math, int R, bool WIDE> DEVICE void add_backward(const float* dy, const Weights& w, int B, float (&sums)[R * MOST]) {
  NO_UNROLL
  for (int first = threadIdx.x; first < w.O; first += TURNS * THREADS) {
    Few b[TURNS];
    float g[TURNS][R];
    UNROLL
    for (int t = 0; t < TURNS; t++) {
      const int o = min(first + t * THREADS, w.O - 1);
      b[t] = load_few<WIDE>(w.at + o * w.I, w.I);
      UNROLL
      for (int r = 0; r < R; r++) g[t][r] = dy[batch_row<R>(r, B) * w.O + o];
    }
    UNROLL
    for (int t = 0; t < TURNS; t++) {
      const bool is_there = first + t * THREADS < w.O;
      round_quad<Math>(b[t].low), round_quad<Math>(b[t].high);
      UNROLL
      for (int r = 0; r < R; r++) g[t][r] = Math::rounded(g[t][r]);
      UNROLL
      for (int r = 0; r < R; r++)
        UNROLL
        for (int i = 0; i < MOST; i++) {
          float& sum = sums[r * MOST + i];
          sum = is_there ? fmaf(g[t][r], b[t][i], sum) : sum;
        }
    }
  }
}
template <class Math, int R, class Finish> DEVICE void fan_in_backward(const float* dy, const Weights& w, int B, float* few, const Finish& finish) {
  float sums[R * MOST] = {};
  if (is_wide(w.at, w.I)) add_backward<Math, R, true>(dy, w, B, sums);
  else add_backward<Math, R, false>(dy, w, B, sums);
  finish_few<Math, R>(sums, w.I, B, few, finish);
}

// A FAN OUT is an object. Its constructor asks for what a thread needs in its first turn; its call, once `few` is there, makes the rest.
// In a kernel of several calls these loads so come before what the first call writes. That is right because aaecore/backends/cuda/fusion.py joins no call
// whose other operands an earlier one of the kernel writes.

// y[b][o] = act(few[b] . W[o] + bias[o])
struct OutputRows {
  Weights w;
  const float* bias;
  float* y;
  int B, act;
  float slope;
  DEVICE bool is_aligned() const { return is_wide(w.at, w.I); }
};
template <class Math, int R, bool WIDE> struct FanOutForward {
  const OutputRows& to;
  Few b[TURNS];
  float bias[TURNS];
  DEVICE FanOutForward(const OutputRows& to) : to(to) { load(threadIdx.x); }
  DEVICE void load(int first) {
    UNROLL
    for (int t = 0; t < TURNS; t++) {
      const int o = min(first + t * THREADS, to.w.O - 1);
      b[t] = load_few<WIDE>(to.w.at + o * to.w.I, to.w.I);
      bias[t] = to.bias[o];
    }
  }
  DEVICE void operator()(const float* few) {
    __syncthreads();  // `few` is there
    NO_UNROLL
    for (int first = threadIdx.x; first < to.w.O; first += TURNS * THREADS) {
      if (first >= TURNS * THREADS) load(first);
      UNROLL
      for (int t = 0; t < TURNS; t++) {
        const int o = first + t * THREADS;
        if (o >= to.w.O) break;
        round_quad<Math>(b[t].low), round_quad<Math>(b[t].high);
        NO_UNROLL  // an activation is long
        for (int r = 0; r < R; r++) {
          const int row = blockIdx.x * R + r;
          if (row >= to.B) break;
          float sum = 0.0f;
          UNROLL
          for (int i = 0; i < MOST; i++) sum = fmaf(few[r * MOST + i], b[t][i], sum);
          to.y[(long long)row * to.w.O + o] = activation(sum + bias[t], to.act, to.slope);
        }
      }
    }
  }
};

// dx[b][i] = beta dx[b][i] + act'(x[b][i]) sum over o of few[b][o] W[o][i]
struct GradientRows {
  Weights w;
  const float* x;
  float* dx;
  int B, act, beta;
  float slope;
  DEVICE bool is_aligned() const { return is_wide(w.at, w.I) && is_wide(x, w.I) && is_wide(dx, w.I); }
};
template <class Math, int R, bool WIDE> struct FanOutBackward {
  const GradientRows& to;
  Quad b[MOST], x[R], dx[R];
  DEVICE FanOutBackward(const GradientRows& to) : to(to), x(), dx() {
    if (4 * threadIdx.x < to.w.I) load(4 * threadIdx.x);
  }
  DEVICE void load(int i) {
    const int n = to.w.I - i;
    UNROLL
    for (int o = 0; o < MOST; o++) b[o] = load_quad(to.w.at + min(o, to.w.O - 1) * to.w.I + i, n, WIDE);
    UNROLL
    for (int r = 0; r < R; r++) {
      const long long at = batch_row<R>(r, to.B) * to.w.I + i;
      if (to.act != IDENTITY) x[r] = load_quad(to.x + at, n, WIDE);
      if (to.beta) dx[r] = load_quad(to.dx + at, n, WIDE);
    }
  }
  DEVICE void operator()(const float* few) {
    __syncthreads();  // `few` is there
    NO_UNROLL
    for (int i = 4 * threadIdx.x; i < to.w.I; i += 4 * THREADS) {
      if (i >= 4 * THREADS) load(i);
      UNROLL
      for (int o = 0; o < MOST; o++) round_quad<Math>(b[o]);
      UNROLL
      for (int r = 0; r < R; r++) {
        const int row = blockIdx.x * R + r;
        if (row >= to.B) break;
        Quad result;
        UNROLL
        for (int j = 0; j < 4; j++) {
          float sum = 0.0f;
          UNROLL
          for (int o = 0; o < MOST; o++)
            if (o < to.w.O) sum = fmaf(few[r * MOST + o], b[o].v[j], sum);
          sum *= activation_derivative(x[r].v[j], to.act, to.slope);
          result.v[j] = to.beta ? dx[r].v[j] + sum : sum;
        }
        store_quad(to.dx + (long long)row * to.w.I + i, result, to.w.I - i, WIDE);
      }
    }
  }
};

// Begins a FAN OUT, makes `few`, and ends it.
template <class FanOut, class To, class Makes> DEVICE void fan_out_with(const To& to, const float* few, const Makes& makes) {
  FanOut out(to);
  makes();
  out(few);
}
template <template <class, int, bool> class FanOut, class Math, int R, class To, class Makes>
DEVICE void fan_out(const To& to, const float* few, const Makes& makes) {
  if (to.is_aligned()) fan_out_with<FanOut<Math, R, true>>(to, few, makes);
  else fan_out_with<FanOut<Math, R, false>>(to, few, makes);
}

// Rows of n numbers, as FAN OUT takes them.
template <class Math, int R> DEVICE void load_rows(const float* from, int n, int B, float* few) {
  const int row = blockIdx.x * R + threadIdx.x / MOST, which = threadIdx.x % MOST;
  if (threadIdx.x < R * MOST) few[threadIdx.x] = row < B && which < n ? Math::rounded(from[(long long)row * n + which]) : 0.0f;
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

#define FAN_KERNELS(MATH, suffix, R, more)                                                                                                              \
  KERNEL_BLOCKS(linear_forward_##suffix##_fan_in##more, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I,     \
         int O, int act, double slope) {                                                                                                                \
    STATIC_SHARED(float, few, R * MOST);                                                                                                                \
    fan_in_forward<MATH, R>(x, {weight, I, O}, B, few, Output{bias, y, O, act, (float)slope});                                                          \
  }                                                                                                                                                     \
  KERNEL_BLOCKS(linear_forward_##suffix##_fan_out##more, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I,    \
         int O, int act, double slope) {                                                                                                                \
    STATIC_SHARED(float, few, R * MOST);                                                                                                                \
    fan_out<FanOutForward, MATH, R>(OutputRows{{weight, I, O}, bias, y, B, act, (float)slope}, few, [&] { load_rows<MATH, R>(x, I, B, few); });         \
  }                                                                                                                                                     \
  KERNEL_BLOCKS(linear_backward_input_##suffix##_fan_in##more, THREADS, 2, const float* dy, const float* weight, const float* x, float* dx, int B,      \
         int I, int O, int act, int beta, double slope) {                                                                                               \
    STATIC_SHARED(float, few, R * MOST);                                                                                                                \
    fan_in_backward<MATH, R>(dy, {weight, I, O}, B, few, InputGradient{x, dx, I, act, beta, (float)slope});                                             \
  }                                                                                                                                                     \
  KERNEL_BLOCKS(linear_backward_input_##suffix##_fan_out##more, THREADS, 2, const float* dy, const float* weight, const float* x, float* dx, int B,     \
         int I, int O, int act, int beta, double slope) {                                                                                               \
    STATIC_SHARED(float, few, R * MOST);                                                                                                                \
    fan_out<FanOutBackward, MATH, R>(GradientRows{{weight, I, O}, x, dx, B, act, beta, (float)slope}, few, [&] { load_rows<MATH, R>(dy, O, B, few); }); \
  }

// Several calls in one: the parameters of each, one call after the other. What a call would read of the one before is not read again.
#define FUSED_KERNELS(MATH, suffix)                                                                                                                    \
  KERNEL_BLOCKS(forward_forward_##suffix, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I, int O, int act,  \
         double slope, const float*, const float* weight2, const float* bias2, float* y2, int, int, int O2, int act2, double slope2) {                 \
    STATIC_SHARED(float, few, MOST);                                                                                                                   \
    fan_out<FanOutForward, MATH, 1>(OutputRows{{weight2, O, O2}, bias2, y2, B, act2, (float)slope2}, few, [&] {                                        \
      fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, Output{bias, y, O, act, (float)slope});                                                       \
    });                                                                                                                                                \
  }                                                                                                                                                    \
  KERNEL_BLOCKS(forward_copy_##suffix, THREADS, 2, const float* x, const float* weight, const float* bias, float* y, int B, int I, int O, int act,     \
         double slope, const float*, float* dst, int, int) {                                                                                           \
    STATIC_SHARED(float, few, MOST);                                                                                                                   \
    const Output output = {bias, y, O, act, (float)slope};                                                                                             \
    fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, [&](int row, int o, float sum) { return dst[row * O + o] = output(row, o, sum); });             \
  }                                                                                                                                                    \
  KERNEL_BLOCKS(backward_backward_##suffix, THREADS, 2, const float* dy, const float* weight, const float* x, float* dx, int B, int I, int O, int act, \
         int beta, double slope, const float*, const float* weight2, const float* x2, float* dx2, int, int I2, int, int act2, int beta2,               \
         double slope2) {                                                                                                                              \
    STATIC_SHARED(float, few, MOST);                                                                                                                   \
    fan_out<FanOutBackward, MATH, 1>(GradientRows{{weight2, I2, I}, x2, dx2, B, act2, beta2, (float)slope2}, few, [&] {                                \
      fan_in_backward<MATH, 1>(dy, {weight, I, O}, B, few, InputGradient{x, dx, I, act, beta, (float)slope});                                          \
    });                                                                                                                                                \
  }                                                                                                                                                    \
  KERNEL_BLOCKS(forward_loss_backward_##suffix, THREADS, 2, const float* x, const float* weight, const float* bias, float* logits, int B, int I,       \
         int O, int act, double slope, const float*, float*, float*, int, int real, double loss_weight, const float*, const float*,                    \
         const float* x2, float* dx, int, int, int, int act2, int beta2, double slope2) {                                                              \
    STATIC_SHARED(float, few, MOST);                                                                                                                   \
    const Output output = {bias, logits, O, act, (float)slope};                                                                                        \
    const AdversarialBce loss(B, real, loss_weight);                                                                                                   \
    fan_out<FanOutBackward, MATH, 1>(GradientRows{{weight, I, O}, x2, dx, B, act2, beta2, (float)slope2}, few, [&] {                                   \
      fan_in_forward<MATH, 1>(x, {weight, I, O}, B, few, [&](int row, int o, float sum) { return loss.of(output(row, o, sum), row).grad; });           \
    });                                                                                                                                                \
  }

#define SKINNY_KERNELS(MATH, suffix) \
  FAN_KERNELS(MATH, suffix, 1, )     \
  FAN_KERNELS(MATH, suffix, 4, 4)    \
  FUSED_KERNELS(MATH, suffix)
