// A matrix product with few rows, c (M, N) = sum over k of a (M, K) b (N, K), for operands stored along k or across it.
//
// A block makes 32 x 32 sums, so that a hundred rows fill a chip. Its warps share the reduction: each takes slices of it in turn. No factor serves two
// warps, so none waits for another before the end, when their sums are added in order. No factor serves two lanes either: a lane copies to shared memory
// what it reads there itself, in quads of 16 bytes, SLICES of the reduction ahead.
//
// Which rows, columns and places of the reduction a lane's part of a fragment is of is free, as long as both operands agree on the last: lane 4 g + t
// has lines 4 g to 4 g + 3 of each operand, and places 4 t to 4 t + 3 of a slice.
#pragma once

#include "math.cuh"
#include "quad.cuh"

struct Sliced {
  static constexpr int BM = 32, BN = 32, WARPS = 8, THREADS = 32 * WARPS;
  static constexpr int BK = 16;               // of the reduction, a slice
  static constexpr int SLICES = 3;            // of a warp, under way
  static constexpr int TURN = WARPS * BK;     // from a slice of a warp to its next one
  static constexpr int QUAD = 4 * THREADS;    // floats from a lane's quad to its next one
  static constexpr int STAGE = 2 * 4 * QUAD;  // floats of a slice of both operands, of all warps
  static constexpr int STRIDE = BN + 4;       // of a row of sums: so that a warp's quads of them meet no bank twice
};

// A lane's factors of a slice: of 4 lines of an operand that lies ALONG the reduction (line, k) or across it (k, line).
template <bool ALONG> struct Factors {
  Quad quads[4];
  DEVICE float at(int line, int k) const { return ALONG ? quads[line].v[k] : quads[k].v[line]; }

  // Begins to copy those of an operand (lines, depth), from `first` and k on; zeros where it has none.
  DEVICE static void fetch(float* shared, const float* operand, int lines, int depth, int first, int k, bool wide) {
    const int line = first + threadIdx.x % 32 / 4 * 4, place = k + threadIdx.x % 4 * 4;
    const int outer = ALONG ? line : place, inner = ALONG ? place : line;
    const int outer_end = ALONG ? lines : depth, inner_end = ALONG ? depth : lines;
    const float* from = operand + (long long)outer * inner_end + inner;
    if (wide) {
      const int left = inner < inner_end ? outer_end - outer : 0;
      UNROLL
      for (int i = 0; i < 4; i++, from += inner_end) copy_async<16>(shared + i * Sliced::QUAD, from, i < left);
    } else {
      NO_UNROLL  // odd sizes are slow anyway: no registers for them
      for (int i = 0; i < 4; i++, from += inner_end)
        UNROLL
        for (int j = 0; j < 4; j++) copy_async<4>(shared + i * Sliced::QUAD + j, from + j, outer + i < outer_end && inner + j < inner_end);
    }
  }
  DEVICE explicit Factors(const float* shared) {
    UNROLL
    for (int i = 0; i < 4; i++) quads[i] = load_quad(shared + i * Sliced::QUAD, 4, true);
  }
};

// A warp's sums: its fragments' rows and columns are those of `Factors`.
template <class Math> struct SlicedSums {
  float acc[2][4][4];
  DEVICE SlicedSums() {
    UNROLL
    for (int i = 0; i < 2; i++)
      UNROLL
      for (int j = 0; j < 4; j++)
        UNROLL
        for (int r = 0; r < 4; r++) acc[i][j][r] = 0.0f;
  }
  template <class A, class B> DEVICE void add(const A& a, const B& b) {
    UNROLL
    for (int k = 0; k < 4; k += Math::K / 4) {
      typename Math::Left left[2];
      UNROLL
      for (int i = 0; i < 2; i++) Math::take(left[i], a, 2 * i, k);
      UNROLL
      for (int j = 0; j < 4; j++) {
        typename Math::Right right;
        Math::take(right, b, j, k);
        Math::multiply(acc, j, left, right);
      }
    }
  }
  // Row 4 g + q of the tile is row 8 q + g in shared memory.
  DEVICE void store(float* tile) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    UNROLL
    for (int q = 0; q < 4; q++)
      UNROLL
      for (int column = 0; column < 2; column++) {
        const float(&row)[4][4] = acc[q / 2];
        const int r = q % 2 * 2 + column;
        store4(tile + (8 * q + g) * Sliced::STRIDE + 4 * (2 * t + column), make_float4(row[0][r], row[1][r], row[2][r], row[3][r]));
      }
  }
};

// The product of the block at (x: columns, block_row: rows) of the tiles; see matrix_product in tile.cuh.
template <class Math, bool A_ALONG, bool B_ALONG, class Epilogue>
DEVICE void sliced_product(const float* a, const float* b, int M, int N, int K, const Epilogue& epilogue, int block_row) {
  using Left = Factors<A_ALONG>;
  using Right = Factors<B_ALONG>;
  DYNAMIC_SHARED(float, shared);
  const int warp = threadIdx.x / 32, m0 = block_row * Sliced::BM, n0 = blockIdx.x * Sliced::BN;
  const bool a_wide = is_wide(a, A_ALONG ? K : M), b_wide = is_wide(b, B_ALONG ? K : N);
  const bool sums_rows = Epilogue::SUMS_ROWS && blockIdx.x == 0;
  auto fetch = [&](float* stage, int k) {
    if (k < K) {
      Left::fetch(stage, a, M, K, m0, k, a_wide);
      Right::fetch(stage + Sliced::STAGE / 2, b, N, K, n0, k, b_wide);
    }
    commit_copies();  // an empty group at the end, so that the count of groups under way stays the same
  };

  float* const first = shared + 4 * threadIdx.x;
  float* stage = first;
  int k = warp * Sliced::BK;
  NO_UNROLL
  for (int s = 0; s < Sliced::SLICES; s++) fetch(first + s * Sliced::STAGE, k + s * Sliced::TURN);
  SlicedSums<Math> sums;
  float row_sums[4] = {};
  NO_UNROLL
  for (; k < K; k += Sliced::TURN) {
    wait_copies<Sliced::SLICES - 1>();
    const Left left(stage);
    const Right right(stage + Sliced::STAGE / 2);
    sums.add(left, right);
    if (sums_rows) {
      UNROLL
      for (int q = 0; q < 4; q++)
        UNROLL
        for (int i = 0; i < 4; i++) row_sums[q] += Math::rounded(left.at(q, i));
    }
    fetch(stage, k + Sliced::SLICES * Sliced::TURN);
    stage = stage == first + (Sliced::SLICES - 1) * Sliced::STAGE ? first : stage + Sliced::STAGE;
  }

  // The quad of sums that this thread ends.
  const int line = threadIdx.x / 8, row = m0 + line % 8 * 4 + line / 8, column = n0 + threadIdx.x % 8 * 4, n = row < M ? min(4, N - column) : 0;
  const auto ready = epilogue.ready();
  decltype(ready.load(row, column, n)) loaded = {};
  if (n > 0) loaded = ready.load(row, column, n);
  __syncthreads();  // all are done with their factors, whose memory the sums take
  float* const own = shared + warp * Sliced::BM * Sliced::STRIDE;
  sums.store(own);
  if (sums_rows) {  // beside the sums: those of rows 4 g to 4 g + 3 behind the last column of line g
    UNROLL
    for (int q = 0; q < 4; q++) {
      row_sums[q] += __shfl_xor_sync(0xffffffffu, row_sums[q], 1);
      row_sums[q] += __shfl_xor_sync(0xffffffffu, row_sums[q], 2);
    }
    float* const to = own + threadIdx.x % 32 / 4 * Sliced::STRIDE + Sliced::BN;
    if (threadIdx.x % 4 == 0) store4(to, make_float4(row_sums[0], row_sums[1], row_sums[2], row_sums[3]));
  }
  __syncthreads();
  const float* const sum_at = shared + line * Sliced::STRIDE;
  if (n > 0) {
    Quad sum = load_quad(sum_at + column - n0, 4, true);
    UNROLL
    for (int w = 1; w < Sliced::WARPS; w++) {
      const Quad more = load_quad(sum_at + w * Sliced::BM * Sliced::STRIDE + column - n0, 4, true);
      UNROLL
      for (int j = 0; j < 4; j++) sum.v[j] += more.v[j];
    }
    ready.store(row, column, n, sum, loaded);
  }
  if (sums_rows && threadIdx.x < Sliced::BM && m0 + (int)threadIdx.x < M) {
    float sum = 0.0f;
    UNROLL
    for (int w = 0; w < Sliced::WARPS; w++) sum += shared[(w * Sliced::BM + threadIdx.x / 4) * Sliced::STRIDE + Sliced::BN + threadIdx.x % 4];
    epilogue.take_row(m0 + threadIdx.x, sum);
  }
}
