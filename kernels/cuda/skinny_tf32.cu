#include "skinny.cuh"

#if HAS_SM80
SKINNY_KERNELS(Tf32, tf32)
#endif
