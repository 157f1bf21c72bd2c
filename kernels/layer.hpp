// The arguments of a linear layer's passes, and what they do with finished sums: the general epilogues. Tiles of the common case, whole
// vectors and ReLU, finish in registers instead, with the same bits.

struct Forward {
  const float *x, *bias;
  float* y;
  long inputs, outputs;
  int act;
  float slope;
};

// y = act(sums + bias) for a tile of sums [rows][width], cut off at the last output.
static __attribute__((noinline)) void finish_forward(const Forward& f, const float* sums, long rows, long width, long r0, long n0) {
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

struct BackwardInput {
  const float *dy, *x;
  float* dx;
  long inputs, outputs;
  int act;
  bool accumulate;
  float slope;
};

// dx = beta dx + sums act'(x) for a tile of sums [rows][width], cut off at the last input.
static __attribute__((noinline)) void finish_backward_input(
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
