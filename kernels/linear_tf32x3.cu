// Linear layers in float32 on tensor cores, by three products of TF32.
#include "linear.cuh"

#if HAS_SM80
TENSOR_KERNELS(Tf32x3, Small, 2, 2, 2, tf32x3_small)
TENSOR_KERNELS(Tf32x3, Medium, 2, 2, 3, tf32x3_medium)
TENSOR_KERNELS(Tf32x3, Large, 1, 1, 1, tf32x3_large)
#endif
