// Linear layers with bfloat16 factors, on chips that have the tensor cores for it.
#include "linear.cuh"

#if HAS_SM80
LINEAR_KERNELS(Bf16, Small, bf16_small)
LINEAR_KERNELS(Bf16, Medium, bf16_medium)
LINEAR_KERNELS(Bf16, Large, bf16_large)
#endif
