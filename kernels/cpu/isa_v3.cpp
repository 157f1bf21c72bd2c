// Kernels for x86-64-v3.
#define AAE_ISA v3
#define AAE_AVX2
#include "isa.inc"
