// Linear layers in float32 on tensor cores, by three products of TF32.
#include "linear.cuh"

#if HAS_SM80
LINEAR_KERNELS(Tf32x3, Small, 2, tf32x3_small)
LINEAR_KERNELS(Tf32x3, Medium, 2, tf32x3_medium)
LINEAR_KERNELS(Tf32x3, Large, 1, tf32x3_large)
#endif
