// bfloat16 (the upper half of a float): two to a lane, the first in the lower half. Rounding is to nearest, ties to even; NaN stays NaN.
// Where the CPU has no instructions for it, integer arithmetic gives the same lanes. dot_bf16 adds the two products one after the
// other, the upper first, as VDPBF16PS does; that one flushes denormals, and its products are exact.
typedef uint32_t Bits __attribute__((vector_size(sizeof(V))));

#if defined(AAE_AVX512BF16)
INLINE V round_bf16(V v) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)), 16); }
INLINE V pair_bf16(V even, V odd) {
  const Bits even_then_odd = Bits{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * 0x00010001u + 0x00100000u;
  return (V)_mm512_permutexvar_epi16((__m512i)even_then_odd, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
}
INLINE V neighbours_bf16(const float* p) { return (V)_mm512_cvtne2ps_pbh((__m512)load(p + VL), (__m512)load(p)); }
INLINE V dot_bf16(V a, V b, V sum) { return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }
#else
INLINE Bits bf16_bits(V v) {  // in the lower half of each lane
  Bits u = (Bits)v, nan = (Bits)(v != v);
  Bits rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (nan & ((u >> 16) | 0x40u)) | (~nan & rounded);
}

INLINE V round_bf16(V v) { return (V)(bf16_bits(v) << 16); }

INLINE V pair_bf16(V even, V odd) { return (V)(bf16_bits(even) | (bf16_bits(odd) << 16)); }

INLINE V neighbours_bf16(const float* p) {
  float even[VL], odd[VL];
  for (int i = 0; i < VL; ++i) even[i] = p[2 * i], odd[i] = p[2 * i + 1];
  return pair_bf16(load(even), load(odd));
}
INLINE V dot_bf16(V a, V b, V sum) {
  const Bits upper = (Bits)splat(0.0f) | 0xffff0000u;
  sum = fma((V)((Bits)a & upper), (V)((Bits)b & upper), sum);
  return fma((V)((Bits)a << 16), (V)((Bits)b << 16), sum);
}
#endif
