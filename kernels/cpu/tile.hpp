// Register tiles: the inner loop of the linear layers, its operands in either precision, and how panels are packed.
//
// A lane is 32 bits: a float, or two bfloat16 that follow each other along the reduction. Tiles multiply and add lanes; what a lane holds
// is the precision's business, so all loops and layouts are written once.

constexpr long LINE = 16;  // floats in a cache line

INLINE long panel_width(long outputs, long n0) { return outputs - n0 > VL ? NR : VL; }

// Into how many parts, at most `most`, the work on each of `panels` is cut so that every thread finds a few tasks that are worth the
// packing: what is packed for a panel is packed again for each part. Elements are computed alike in any part.
INLINE long parts_per_panel(long panels, long most, double flops) {
  constexpr double WORTH = 4e5;
  int threads = aae::threads_for(flops);
  long wanted = (3 * threads + panels - 1) / panels, worth = (long)(flops / (panels * WORTH));
  return threads == 1 ? 1 : max_l(1, min_l(min_l(most, wanted), worth));
}

// Calls f(block, panel) for all of them, in parallel. The share of a thread is all blocks of neighbouring panels, a block at a time: a
// panel's weights stay in the cache of the core that updates them, and the rows of a block in it while panels stream past.
template <class F> INLINE void for_blocks_and_panels(long blocks, long panels, double flops, F&& f) {
  long groups = min_l(panels, aae::threads_for(flops));
  aae::parallel(blocks * panels, flops, [&](long task) {
    long group = ((task / blocks + 1) * groups - 1) / panels, first = panels * group / groups;
    long count = panels * (group + 1) / groups - first, place = task - blocks * first;
    f(place / count, first + place % count);
  });
}

// Splits `rows` into tiles whose heights differ by at most one, and calls f(first row, height).
template <class F> INLINE void for_tiles(long rows, F&& f) {
  long tiles = (rows + MR_MAX - 1) / MR_MAX;
  for (long t = 0; t < tiles; ++t) f(rows * t / tiles, rows * (t + 1) / tiles - rows * t / tiles);
}

// ------------------------------------------------------------------------------------------------------- precisions

struct Float32 {
  static constexpr int PER_LANE = 1;
  static INLINE_MEMBER V madd(V a, V b, V sum) { return fma(a, b, sum); }
  static INLINE_MEMBER V rounded(V v) { return v; }
  static INLINE_MEMBER V pair(V even, V) { return even; }
  static INLINE_MEMBER V neighbours(const float* p, long) { return load(p); }

  // A matrix [rows][columns] as lanes along its columns, or along its rows: as it lies.
  static INLINE_MEMBER const float* lanes_along_columns(const float* x, long, long) { return x; }
  static INLINE_MEMBER const float* lanes_along_rows(const float* x, long, long) { return x; }
};

struct Bfloat16 {
  static constexpr int PER_LANE = 2;
  static INLINE_MEMBER V madd(V a, V b, V sum) { return dot_bf16(a, b, sum); }
  static INLINE_MEMBER V rounded(V v) { return round_bf16(v); }
  static INLINE_MEMBER V pair(V even, V odd) { return pair_bf16(even, odd); }
  static INLINE_MEMBER V neighbours(const float* p, long n) {  // of n floats at p: (p[0], p[1]), (p[2], p[3]), ...
    if (n >= 2 * VL) return neighbours_bf16(p);
    float filled[2 * VL] = {};
    for (long i = 0; i < n; ++i) filled[i] = p[i];
    return neighbours_bf16(filled);
  }

  // Rounded copies in scratch that all tasks read, odd sizes filled up with zeros; null when there is no memory.
  static INLINE_MEMBER const float* lanes_along_columns(const float* x, long rows, long columns) {
    long lanes = (columns + 1) / 2;
    float* out = static_cast<float*>(aae::scratch(rows * lanes * sizeof(float), aae::SHARED));
    if (!out) return nullptr;
    for_rows(rows, 4.0 * columns, [=](long r) {
      for (long i = 0; i < lanes; i += VL)
        store_first(out + r * lanes + i, neighbours(x + r * columns + 2 * i, columns - 2 * i), lanes - i);
    });
    return out;
  }
  static INLINE_MEMBER const float* lanes_along_rows(const float* x, long rows, long columns) {
    float* out = static_cast<float*>(aae::scratch((rows + 1) / 2 * columns * sizeof(float), aae::SHARED));
    if (!out) return nullptr;
    for_rows((rows + 1) / 2, 8.0 * columns, [=](long r) {
      const float *even = x + 2 * r * columns, *odd = even + columns;
      bool last = 2 * r + 1 == rows;
      for (long c = 0; c < columns; c += VL) {
        V below = last ? splat(0.0f) : load_first(odd + c, columns - c);
        store_first(out + r * columns + c, pair(load_first(even + c, columns - c), below), columns - c);
      }
    });
    return out;
  }
};

template <class P> INLINE long lanes(long depth) { return (depth + P::PER_LANE - 1) / P::PER_LANE; }

// ------------------------------------------------------------------------------------------------------------- tiles

// Memory that a tile asks for while it computes, because it is needed soon: LINES cache lines from `at` during each BLOCK steps of the
// depth, the next ones `stride` floats on. As many tiles as TILES ask for a whole panel of floats.
constexpr long BLOCK = 32, LINES = 8, TILES = BLOCK * NR / LINE / LINES;
struct Ahead {
  const float* at;
  long stride;
};

// acc[i][j] += x(i) * panel[j] for one step of the depth: the multiply-adds of every tile.
template <class P, int MR, int NV, class X> INLINE void tile_step(const float* panel, V (&acc)[MR][NV], X&& x) {
  V b[NV];
#pragma GCC unroll 2
  for (int j = 0; j < NV; ++j) b[j] = load(panel + j * VL);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    V a = splat(x(i));
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = P::madd(a, b[j], acc[i][j]);
  }
}

// acc[i][j] = sum over k of a[i * stride + k] * panel[k][j]. Rows are addressed from every third one, which the address modes of x86
// reach with one index register.
template <class P, int MR, int NV>
INLINE void dot_tile(const float* a, long stride, const float* panel, long depth, Ahead ahead, V (&acc)[MR][NV]) {
  const float* row[(MR + 2) / 3];
  for (int i = 0; i < (MR + 2) / 3; ++i) row[i] = a + 3 * i * stride;
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) acc[i][j] = splat(0.0f);
  auto step = [&](long k) __attribute__((always_inline)) {
    tile_step<P>(panel, acc, [&](int i) __attribute__((always_inline)) { return row[i / 3][(i % 3) * stride + k]; });
    panel += NV * VL;
  };
  long k = 0;
  for (; k + BLOCK <= depth; ahead.at += ahead.stride)
    for (long line = 0; line < LINES; ++line) {
      prefetch(ahead.at + LINE * line);
#pragma GCC unroll 4
      for (int i = 0; i < BLOCK / LINES; ++i) step(k++);
    }
  for (; k < depth; ++k) step(k);
}

// ----------------------------------------------------------------------------------------------------------- packing

// d[q][k] for q < VL: the transpose of the VL vectors that row(0) ... row(VL - 1) give.
#if defined(AAE_AVX512)
// 4 x 4 blocks are put into place by the loads, so two rounds of shuffles are left.
INLINE void transpose(const float* s, long s_stride, float* d, long d_stride) {
  auto blocks = [&](int i) __attribute__((always_inline)) {  // columns of a block: rows i, i + 4, i + 8, i + 12
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(s + i * s_stride));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(s + (i + 4) * s_stride));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(s + (i + 8) * s_stride));
    return _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(s + (i + 12) * s_stride));
  };
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c, s += 4, d += 4 * d_stride) {
    __m512 r0 = blocks(0), r1 = blocks(1), r2 = blocks(2), r3 = blocks(3);
    __m512d low01 = (__m512d)_mm512_unpacklo_ps(r0, r1), high01 = (__m512d)_mm512_unpackhi_ps(r0, r1);
    __m512d low23 = (__m512d)_mm512_unpacklo_ps(r2, r3), high23 = (__m512d)_mm512_unpackhi_ps(r2, r3);
    store(d, (V)_mm512_unpacklo_pd(low01, low23));
    store(d + d_stride, (V)_mm512_unpackhi_pd(low01, low23));
    store(d + 2 * d_stride, (V)_mm512_unpacklo_pd(high01, high23));
    store(d + 3 * d_stride, (V)_mm512_unpackhi_pd(high01, high23));
  }
}
#else
// log2(VL) rounds of a perfect shuffle.
INLINE void transpose(const float* s, long s_stride, float* d, long d_stride) {
  V r[VL], t[VL];
#pragma GCC unroll 8
  for (int i = 0; i < VL; ++i) r[i] = load(s + i * s_stride);
#pragma GCC unroll 4
  for (int round = 1; round < VL; round *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < VL / 2; ++i) {
      t[2 * i] = interleave_low(r[i], r[i + VL / 2]);
      t[2 * i + 1] = interleave_high(r[i], r[i + VL / 2]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < VL; ++i) r[i] = t[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < VL; ++i) store(d + i * d_stride, r[i]);
}
#endif

// panel[n][0 .. width) = W[n][k0 .. k0 + width), n in lanes: the outputs of a packed weight as the depth of a panel. Zeros beyond
// the inputs.
template <class P> INLINE void pack_transposed(const float* weight, long inputs, long outputs, long k0, long width, float* panel) {
  constexpr long DEEP = VL * P::PER_LANE;  // outputs in a vector of lanes
  float block[VL * VL];
  for (long n0 = 0; n0 < outputs; n0 += NR) {
    long w = panel_width(outputs, n0);
    for (long q = 0; q < w; q += DEEP)
      for (long k = 0; k < width; k += VL) {
        const float* source = weight + n0 * inputs + (k0 + k) * w + q;
        float* target = panel + lanes<P>(n0 + q) * width + k;
        long rows = min_l(VL, inputs - k0 - k);
        if (P::PER_LANE == 1 && rows == VL) {
          transpose(source, w, target, width);
          continue;
        }
        for (long i = 0; i < VL; ++i)
          store(block + i * VL, i < rows ? P::neighbours(source + i * w, w - q) : splat(0.0f));
        transpose(block, VL, target, width);
      }
  }
}

// Sums over the batch of n <= VL columns of dy, in four interleaved chains.
template <class P> INLINE V column_sum(const float* dy, long batch, long outputs, long n) {
  V s[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  long r = 0;
  for (; r + 4 <= batch; r += 4)
    for (int c = 0; c < 4; ++c) s[c] = s[c] + P::rounded(load_first(dy + (r + c) * outputs, n));
  for (int c = 0; r + c < batch; ++c) s[c] = s[c] + P::rounded(load_first(dy + (r + c) * outputs, n));
  return (s[0] + s[1]) + (s[2] + s[3]);
}
