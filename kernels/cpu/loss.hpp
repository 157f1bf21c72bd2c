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

// Sum of f(begin, end) over at most PARTS parallel parts of 0 ... n - 1, which begin at multiples of `chunk`.
template <class F> INLINE double sum_parts(long n, long chunk, double flops_per_element, F f) {
  constexpr long PARTS = 256;
  double sums[PARTS];
  long part = round_up(n / PARTS + 1, chunk), parts = (n + part - 1) / part;
  aae::parallel(parts, n * flops_per_element, [&](long p) { sums[p] = f(p * part, min_l(n, (p + 1) * part)); });
  double total = 0.0;
  for (long p = 0; p < parts; ++p) total += sums[p];
  return total;
}

// Sum of f(i) over 0 <= i < n. f(i) may write element i of outputs, as in for_elements.
template <class F> INLINE double sum_elements(long n, double flops_per_element, F f) {
  return sum_parts(n, CHUNK, flops_per_element, [&](long begin, long end) { return sum_part(begin, end, f); });
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

KERNEL(gaussian_kl) {
  const float* params = in<float>(buf, 0);
  float *dparams = out<float>(buf, 1), mean = (float)scalar[0], precision = (float)scalar[1];
  long Z = dim[1];
  double weight = scalar[3] / dim[0];
  float factor = (float)weight;
  double sum = sum_parts(dim[0], 1 + CHUNK / (Z + 1), 30.0 * Z, [=](long begin, long end) {
    double rows = 0.0;
    for (long r = begin; r < end; ++r) {
      const float *m = params + 2 * Z * r, *log_variance = m + Z;
      float *dm = dparams + 2 * Z * r, *dlog_variance = dm + Z;
      rows += sum_part(0, Z, [=](long j) {
        GaussianKl kl = gaussian_kl_of(m[j], log_variance[j], mean, precision);
        dm[j] = factor * kl.dm;
        dlog_variance[j] = factor * kl.dlog_v;
        return kl.value;
      });
    }
    return rows;
  });
  *out<float>(buf, 2) = (float)(weight * sum + scalar[3] * scalar[2] * Z);
}

// A mixture of C Gaussians of Z features, and what the rows of a block need: NR of them side by side, [feature or component][row].
struct Mixture {
  const float *log_scales, *means, *whitening;
  long Z, C;
};
struct MixtureRows {
  float *z, *dz, *terms;
};

// Calls f(j, low, high) with y[j] = sum over k <= j of whitening[j][k] (z[k] - mean[k]) of component c, for the two vectors of rows.
template <class F> INLINE void whitened(const Mixture& p, long c, const float* z, F f) {
  const float *mean = p.means + c * p.Z, *factor = p.whitening + c * p.Z * p.Z;
  for (long j = 0; j < p.Z; ++j) {
    V low = splat(0.0f), high = low;
    for (long k = 0; k <= j; ++k) {
      V w = splat(factor[j * p.Z + k]), m = splat(mean[k]);
      low = low + w * (load(z + k * NR) - m);
      high = high + w * (load(z + k * NR + VL) - m);
    }
    f(j, low, high);
  }
}

// terms[c] = log_scales[c] - |y_c|^2 / 2.
INLINE void mixture_terms(const Mixture& p, const MixtureRows& rows) {
  for (long c = 0; c < p.C; ++c) {
    V low = splat(0.0f), high = low, scale = splat(p.log_scales[c]), half = splat(0.5f);
    whitened(p, c, rows.z, [&](long, V y_low, V y_high) {
      low = low + y_low * y_low;
      high = high + y_high * y_high;
    });
    store(rows.terms + c * NR, scale - half * low);
    store(rows.terms + c * NR + VL, scale - half * high);
  }
}

// dz = sum over c of share_c whitening_c^T y_c. A component without a share in any row is left out, and where it has none it adds 0, not 0 * inf.
INLINE void mixture_gradient(const Mixture& p, const float* shares, const MixtureRows& rows) {
  for (long i = 0; i < p.Z * NR; ++i) rows.dz[i] = 0.0f;
  for (long c = 0; c < p.C; ++c) {
    const float *share = shares + c * NR, *factor = p.whitening + c * p.Z * p.Z;
    bool some = false;
    for (int i = 0; i < NR; ++i) some |= share[i] != 0.0f;
    if (!some) continue;
    whitened(p, c, rows.z, [&](long j, V low, V high) {
      float y[NR];
      store(y, low);
      store(y + VL, high);
      for (int i = 0; i < NR; ++i) y[i] = share[i] == 0.0f ? 0.0f : share[i] * y[i];
      low = load(y), high = load(y + VL);
      for (long k = 0; k <= j; ++k) {
        V w = splat(factor[j * p.Z + k]);
        store(rows.dz + k * NR, load(rows.dz + k * NR) + w * low);
        store(rows.dz + k * NR + VL, load(rows.dz + k * NR + VL) + w * high);
      }
    });
  }
}

// Minus the sum of ln p over the first n rows of z and dz, with the gradient times `factor`. The rest of the block repeats the first row.
INLINE double mixture_block(const Mixture& p, const MixtureRows& rows, const float* z, float* dz, long n, float factor) {
  float largest[NR], sum[NR];
  for (long k = 0; k < p.Z; ++k)
    for (long i = 0; i < NR; ++i) rows.z[k * NR + i] = z[(i < n ? i : 0) * p.Z + k];
  mixture_terms(p, rows);
  for (int i = 0; i < NR; ++i) largest[i] = rows.terms[i], sum[i] = 0.0f;
  for (long c = 1; c < p.C; ++c)
    for (int i = 0; i < NR; ++i) largest[i] = rows.terms[c * NR + i] > largest[i] ? rows.terms[c * NR + i] : largest[i];
  for (long c = 0; c < p.C; ++c)
    for (int i = 0; i < NR; ++i) sum[i] += rows.terms[c * NR + i] = exp_f(rows.terms[c * NR + i] - largest[i]);
  mixture_gradient(p, rows.terms, rows);
  double total = 0.0;
  for (long i = 0; i < n; ++i) {
    float scale = factor / sum[i];
    for (long k = 0; k < p.Z; ++k) dz[i * p.Z + k] = rows.dz[k * NR + i] * scale;
    total -= (double)log_sum_exp(largest[i], sum[i]);
  }
  return total;
}

KERNEL(mixture_nll) {
  const float* z = in<float>(buf, 0);
  float* dz = out<float>(buf, 4);
  long Z = dim[1], C = dim[2];
  Mixture p = {in<float>(buf, 1), in<float>(buf, 2), in<float>(buf, 3), Z, C};
  double weight = scalar[0] / dim[0];
  double sum = sum_parts(dim[0], NR, C * (4.0 * Z * Z + 40.0), [=](long begin, long end) {
    float* scratch = static_cast<float*>(aae::scratch((2 * Z + C) * NR * sizeof(float)));
    if (!scratch) return 0.0;
    MixtureRows rows = {scratch, scratch + Z * NR, scratch + 2 * Z * NR};
    double total = 0.0;
    for (long r = begin; r < end; r += NR) total += mixture_block(p, rows, z + r * Z, dz + r * Z, min_l(NR, end - r), (float)weight);
    return total;
  });
  *out<float>(buf, 5) = (float)(weight * sum);
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
