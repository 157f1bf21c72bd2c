// Kernels for any CPU: 4 floats a vector, no fused multiply-add.
#define AAE_ISA generic
#include "isa.inc"
