// Linear layers with TF32: factors of 11 significant bits, on chips that have the tensor cores for it.
#include "linear.cuh"

#if HAS_SM80
FORWARD_KERNEL(Tf32, Sliced, 2, tf32_small)
BACKWARD_INPUT_KERNEL(Tf32, Small, 2, tf32_small)
WEIGHT_KERNELS(Tf32, Sliced, 2, 2, tf32_small)
WEIGHT_PART_KERNEL(Tf32, Sliced, 2, tf32_small)
TENSOR_KERNELS(Tf32, Medium, 2, 3, tf32_medium)
TENSOR_KERNELS(Tf32, Large, 2, 2, tf32_large)
#endif
