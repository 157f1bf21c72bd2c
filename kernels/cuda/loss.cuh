// The adversarial loss of one row: for loss.cu, and for the layer that makes the logits in skinny.cuh.
#pragma once

#include "device.cuh"

// Rows below `real` have target 1, the others 0; each group counts by its mean, and one without rows not at all: 0, not 0 / 0.
struct AdversarialBce {
  int real;
  double per_real, per_other;
  DEVICE AdversarialBce(int B, int real, double weight)
      : real(real), per_real(real ? weight / real : 0.0), per_other(B - real ? weight / (B - real) : 0.0) {}
  DEVICE double weight(int row) const { return row < real ? per_real : per_other; }
  // Value without its weight, gradient with it.
  DEVICE ValueGrad of(float logit, int row) const {
    ValueGrad r = bce_logit(logit, row < real ? 1.0f : 0.0f);
    r.grad *= (float)weight(row);
    return r;
  }
};
