// Kernels for arm64, where NEON with fused multiply-add is always there.
#define AAE_ISA neon
#define AAE_NEON
#include "isa.inc"
