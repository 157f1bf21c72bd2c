// Optimizers: Adam (Kingma & Ba 2015) and SGD with momentum, in PyTorch's conventions.
//
// Step size and bias corrections are made in double by *_advance once a step and read from the state buffer, so a recorded step stays valid.
#include "adam.cuh"

constexpr int THREADS = 256;

DEVICE double power(double base, double n) {  // base^n for a whole n >= 0, by squaring
  double result = 1.0;
  for (u64 k = (u64)n; k; k >>= 1, base *= base)
    if (k & 1) result *= base;
  return result;
}

KERNEL(adam_advance, 1, double* s) {
  s[STEP] += 1.0;
  s[GRAD_SCALE] = 1.0;  // clipping holds for one step
  s[STEP_SIZE] = s[LR] / (1.0 - power(s[BETA1], s[STEP]));
  s[INV_SQRT_BC2] = 1.0 / sqrt(1.0 - power(s[BETA2], s[STEP]));
}

// Four neighbours a thread.
KERNEL(adam_step, THREADS, float* p, const float* g, float* m, float* v, const double* state, int N) {
  const int i = 4 * (blockIdx.x * THREADS + threadIdx.x);
  if (i >= N) return;
  const bool wide = N - i >= 4 && is_aligned16(p) && is_aligned16(g) && is_aligned16(m) && is_aligned16(v);
  const AdamQuad old = load_adam_quad(p + i, m + i, v + i, N - i, wide);
  adam_quad(load_adam(state), load_quad(g + i, N - i, wide), old, p + i, m + i, v + i, N - i, wide);
}

KERNEL(sgd_advance, 1, double* s) {
  s[STEP] += 1.0;
  s[GRAD_SCALE] = 1.0;
}

KERNEL(sgd_step, THREADS, float* p, const float* g, float* velocity, const double* s, int N) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= N) return;
  const float momentum = (float)s[BETA1], lr = (float)s[LR], grad_scale = (float)s[GRAD_SCALE];
  const float v = momentum * velocity[i] + g[i] * grad_scale;
  velocity[i] = v;
  p[i] = p[i] - lr * v;
}

KERNEL(clip_scale, 1, const double* total, double* s, double max_norm) {
  const double scale = max_norm / (sqrt(*total) + 1e-6);
  s[GRAD_SCALE] = scale > 1.0 ? 1.0 : scale;  // NaN stays NaN
}
