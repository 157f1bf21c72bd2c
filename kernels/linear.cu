// Linear layers in float32 without tensor cores: one chain of multiply-adds for each sum, the same bits as the CPU's where that fuses them.
#include "linear.cuh"

LINEAR_KERNELS(Ffma, Medium, 1, ffma_medium)
