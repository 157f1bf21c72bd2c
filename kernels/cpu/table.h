// The kernels of one instruction set, by the names of the op table (aaecore/core/ops.py).
#pragma once
#include <stdint.h>

namespace aae {

typedef void (*Kernel)(void* const* buffers, const int64_t* dims, const double* scalars);

typedef double (*Probe)(int64_t rounds, float* result);  // see probe.hpp

struct NamedKernel {
  const char* name;
  Kernel run;
};

struct KernelTable {
  const char* isa;
  const NamedKernel* kernels;
  int count;
  int lanes;  // floats per vector: half the width of a weight panel
  Probe probe;
};

// A build has those of its processor.
extern const KernelTable table_v2, table_v3, table_v4, table_v4bf16, table_neon, table_generic;

const KernelTable* supported_table(int index);  // the index-th best that this CPU runs, or null
const char* missing_feature();  // what this CPU lacks to run any table of this build, or null

#define AAE_KERNELS(X)                                                                                               \
  X(linear_forward) X(linear_backward_input) X(linear_backward_weight) X(linear_backward_weight_adam)                \
  X(linear_forward_bf16) X(linear_backward_input_bf16) X(linear_backward_weight_bf16) X(linear_backward_weight_adam_bf16) \
  X(activation_backward) X(half_squared_error) X(bce_logits) X(adversarial_bce)                                      \
  X(gaussian_kl) X(mixture_nll) X(gaussian_sample) X(gaussian_sample_backward)                                       \
  X(softmax) X(softmax_backward) X(softmax_cross_entropy) X(head_hinge)                                              \
  X(add_product) X(add_product_backward) X(add_product_backward_heads)                                               \
  X(mmd) X(parzen)                                                                                                   \
  X(add_bias) X(bias_product) X(inner_product)                                                                       \
  X(batch_norm_forward) X(batch_norm_apply) X(batch_norm_backward)                                                   \
  X(copy_columns) X(copy) X(fill) X(scale) X(scale_by) X(to_real) X(standardise)                                  \
  X(gather_rows_u8) X(gather_rows) X(cursor_advance) X(log_value) X(take_rate)                                       \
  X(adam_advance) X(adam_step) X(sgd_advance) X(sgd_step) X(sum_squares) X(clip_scale)                               \
  X(random_uniform) X(random_normal) X(random_mixture) X(random_swiss_roll) X(random_hypersphere)                    \
  X(random_categorical) X(rng_advance)                                                                               \
  X(random_mixture_of) X(random_swiss_roll_of) X(add_noise) X(dropout) X(translate) X(random_bernoulli) X(average) X(add_direction)

}  // namespace aae
