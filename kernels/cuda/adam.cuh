// Adam for one number: the update of optim.cu, and the epilogue of linear_backward_weight_adam. Fused and separate give the same bits.
#pragma once

#include "quad.cuh"

struct Adam {
  float one_minus_beta1, one_minus_beta2, minus_step_size, inv_sqrt_bc2, eps, grad_scale;
};

DEVICE Adam load_adam(const double* state) {
  // 1 - beta in double: 1 - 0.999f is off by 1.3e-5, which shows in the second moment.
  const Adam adam = {(float)(1.0 - state[BETA1]), (float)(1.0 - state[BETA2]), (float)-state[STEP_SIZE],
                     (float)state[INV_SQRT_BC2],  (float)state[EPS],           (float)state[GRAD_SCALE]};
  return adam;
}

// m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); p -= step_size m / (sqrt(v) inv_sqrt_bc2 + eps)
DEVICE void adam_number(const Adam& c, float g, float& p, float& m, float& v) {
  g *= c.grad_scale;
  m = fmaf(c.one_minus_beta1, g - m, m);
  v = fmaf(c.one_minus_beta2, g * g - v, v);
  p = fmaf(c.minus_step_size, m / fmaf(sqrt_f(v), c.inv_sqrt_bc2, c.eps), p);
}

// The first n of four neighbours in memory, and their update.
struct AdamQuad {
  Quad p, m, v;
};
DEVICE AdamQuad load_adam_quad(const float* p, const float* m, const float* v, int n, bool wide) {
  const AdamQuad old = {load_quad(p, n, wide), load_quad(m, n, wide), load_quad(v, n, wide)};
  return old;
}
DEVICE void adam_quad(const Adam& c, const Quad& g, AdamQuad old, float* p, float* m, float* v, int n, bool wide) {
  UNROLL
  for (int j = 0; j < 4; j++) adam_number(c, g.v[j], old.p.v[j], old.m.v[j], old.v.v[j]);
  store_quad(m, old.m, n, wide), store_quad(v, old.v, n, wide), store_quad(p, old.p, n, wide);
}
