#include "skinny.cuh"

SKINNY_KERNELS(Ffma, ffma)
