// The machine's own limit, as a yardstick beside which kernels are timed. Not an op: nothing is computed that anybody wants.

// Runs `rounds` rounds of independent chains of fused multiply-adds in registers and returns the floating-point operations done.
// A multiply-add takes 4 cycles and up to 2 start in each, so 8 chains would do; more leave room for other machines.
static double probe_fma(int64_t rounds, float* result) {
#if defined(AAE_AVX512)
  constexpr int CHAINS = 24;  // of 32 registers
#else
  constexpr int CHAINS = 12;  // of 16
#endif
  const V factor = splat(0.75f), term = splat(0.25f);  // the chains go to 1: no denormals, no infinities
  V chain[CHAINS];
  for (int c = 0; c < CHAINS; ++c) chain[c] = splat(2.0f + c);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int c = 0; c < CHAINS; ++c) chain[c] = fma(chain[c], factor, term);
  }
  V sum = chain[0];
  for (int c = 1; c < CHAINS; ++c) sum += chain[c];
  store_first(result, sum, 1);  // so that the compiler keeps the chains
  return 2.0 * VL * CHAINS * (double)rounds;
}
