// Linear layers in float32 on tensor cores, by three products of TF32.
#include "linear.cuh"

// Two blocks of the small tile on a multiprocessor let 128 registers to a thread, for which sm_100 and sm_120 would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int PRODUCTS = 1;
#else
constexpr int PRODUCTS = 2;
#endif

#if HAS_SM80
TENSOR_KERNELS(Tf32x3, Small, PRODUCTS, 1, 1, tf32x3_small)
TENSOR_KERNELS(Tf32x3, Medium, 2, 2, 3, tf32x3_medium)
TENSOR_KERNELS(Tf32x3, Large, 1, 1, 1, tf32x3_large)
#endif
