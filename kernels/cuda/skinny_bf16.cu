#include "skinny.cuh"

#if HAS_SM80
SKINNY_KERNELS(Bf16, bf16)
#endif
