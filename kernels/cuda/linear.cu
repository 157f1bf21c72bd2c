// Linear layers in float32 without tensor cores: one chain of fused multiply-adds for each sum.
#include "linear.cuh"

LINEAR_KERNELS(Ffma, Medium, 1, 1, 1, ffma_medium)
