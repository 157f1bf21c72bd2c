// Kernels for a processor without a file of its own: what the compiler makes of its vector extensions, no fused multiply-add.
#define AAE_ISA generic
#include "isa.inc"
