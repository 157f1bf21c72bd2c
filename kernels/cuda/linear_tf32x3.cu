// Linear layers in float32 on tensor cores, by three products of TF32.
#include "linear.cuh"

// Two blocks of eight warps on a multiprocessor leave 128 registers to a thread, for which the sliced product would spill on sm_100 and sm_120.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int PRODUCTS = 1;
#else
constexpr int PRODUCTS = 2;
#endif

#if HAS_SM80
FORWARD_KERNEL(Tf32x3, Sliced, PRODUCTS, tf32x3_small)
BACKWARD_INPUT_KERNEL(Tf32x3, Small, 2, tf32x3_small)
WEIGHT_KERNELS(Tf32x3, Sliced, 1, 1, tf32x3_small)
WEIGHT_PART_KERNEL(Tf32x3, Sliced, 1, tf32x3_small)
TENSOR_KERNELS(Tf32x3, Medium, 2, 3, tf32x3_medium)
TENSOR_KERNELS(Tf32x3, Large, 1, 1, tf32x3_large)
#endif
