// Kernels for x86-64-v2: 4 floats a vector, no fused multiply-add.
#define AAE_ISA v2
#include "isa.inc"
