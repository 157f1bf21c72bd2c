// Scalar formulas shared by every device: activations and derivatives, stable cross-entropy, Philox, Box-Muller.
//
// No libm and no fused multiply-add: only +, -, *, /, sqrt and integer arithmetic, each correctly rounded everywhere. So the same
// input gives the same bits on every CPU instruction set and on a GPU, as long as the compiler does not contract a*b+c (it is told not to).
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define AAE_FN __device__ __forceinline__
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
#else
#define AAE_FN static inline __attribute__((always_inline))
typedef __UINT32_TYPE__ u32;
typedef __INT32_TYPE__ i32;
typedef __UINT64_TYPE__ u64;
#endif

// Codes shared with aaecore/core/ops.py.
enum Activation { IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH };
enum OptimizerState { STEP, LR, BETA1, BETA2, EPS, GRAD_SCALE, STEP_SIZE, INV_SQRT_BC2 };

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
AAE_FN float bits_to_float(u32 b) { return __uint_as_float(b); }
AAE_FN u32 float_to_bits(float f) { return __float_as_uint(f); }
AAE_FN float sqrt_f(float x) { return __fsqrt_rn(x); }
#else
AAE_FN float bits_to_float(u32 b) { float f; __builtin_memcpy(&f, &b, 4); return f; }
AAE_FN u32 float_to_bits(float f) { u32 b; __builtin_memcpy(&b, &f, 4); return b; }
AAE_FN float sqrt_f(float x) { return __builtin_sqrtf(x); }
#endif

// x = k ln2 + r, |r| <= ln2 / 2, and exp(r): ln2 is split so that k * hi is exact; degree-6 polynomial (Cephes expf).
struct Exp { float value; i32 k; };
AAE_FN Exp exp_reduced(float x) {
  float n = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer in the low bits
  i32 k = (i32)(float_to_bits(n) - 0x4b400000u);
  n = n - 12582912.0f;
  float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  Exp out = {(p * r * r + r) + 1.0f, k};
  return out;
}

// exp(x), relative error about 1.5 ulp; 0 below -87.3 (no denormals), +inf above 88.7, NaN stays NaN.
AAE_FN float exp_f(float x) {
  float c = x < -87.3f ? -87.3f : x;
  Exp e = exp_reduced(c > 88.72284f ? 88.72284f : c);
  // 2^k in two factors: k = 128 would overflow a single exponent field.
  float y = e.value * bits_to_float((u32)((e.k >> 1) + 127) << 23) * bits_to_float((u32)(e.k - (e.k >> 1) + 127) << 23);
  y = x < -87.3f ? 0.0f : y;
  y = x > 88.72284f ? bits_to_float(0x7f800000u) : y;
  return x != x ? x : y;
}

// exp(-|x|), with the same error; NaN stays NaN.
AAE_FN float exp_minus_abs_f(float x) {
  float c = x < 0.0f ? x : -x;
  Exp e = exp_reduced(c < -87.3f ? -87.3f : c);
  float y = e.value * bits_to_float((u32)(e.k + 127) << 23);
  return c < -87.3f ? 0.0f : y;
}

// log(1 + e) for 0 <= e <= 1, about 2 ulp: 2 atanh(s), s = e / (2 + e) <= 1/3, whose odd series a fitted polynomial of s^2 closes.
AAE_FN float log1p_unit_f(float e) {
  float s = e / (2.0f + e);
  float t = s * s;
  float p = 0.14006001f;
  p = p * t + 0.14000902f;
  p = p * t + 0.20010763f;
  p = p * t + 0.33333209f;
  s = s + s;
  return s * t * p + s;
}

// log(x) for normal positive x (what Box-Muller needs), about 1 ulp (Cephes logf).
AAE_FN float log_f(float x) {
  u32 b = float_to_bits(x);
  i32 k = (i32)(b >> 23) - 126;
  float m = bits_to_float((b & 0x007fffffu) | 0x3f000000u);  // [0.5, 1)
  bool low = m < 0.707106781f;
  float e = (float)(low ? k - 1 : k);
  float f = low ? m + m - 1.0f : m - 1.0f;
  float z = f * f;
  float p = 7.0376836292e-2f;
  p = p * f + -1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f + -1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f + -1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f + -2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float y = p * f * z;
  y = y + e * -2.12194440e-4f;
  y = y - 0.5f * z;
  return (f + y) + e * 0.693359375f;
}

// (cos, sin)(2 pi t) for 0 <= t < 1: reduced to a quarter turn around 0, then Cephes polynomials.
struct CosSin { float cos, sin; };
AAE_FN CosSin cos_sin_turn(float t) {
  i32 q = (i32)(t * 4.0f + 0.5f);
  float a = (t - (float)q * 0.25f) * 6.28318531f;  // |a| <= pi / 4
  float z = a * a;
  float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * a + a;
  float c = ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  float u = (q & 1) ? s : c, v = (q & 1) ? c : s;
  CosSin out;
  out.cos = ((q + 1) & 2) ? -u : u;
  out.sin = (q & 2) ? -v : v;
  return out;
}

// 1 / (1 + exp(-x)) through exp(-|x|), which never overflows.
AAE_FN float sigmoid_f(float x) {
  float e = exp_minus_abs_f(x);
  float r = 1.0f / (1.0f + e);
  return x < 0.0f ? e * r : r;
}

// tanh(x) from |x| and the sign bit (so -0 stays -0): a polynomial near 0, where 1 - 2 / (exp(2x) + 1) would cancel.
AAE_FN float tanh_f(float x) {
  u32 sign = float_to_bits(x) & 0x80000000u;
  float a = bits_to_float(float_to_bits(x) ^ sign);
  float z = a * a;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z + -5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z + -3.33332819422e-1f;
  float small = p * z * a + a;
  float large = 1.0f - 2.0f / (exp_f(a + a) + 1.0f);
  return bits_to_float(float_to_bits(a < 0.625f ? small : large) | sign);
}

AAE_FN float activation(float x, int act, float slope) {
  switch (act) {
    case RELU: return x < 0.0f ? 0.0f : x;  // NaN passes through
    case LEAKY_RELU: return x < 0.0f ? slope * x : x;
    case SIGMOID: return sigmoid_f(x);
    case TANH: return tanh_f(x);
    default: return x;
  }
}

// The derivative as a function of the activation's OUTPUT y. At the kink of ReLU it is 0 (ReLU) or slope (leaky), as in PyTorch.
AAE_FN float activation_derivative(float y, int act, float slope) {
  switch (act) {
    case RELU: return y > 0.0f ? 1.0f : 0.0f;
    case LEAKY_RELU: return y > 0.0f ? 1.0f : slope;
    case SIGMOID: return y * (1.0f - y);
    case TANH: return 1.0f - y * y;
    default: return 1.0f;
  }
}

// Bernoulli cross-entropy on a logit, target t in [0, 1]: max(l, 0) - l t + log(1 + exp(-|l|)), and its gradient sigmoid(l) - t.
struct ValueGrad { float value, grad; };
AAE_FN ValueGrad bce_logit(float l, float t) {
  float e = exp_minus_abs_f(l);
  float r = 1.0f / (1.0f + e);
  ValueGrad out;
  out.value = ((l < 0.0f ? 0.0f : l) - l * t) + log1p_unit_f(e);
  out.grad = (l < 0.0f ? e * r : r) - t;
  return out;
}

// 1/2 [precision (v + (m - mean)^2) - 1 - ln v] of one feature of a Gaussian with mean m and variance v, and its derivatives by m and ln v.
struct GaussianKl { float value, dm, dlog_v; };
AAE_FN GaussianKl gaussian_kl_of(float m, float log_v, float mean, float precision) {
  float away = m - mean;
  float v = precision == 0.0f ? 0.0f * log_v : exp_f(log_v);  // an entropy has no v: none that could overflow; NaN stays NaN
  GaussianKl out;
  out.value = 0.5f * (precision * (v + away * away) - 1.0f - log_v);
  out.dm = precision * away;
  out.dlog_v = 0.5f * (precision * v - 1.0f);
  return out;
}

// ln p from the largest of its terms and the sum of the exponentials of all terms less that one, 1 to the number of terms; NaN stays NaN.
AAE_FN float log_sum_exp(float largest, float sum) { return sum == sum ? largest + log_f(sum) : sum; }

// max(0, least - distance) of two points. Minus its gradient by the first one is hinge_pull times their difference, and 0 where they coincide.
AAE_FN float hinge(float distance, float least) { return least - distance < 0.0f ? 0.0f : least - distance; }  // NaN stays
AAE_FN float hinge_pull(float distance, float least) {
  if (distance != distance) return distance;
  return distance < least && distance > 0.0f ? 1.0f / distance : 0.0f;
}

// Philox4x32-10 (Salmon et al. 2011): counter (block, stream, step low, step high), key = seed.
struct Random4 { u32 v[4]; };
AAE_FN Random4 philox(u64 seed, u64 step, u32 stream, u32 block) {
  u32 c0 = block, c1 = stream, c2 = (u32)step, c3 = (u32)(step >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
    u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c1 = (u32)p1; c3 = (u32)p0; c0 = n0; c2 = n2;
    k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
  }
  Random4 out = {{c0, c1, c2, c3}};
  return out;
}

AAE_FN float uniform01(u32 u) { return (float)(u >> 8) * 5.9604644775390625e-8f; }                 // [0, 1), 24 bits
AAE_FN float uniform01_open(u32 u) { return ((float)(u >> 8) + 1.0f) * 5.9604644775390625e-8f; }  // (0, 1]: safe for log

// Two standard normals from two random words (Box-Muller); |n| <= sqrt(2 * 24 * ln 2) = 5.77.
struct Normal2 { float a, b; };
AAE_FN Normal2 box_muller(u32 u, u32 w) {
  float r = sqrt_f(-2.0f * log_f(uniform01_open(u)));
  CosSin t = cos_sin_turn(uniform01(w));
  Normal2 out = {r * t.cos, r * t.sin};
  return out;
}
