// Kernels for x86-64-v4.
#define AAE_ISA v4
#define AAE_AVX512
#include "isa.inc"
