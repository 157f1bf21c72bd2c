// Kernels for x86-64-v4 with AVX512_BF16.
#define AAE_ISA v4bf16
#define AAE_AVX512
#define AAE_AVX512BF16
#include "isa.inc"
