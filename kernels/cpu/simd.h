// One vector type per instruction set: `V` holds VL floats. Included once by each isa_*.cpp, inside its own namespace.
//
// + - * / on V are GCC vector arithmetic. `fma` is fused where the instruction set has it; nothing else contracts (the files are compiled
// with -ffp-contract=off), so a formula gives the same bits in a vector body, in its tail and in every tile.
// No standard library here: an inline function of it, compiled for AVX-512, could be the copy that the linker keeps for everybody.
#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static INLINE_MEMBER

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Lanes{__VA_ARGS__})
#endif

#if defined(AAE_AVX512)
constexpr int VL = 16;
constexpr int MR_MAX = 14;  // rows of a register tile: 14 x 2 accumulators + 2 operands + 1 broadcast of 32 registers
typedef float V __attribute__((vector_size(64), may_alias));
typedef int Lanes __attribute__((vector_size(64)));
typedef float Unaligned __attribute__((vector_size(64), aligned(4), may_alias));
INLINE V splat(float x) { return (V)_mm512_set1_ps(x); }
INLINE V fma(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE V root(V a) { return (V)_mm512_maskz_sqrt_ps(0xffff, (__m512)a); }  // _mm512_sqrt_ps: gcc 12 warns of its own header
INLINE __mmask16 first(long n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }
INLINE V load_first(const float* p, long n) { return (V)_mm512_maskz_loadu_ps(first(n), p); }
INLINE void store_first(float* p, V v, long n) { _mm512_mask_storeu_ps(p, first(n), (__m512)v); }
INLINE V interleave_low(V a, V b) { return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
INLINE V interleave_high(V a, V b) { return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
INLINE V interleave_pairs_low(V a, V b) { return SHUFFLE(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23); }
INLINE V interleave_pairs_high(V a, V b) { return SHUFFLE(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31); }
typedef u64 Words __attribute__((vector_size(64), may_alias));
INLINE Words low_products(Words a, Words b) { return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b); }  // as root: gcc 12
#elif defined(AAE_AVX2)
constexpr int VL = 8;
constexpr int MR_MAX = 6;  // 6 x 2 accumulators + 2 operands + broadcasts of 16 registers
typedef float V __attribute__((vector_size(32), may_alias));
typedef int Lanes __attribute__((vector_size(32)));
typedef float Unaligned __attribute__((vector_size(32), aligned(4), may_alias));
INLINE V splat(float x) { return (V)_mm256_set1_ps(x); }
INLINE V fma(V a, V b, V c) { return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE V root(V a) { return (V)_mm256_sqrt_ps((__m256)a); }
INLINE __m256i first(long n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE V load_first(const float* p, long n) { return (V)_mm256_maskload_ps(p, first(n)); }
INLINE void store_first(float* p, V v, long n) { _mm256_maskstore_ps(p, first(n), (__m256)v); }
INLINE V interleave_low(V a, V b) { return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE V interleave_high(V a, V b) { return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
INLINE V interleave_pairs_low(V a, V b) { return SHUFFLE(a, b, 0, 1, 8, 9, 2, 3, 10, 11); }
INLINE V interleave_pairs_high(V a, V b) { return SHUFFLE(a, b, 4, 5, 12, 13, 6, 7, 14, 15); }
typedef u64 Words __attribute__((vector_size(32), may_alias));
INLINE Words low_products(Words a, Words b) { return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#else
constexpr int VL = 4;
typedef float V __attribute__((vector_size(16), may_alias));
typedef int Lanes __attribute__((vector_size(16)));
typedef float Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
INLINE V splat(float x) { return V{x, x, x, x}; }
#if defined(AAE_NEON)
constexpr int MR_MAX = 8;  // 8 x 2 accumulators of 32 registers: with 10 rows gcc and clang spill, for they load broadcasts far ahead
INLINE V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE V root(V a) { return (V)vsqrtq_f32((float32x4_t)a); }
#else
constexpr int MR_MAX = 6;  // 6 x 2 accumulators + 2 operands + broadcasts, if there are 16 registers
INLINE V fma(V a, V b, V c) { return a * b + c; }
INLINE V root(V a) { return V{sqrt_f(a[0]), sqrt_f(a[1]), sqrt_f(a[2]), sqrt_f(a[3])}; }
#endif
INLINE V load_first(const float* p, long n) {
  V v = {0, 0, 0, 0};
  for (long i = 0; i < VL && i < n; ++i) v[i] = p[i];
  return v;
}
INLINE void store_first(float* p, V v, long n) {
  for (long i = 0; i < VL && i < n; ++i) p[i] = v[i];
}
INLINE V interleave_low(V a, V b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
INLINE V interleave_high(V a, V b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
INLINE V interleave_pairs_low(V a, V b) { return SHUFFLE(a, b, 0, 1, 4, 5); }
INLINE V interleave_pairs_high(V a, V b) { return SHUFFLE(a, b, 2, 3, 6, 7); }
typedef u64 Words __attribute__((vector_size(16), may_alias));
#if defined(AAE_NEON)
INLINE Words low_products(Words a, Words b) { return (Words)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b)); }
#elif defined(__SSE2__)
INLINE Words low_products(Words a, Words b) { return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#else
INLINE Words low_products(Words a, Words b) { return Words{(u64)(u32)a[0] * (u32)b[0], (u64)(u32)a[1] * (u32)b[1]}; }
#endif
#endif

// `Words` has VL / 2 words of 64 bits; `low_products` multiplies the lower halves of each.
INLINE Words splat_word(u64 x) { return Words{} + x; }

constexpr int NR = 2 * VL;  // columns of a register tile and of a full weight panel

INLINE V load(const float* p) { return (V) * (const Unaligned*)p; }
INLINE void store(float* p, V v) { *(Unaligned*)p = (Unaligned)v; }
// A vector, or its first n > 0 floats if it may be cut off.
template <bool WHOLE> INLINE V load_some(const float* p, long n) { return WHOLE ? load(p) : load_first(p, n); }
template <bool WHOLE> INLINE void store_some(float* p, V v, long n) { WHOLE ? store(p, v) : store_first(p, v, n); }
INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
INLINE long min_l(long a, long b) { return a < b ? a : b; }
INLINE long max_l(long a, long b) { return a > b ? a : b; }
INLINE long round_up(long n, long to) { return (n + to - 1) / to * to; }

// Splits N elements into fixed chunks and calls f(begin, end) for each, in parallel. The chunks do not depend on the number of threads.
constexpr long CHUNK = 8192;
template <class F> INLINE void for_chunks(long n, double flops_per_element, F&& f) {
  aae::parallel((n + CHUNK - 1) / CHUNK, n * flops_per_element, [&](long c) { f(c * CHUNK, min_l(n, (c + 1) * CHUNK)); });
}

// Calls f(i) for each of n elements, in chunks. f writes only element i of its outputs, which may be the element it read: hence ivdep.
// The copy of f is local, so what it captured cannot alias what it writes and stays in registers.
template <class F> INLINE void for_elements(long n, double flops_per_element, F f) {
  for_chunks(n, flops_per_element, [&](long begin, long end) {
    F local = f;
#pragma GCC ivdep
    for (long i = begin; i < end; ++i) local(i);
  });
}

// Calls f(row) for each of `rows`, in chunks of whole rows that are worth a task.
template <class F> INLINE void for_rows(long rows, double flops_per_row, F f) {
  long step = 1 + (long)(65536.0 / (flops_per_row + 1.0));
  aae::parallel((rows + step - 1) / step, rows * flops_per_row, [&](long c) {
    F local = f;
    for (long r = c * step, end = min_l(rows, r + step); r < end; ++r) local(r);
  });
}

// The arguments of every kernel: its buffers, integers and floating scalars in the order of the op table.
typedef void* const* Buffers;
typedef const int64_t* Dims;
typedef const double* Scalars;
#define KERNEL(name) \
  static void name([[maybe_unused]] Buffers buf, [[maybe_unused]] Dims dim, [[maybe_unused]] Scalars scalar)
template <class T> INLINE const T* in(Buffers buf, int i) { return static_cast<const T*>(buf[i]); }
template <class T> INLINE T* out(Buffers buf, int i) { return static_cast<T*>(buf[i]); }
