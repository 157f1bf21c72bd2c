// Optimizers: Adam (Kingma & Ba 2015) and SGD with momentum, in PyTorch's conventions.
//
// Step size and bias corrections are made in double by *_advance once a step and read from the state buffer, so a recorded step stays valid.
// adam_vector is also the epilogue of linear_backward_weight_adam: fused and separate updates give the same bits.

struct Adam {
  V one_minus_beta1, one_minus_beta2, minus_step_size, inv_sqrt_bc2, eps, grad_scale;
};

INLINE Adam load_adam(const double* state) {
  // 1 - beta in double: 1 - 0.999f is off by 1.3e-5, which shows in the second moment.
  return {splat((float)(1.0 - state[BETA1])), splat((float)(1.0 - state[BETA2])), splat((float)-state[STEP_SIZE]),
          splat((float)state[INV_SQRT_BC2]),  splat((float)state[EPS]),           splat((float)state[GRAD_SCALE])};
}

// m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); p -= step_size m / (sqrt(v) inv_sqrt_bc2 + eps)
INLINE V adam_vector(const Adam& c, V g, V p, V& m, V& v) {
  g = g * c.grad_scale;
  m = fma(c.one_minus_beta1, g - m, m);
  v = fma(c.one_minus_beta2, g * g - v, v);
  return fma(c.minus_step_size, m / fma(root(v), c.inv_sqrt_bc2, c.eps), p);
}

INLINE void adam_memory(const Adam& c, V g, float* p, float* m, float* v) {
  V mv = load(m), vv = load(v);
  V pv = adam_vector(c, g, load(p), mv, vv);
  store(m, mv), store(v, vv), store(p, pv);
}

INLINE void adam_memory_first(const Adam& c, V g, float* p, float* m, float* v, long n) {
  V mv = load_first(m, n), vv = load_first(v, n);
  V pv = adam_vector(c, g, load_first(p, n), mv, vv);
  store_first(m, mv, n), store_first(v, vv, n), store_first(p, pv, n);
}

INLINE double power(double base, double n) {  // base^n for a whole n >= 0, by squaring
  double result = 1.0;
  for (uint64_t k = (uint64_t)n; k; k >>= 1, base *= base)
    if (k & 1) result *= base;
  return result;
}

KERNEL(adam_advance) {
  double* s = out<double>(buf, 0);
  s[STEP] += 1.0;
  s[GRAD_SCALE] = 1.0;  // clipping holds for one step
  s[STEP_SIZE] = s[LR] / (1.0 - power(s[BETA1], s[STEP]));
  s[INV_SQRT_BC2] = 1.0 / __builtin_sqrt(1.0 - power(s[BETA2], s[STEP]));
}

KERNEL(adam_step) {
  float *p = out<float>(buf, 0), *m = out<float>(buf, 2), *v = out<float>(buf, 3);
  const float* g = in<float>(buf, 1);
  Adam c = load_adam(in<double>(buf, 4));
  for_chunks(dim[0], 12, [&](long begin, long end) {
    long i = begin;
    for (; i + VL <= end; i += VL) adam_memory(c, load(g + i), p + i, m + i, v + i);
    if (i < end) adam_memory_first(c, load_first(g + i, end - i), p + i, m + i, v + i, end - i);
  });
}

KERNEL(sgd_advance) {
  double* s = out<double>(buf, 0);
  s[STEP] += 1.0;
  s[GRAD_SCALE] = 1.0;
}

KERNEL(sgd_step) {
  float *p = out<float>(buf, 0), *velocity = out<float>(buf, 2);
  const float* g = in<float>(buf, 1);
  const double* s = in<double>(buf, 3);
  float momentum = (float)s[BETA1], lr = (float)s[LR], grad_scale = (float)s[GRAD_SCALE];
  for_chunks(dim[0], 4, [&](long begin, long end) {
    for (long i = begin; i < end; ++i) {
      float v = momentum * velocity[i] + g[i] * grad_scale;
      velocity[i] = v;
      p[i] = p[i] - lr * v;
    }
  });
}

KERNEL(sum_squares) {
  const float* x = in<float>(buf, 0);
  double* total = out<double>(buf, 1);
  long n = dim[0];
  double* partial = static_cast<double*>(aae::scratch(((n + CHUNK - 1) / CHUNK) * sizeof(double)));
  if (!partial) return;
  for_chunks(n, 2, [&](long begin, long end) {
    double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0};  // by index mod 8: a fixed order that still vectorises
    long i = begin;
    for (; i + 8 <= end; i += 8)
      for (int j = 0; j < 8; ++j) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < end; ++j) lane[j] += (double)x[i + j] * (double)x[i + j];
    double sum = 0;
    for (int j = 0; j < 8; ++j) sum += lane[j];
    partial[begin / CHUNK] = sum;
  });
  double sum = dim[1] ? *total : 0.0;
  for (long c = 0; c < (n + CHUNK - 1) / CHUNK; ++c) sum += partial[c];
  *total = sum;
}

KERNEL(clip_scale) {
  double scale = scalar[0] / (__builtin_sqrt(*in<double>(buf, 0)) + 1e-6);
  out<double>(buf, 1)[GRAD_SCALE] = scale > 1.0 ? 1.0 : scale;  // NaN stays NaN
}
