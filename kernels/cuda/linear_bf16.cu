// Linear layers with bfloat16 factors, on chips that have the tensor cores for it.
#include "linear.cuh"

#if HAS_SM80
FORWARD_KERNEL(Bf16, Small, 2, bf16_small)
BACKWARD_INPUT_KERNEL(Bf16, Small, 2, bf16_small)
WEIGHT_KERNELS(Bf16, Sliced, 2, 2, bf16_small)
WEIGHT_PART_KERNEL(Bf16, Sliced, 2, bf16_small)
TENSOR_KERNELS(Bf16, Medium, 2, 3, bf16_medium)
TENSOR_KERNELS(Bf16, Large, 2, 2, bf16_large)
#endif
