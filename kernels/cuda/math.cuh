// The arithmetic of a tile of a matrix product, one class each. A class has
//   PAD_ALONG, PAD_ACROSS  floats between the lines of a panel, so that a warp's reads meet every bank once
//   rounded(x)             what it makes of a factor
//   Sums<T>                a thread's share of the sums: add<A, B>(a, b) takes a chunk, store(tile) writes them to shared memory
#pragma once

#include "device.cuh"

// ------------------------------------------------------------------------------------------------------------- float32

// One chain of fused multiply-adds per sum, ascending in k. A thread has 4 rows and 4 columns, 16 apart.
struct Ffma {
  static constexpr int PAD_ALONG = 4, PAD_ACROSS = 4;
  DEVICE static float rounded(float x) { return x; }

  template <class P> DEVICE static void load(float (&to)[4], const float* panel, int row, int k) {  // k to k + 3
    if (P::at(0, 1) == 1) {
      const float4 f = load4(panel + P::at(row, k));
      to[0] = f.x, to[1] = f.y, to[2] = f.z, to[3] = f.w;
    } else {
      UNROLL
      for (int j = 0; j < 4; j++) to[j] = panel[P::at(row, k + j)];
    }
  }

  template <class T> struct Sums {
    static_assert(T::BM == 64 && T::BN == 64 && T::THREADS == 256, "4 x 4 sums of each of 16 x 16 threads");
    float acc[4][4];
    DEVICE Sums() {
      UNROLL
      for (int i = 0; i < 4; i++)
        UNROLL
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    }
    template <class A, class B> DEVICE void add(const float* a, const float* b) {
      const int row = threadIdx.x / 16, column = threadIdx.x % 16;
      UNROLL
      for (int k = 0; k < T::BK; k += 4) {
        float right[4][4];
        UNROLL
        for (int j = 0; j < 4; j++) load<B>(right[j], b, column + 16 * j, k);
        UNROLL
        for (int i = 0; i < 4; i++) {
          float left[4];
          load<A>(left, a, row + 16 * i, k);
          UNROLL
          for (int n = 0; n < 4; n++)
            UNROLL
            for (int j = 0; j < 4; j++) acc[i][j] = fmaf(left[n], right[j][n], acc[i][j]);
        }
      }
    }
    DEVICE void store(float* tile) const {
      UNROLL
      for (int i = 0; i < 4; i++)
        UNROLL
        for (int j = 0; j < 4; j++) tile[(threadIdx.x / 16 + 16 * i) * T::STRIDE + threadIdx.x % 16 + 16 * j] = acc[i][j];
    }
  };
};

// -------------------------------------------------------------------------------------------------------- tensor cores

#if HAS_SM80
// Sums of m16n8 fragments: lane 4 g + t has rows g and g + 8, columns 2 t and 2 t + 1 of each.
template <class Math, class T> struct MmaSums {
  static constexpr int MT = T::ROWS / 16, NT = T::COLUMNS / 8;
  float acc[MT][NT][4];
  DEVICE MmaSums() {
    UNROLL
    for (int i = 0; i < MT; i++)
      UNROLL
      for (int j = 0; j < NT; j++)
        UNROLL
        for (int r = 0; r < 4; r++) acc[i][j][r] = 0.0f;
  }
  DEVICE static int warp() { return threadIdx.x / 32; }
  DEVICE static int first_row() { return warp() / T::WN % T::WM * T::ROWS; }
  DEVICE static int first_column() { return warp() % T::WN * T::COLUMNS; }
  DEVICE static int slice() { return warp() / (T::WM * T::WN); }  // of each chunk of the reduction
  template <class A, class B> DEVICE void add(const float* a, const float* b) {
    const int g = threadIdx.x % 32 / 4, first = slice() * T::SLICE + threadIdx.x % 4 * Math::LANE;
    a += A::at(first_row() + g, first);  // all else is known to the compiler, and part of the instructions
    b += B::at(first_column() + g, first);
    UNROLL
    for (int k = 0; k < T::SLICE; k += Math::K) {
      typename Math::Left left[MT];
      UNROLL
      for (int i = 0; i < MT; i++) Math::template load<A>(left[i], a, i * 16, k);
      UNROLL
      for (int j = 0; j < NT; j++) {
        typename Math::Right right;
        Math::template load<B>(right, b, j * 8, k);
        Math::multiply(acc, j, left, right);
      }
    }
  }
  DEVICE void store(float* tile) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL
    for (int i = 0; i < MT; i++)
      UNROLL
      for (int j = 0; j < NT; j++)
        UNROLL
        for (int half = 0; half < 2; half++) {
          const int row = slice() * T::BM + first_row() + i * 16 + g + half * 8;
          store2(tile + row * T::STRIDE + first_column() + j * 8 + 2 * t, make_float2(acc[i][j][2 * half], acc[i][j][2 * half + 1]));
        }
  }
};

// Factors of 11 significant bits, products summed by the tensor core.
struct Tf32 {
  static constexpr int K = 8, LANE = 1, PAD_ALONG = 4, PAD_ACROSS = 8;
  struct Left { u32 v[4]; };
  struct Right { u32 v[2]; };
  template <class T> using Sums = MmaSums<Tf32, T>;
  DEVICE static float rounded(float x) { return bits_to_float(round_tf32(x)); }
  template <class P> DEVICE static void load(Left& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) to.v[i] = round_tf32(panel[P::at(row + i % 2 * 8, k + i / 2 * 4)]);
  }
  template <class P> DEVICE static void load(Right& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) to.v[i] = round_tf32(panel[P::at(row, k + i * 4)]);
  }
  template <class F> DEVICE static void take(Left& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) to.v[i] = round_tf32(factors.at(line + i % 2, k + i / 2));
  }
  template <class F> DEVICE static void take(Right& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) to.v[i] = round_tf32(factors.at(line, k + i));
  }
  template <int MT, int NT> DEVICE static void multiply(float (&acc)[MT][NT][4], int j, const Left (&a)[MT], const Right& b) {
    UNROLL
    for (int i = 0; i < MT; i++) mma_tf32(acc[i][j], a[i].v, b.v);
  }
};

// float32 on tensor cores: x = high + low, each of 11 bits, and the product of the lows left out (2^-22 of the product). Every three products
// start from zero and are added as float32: a tensor core may round its sums toward zero, which over a long reduction would show.
// An infinite factor gives NaN, where float32 gives infinity.
struct Tf32x3 {
  static constexpr int K = 8, LANE = 1, PAD_ALONG = 4, PAD_ACROSS = 8;
  struct Left { u32 high[4], low[4]; };
  struct Right { u32 high[2], low[2]; };
  template <class T> using Sums = MmaSums<Tf32x3, T>;
  DEVICE static float rounded(float x) { return x; }
  // By integer operations, which are faster than the conversion. A NaN may lose itself in `high`, but then `low` is one.
  DEVICE static void split(float x, u32& high, u32& low) {
    high = (float_to_bits(x) + 0x1000u) & 0xffffe000u;
    low = float_to_bits(x - bits_to_float(high)) & 0xffffe000u;
  }
  template <class P> DEVICE static void load(Left& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) split(panel[P::at(row + i % 2 * 8, k + i / 2 * 4)], to.high[i], to.low[i]);
  }
  template <class P> DEVICE static void load(Right& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) split(panel[P::at(row, k + i * 4)], to.high[i], to.low[i]);
  }
  template <class F> DEVICE static void take(Left& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) split(factors.at(line + i % 2, k + i / 2), to.high[i], to.low[i]);
  }
  template <class F> DEVICE static void take(Right& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) split(factors.at(line, k + i), to.high[i], to.low[i]);
  }
  // Product by product, so that no tensor-core instruction has to wait for the one just before it.
  template <int MT, int NT> DEVICE static void multiply(float (&acc)[MT][NT][4], int j, const Left (&a)[MT], const Right& b) {
    float part[MT][4];
    UNROLL
    for (int i = 0; i < MT; i++)
      UNROLL
      for (int r = 0; r < 4; r++) part[i][r] = 0.0f;
    UNROLL
    for (int i = 0; i < MT; i++) mma_tf32(part[i], a[i].low, b.high);
    UNROLL
    for (int i = 0; i < MT; i++) mma_tf32(part[i], a[i].high, b.low);
    UNROLL
    for (int i = 0; i < MT; i++) mma_tf32(part[i], a[i].high, b.high);
    UNROLL
    for (int i = 0; i < MT; i++)
      UNROLL
      for (int r = 0; r < 4; r++) acc[i][j][r] += part[i][r];
  }
};

// Factors rounded to bfloat16.
struct Bf16 {
  static constexpr int K = 16, LANE = 2, PAD_ALONG = 8, PAD_ACROSS = 4;
  struct Left { u32 v[4]; };
  struct Right { u32 v[2]; };
  template <class T> using Sums = MmaSums<Bf16, T>;
  DEVICE static float rounded(float x) { return bits_to_float(pack_bf16(x, 0.0f) << 16); }
  template <class P> DEVICE static u32 pair(const float* panel, int row, int k) {
    if (P::at(0, 1) != 1) return pack_bf16(panel[P::at(row, k)], panel[P::at(row, k + 1)]);
    const float2 both = load2(panel + P::at(row, k));
    return pack_bf16(both.x, both.y);
  }
  template <class P> DEVICE static void load(Left& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) to.v[i] = pair<P>(panel, row + i % 2 * 8, k + i / 2 * 8);
  }
  template <class P> DEVICE static void load(Right& to, const float* panel, int row, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) to.v[i] = pair<P>(panel, row, k + i * 8);
  }
  template <class F> DEVICE static u32 pair(const F& factors, int line, int k) { return pack_bf16(factors.at(line, k), factors.at(line, k + 1)); }
  template <class F> DEVICE static void take(Left& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 4; i++) to.v[i] = pair(factors, line + i % 2, k + i / 2 * 2);
  }
  template <class F> DEVICE static void take(Right& to, const F& factors, int line, int k) {
    UNROLL
    for (int i = 0; i < 2; i++) to.v[i] = pair(factors, line, k + i * 2);
  }
  template <int MT, int NT> DEVICE static void multiply(float (&acc)[MT][NT][4], int j, const Left (&a)[MT], const Right& b) {
    UNROLL
    for (int i = 0; i < MT; i++) mma_bf16(acc[i][j], a[i].v, b.v);
  }
};
#endif
