// Losses with their gradients in one pass, the activation derivative, and the Gaussian posterior.
//
// A loss is a sum of floats in double, in an order that depends on the shape alone: element i of a part goes to lane i % 8, the lanes are
// added in pairs, the parts in their order.

// Sum of f(i) over begin <= i < end. f runs over a block at a time: its loop of floats and the sum in double vectorise apart.
template <class F> INLINE double sum_part(long begin, long end, F f) {
  constexpr long BLOCK = 512;
  float value[BLOCK];
  double lane[8] = {};
  for (; begin < end; begin += BLOCK) {
    long n = min_l(BLOCK, end - begin);
#pragma GCC ivdep
    for (long i = 0; i < n; ++i) value[i] = f(begin + i);
    for (long i = n; i % 8; ++i) value[i] = 0.0f;
    for (long i = 0; i < n; i += 8)
      for (int j = 0; j < 8; ++j) lane[j] += (double)value[i + j];
  }
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// Sum of f(i) over 0 <= i < n, in at most PARTS parallel parts. f(i) may write element i of outputs, as in for_elements.
template <class F> INLINE double sum_elements(long n, double flops_per_element, F f) {
  constexpr long PARTS = 256;
  double sums[PARTS];
  long part = round_up(n / PARTS + 1, CHUNK), parts = (n + part - 1) / part;
  aae::parallel(parts, n * flops_per_element, [&](long p) { sums[p] = sum_part(p * part, min_l(n, (p + 1) * part), f); });
  double total = 0.0;
  for (long p = 0; p < parts; ++p) total += sums[p];
  return total;
}

KERNEL(activation_backward) {
  const float *dy = in<float>(buf, 0), *y = in<float>(buf, 1);
  float* dx = out<float>(buf, 2);
  float slope = (float)scalar[0];
  with_activation(dim[1], [&](auto act) {
    with_beta(dim[2], [&](auto beta) {
      for_elements(dim[0], 3, [=](long i) { put(beta, dx[i], dy[i] * activation_derivative(y[i], act, slope)); });
    });
  });
}

KERNEL(half_squared_error) {
  const float *y = in<float>(buf, 0), *target = in<float>(buf, 1);
  float *dy = out<float>(buf, 2), *loss = out<float>(buf, 3);
  double weight = scalar[1] / dim[0];
  float slope = (float)scalar[0], factor = (float)weight;
  with_activation(dim[2], [&](auto act) {
    double sum = sum_elements(dim[0] * dim[1], 6, [=](long i) {
      float d = y[i] - target[i];
      dy[i] = factor * d * activation_derivative(y[i], act, slope);
      return d * d;
    });
    *loss = (float)(0.5 * weight * sum);
  });
}

// weight times the sum of the cross-entropies of n logits against target(i), and its gradient.
template <class Target> INLINE double bce(const float* logits, float* dlogits, long n, double weight, Target target) {
  float factor = (float)weight;
  return weight * sum_elements(n, 30, [=](long i) {
    ValueGrad r = bce_logit(logits[i], target(i));
    dlogits[i] = factor * r.grad;
    return r.value;
  });
}

KERNEL(bce_logits) {
  const float* target = in<float>(buf, 1);
  double weight = scalar[0] / dim[0];
  *out<float>(buf, 3) =
      (float)bce(in<float>(buf, 0), out<float>(buf, 2), dim[0] * dim[1], weight, [=](long i) { return target[i]; });
}

KERNEL(adversarial_bce) {
  const float* logits = in<float>(buf, 0);
  float* dlogits = out<float>(buf, 1);
  auto group_loss = [=](long first, long n, float target) {
    if (n == 0) return 0.0;  // and not 0 / 0
    return bce(logits + first, dlogits + first, n, scalar[0] / n, [=](long) { return target; });
  };
  long B = dim[0], real = dim[1];
  *out<float>(buf, 2) = (float)(group_loss(0, real, 1.0f) + group_loss(real, B - real, 0.0f));
}

KERNEL(gaussian_sample) {
  const float *params = in<float>(buf, 0), *eps = in<float>(buf, 1);
  float* z = out<float>(buf, 2);
  long Z = dim[1];
  for_rows(dim[0], 20.0 * Z, [=](long r) {
    const float *mean = params + 2 * Z * r, *log_variance = mean + Z;
#pragma GCC ivdep
    for (long j = 0; j < Z; ++j) z[Z * r + j] = mean[j] + exp_f(0.5f * log_variance[j]) * eps[Z * r + j];
  });
}

// d mean = dz, d log variance = dz eps exp(log variance / 2) / 2.
KERNEL(gaussian_sample_backward) {
  const float *dz = in<float>(buf, 0), *params = in<float>(buf, 1), *eps = in<float>(buf, 2);
  float* dparams = out<float>(buf, 3);
  long Z = dim[1];
  with_beta(dim[2], [&](auto beta) {
    for_rows(dim[0], 20.0 * Z, [=](long r) {
      const float* log_variance = params + 2 * Z * r + Z;
      float *dmean = dparams + 2 * Z * r, *dlog_variance = dmean + Z;
#pragma GCC ivdep
      for (long j = 0; j < Z; ++j) {
        float g = dz[Z * r + j];
        put(beta, dmean[j], g);
        put(beta, dlog_variance[j], g * eps[Z * r + j] * (0.5f * exp_f(0.5f * log_variance[j])));
      }
    });
  });
}
