// Linear layers in float32 on tensor cores, by three products of TF32.
#include "linear.cuh"

// A step's updates run beside the chain of its products. Two blocks of an update with 168 registers a thread leave room on a multiprocessor for one
// of a small tile; with more they do not, and the product waits for the whole update. sm_120 would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int UPDATES = 2;
#else
constexpr int UPDATES = 3;
#endif

#if HAS_SM80
TENSOR_KERNELS(Tf32x3, Small, 2, 2, tf32x3_small)
TENSOR_KERNELS(Tf32x3, Medium, 2, UPDATES, tf32x3_medium)
TENSOR_KERNELS(Tf32x3, Large, 1, 1, tf32x3_large)
#endif
