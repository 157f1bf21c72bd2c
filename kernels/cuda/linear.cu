// Linear layers in float32 without tensor cores: one chain of fused multiply-adds for each sum.
#include "linear.cuh"

FORWARD_KERNEL(Ffma, Medium, 1, ffma_medium)
BACKWARD_INPUT_KERNEL(Ffma, Medium, 1, ffma_medium)
WEIGHT_KERNELS(Ffma, Medium, 1, 1, ffma_medium)
