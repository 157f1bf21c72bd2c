// A matrix product by tiles: c (M, N) = sum over k of a (M, K) b (N, K), for operands stored along k or across it.
//
// A block makes a tile of BM x BN sums. Chunks of BK of the reduction go through shared memory, STAGES of them under way at a time; the warps stand
// in a grid of WM x WN over the tile, and WK of them share each chunk. Finished sums go through shared memory once more, so that the epilogue meets
// whole rows, four neighbours at a time. Every sum is a fixed sequence of operations: the bits depend on the shape and the tile only.
#pragma once

#include "math.cuh"
#include "quad.cuh"

template <int BM_, int BN_, int BK_, int WM_, int WN_, int WK_, int STAGES_> struct Tile {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, WM = WM_, WN = WN_, WK = WK_, STAGES = STAGES_;
  static constexpr int THREADS = 32 * WM * WN * WK, ROWS = BM / WM, COLUMNS = BN / WN, SLICE = BK / WK;  // of a warp
  static constexpr int STRIDE = BN + 8;  // of a row of sums: 8 floats on, so that a warp's pairs of them meet no bank twice
};
using Small = Tile<32, 32, 64, 1, 1, 4, 3>;  // fills a chip with few rows: the warps share the reduction
using Medium = Tile<64, 64, 32, 4, 2, 1, 3>;
using Large = Tile<128, 128, 16, 2, 4, 1, 4>;

// ROWS x DEPTH of an operand in shared memory, stored as in global memory: ALONG the reduction (row, k) or across it (k, row).
template <bool ALONG, int ROWS, int DEPTH, int THREADS, int PAD> struct Panel {
  static constexpr int INNER = ALONG ? DEPTH : ROWS, OUTER = ALONG ? ROWS : DEPTH;
  static constexpr int STRIDE = INNER + PAD, SIZE = OUTER * STRIDE, QUADS = INNER / 4;
  static constexpr int LINES = THREADS / QUADS;  // that the threads copy at a time
  // Of eight quads that are copied together, two halves of 16 floats lie so many lines apart that they share no bank.
  static constexpr int APART = QUADS >= 8 ? 1 : 2 * STRIDE % 32 == 16 ? 2 : 4;
  static_assert(QUADS >= 8 || (QUADS == 4 && APART * STRIDE % 32 == 16 && LINES % (2 * APART) == 0), "no two of them share a bank");
  static_assert(THREADS % QUADS == 0 && OUTER % LINES == 0 && STRIDE % 4 == 0, "every thread copies as many quads of 16 bytes");

  DEVICE static int at(int row, int k) { return ALONG ? row * STRIDE + k : k * STRIDE + row; }

  // Begins to copy rows from `row` on and k from `k` on out of an operand (rows, depth); zeros where it has none.
  DEVICE static void fetch(float* shared, const float* operand, int rows, int depth, int row, int k, bool wide) {
    const int outer_end = ALONG ? rows : depth, inner_end = ALONG ? depth : rows;
    const int turn = threadIdx.x / QUADS, among = turn % (2 * APART), column = threadIdx.x % QUADS * 4;
    const int line = turn - among + among % 2 * APART + among / 2;
    const int outer = (ALONG ? row : k) + line, inner = (ALONG ? k : row) + column;
    const float* from = operand + (long long)outer * inner_end + inner;
    float* to = shared + line * STRIDE + column;
    const long long step = (long long)LINES * inner_end;
    if (wide) {
      const int left = inner < inner_end ? outer_end - outer : 0;
      UNROLL
      for (int i = 0; i < OUTER / LINES; i++, from += step) copy_async<16>(to + i * LINES * STRIDE, from, i * LINES < left);
    } else {
      NO_UNROLL  // odd sizes are slow anyway: no registers for them
      for (int i = 0; i < OUTER / LINES; i++, from += step)
        UNROLL
        for (int j = 0; j < 4; j++)
          copy_async<4>(to + i * LINES * STRIDE + j, from + j, outer + i * LINES < outer_end && inner + j < inner_end);
    }
  }
};

// The panels of a chunk, and how much shared memory a product takes.
template <class T, class Math, bool A_ALONG, bool B_ALONG> struct Panels {
  using A = Panel<A_ALONG, T::BM, T::BK, T::THREADS, A_ALONG ? Math::PAD_ALONG : Math::PAD_ACROSS>;
  using B = Panel<B_ALONG, T::BN, T::BK, T::THREADS, B_ALONG ? Math::PAD_ALONG : Math::PAD_ACROSS>;
  static constexpr int STAGE = A::SIZE + B::SIZE;  // floats
};

// Has the tile of a matrix (M, N) brought into L2, a sector of 32 bytes for each request.
template <class T> DEVICE void prefetch_tile(const float* matrix, int M, int N, int m0, int n0) {
  constexpr int SECTORS = T::BN / 8, LINES = T::THREADS / SECTORS;
  const int column = n0 + threadIdx.x % SECTORS * 8;
  UNROLL
  for (int i = 0; i < T::BM; i += LINES) {
    const int row = m0 + i + threadIdx.x / SECTORS;
    if (row < M && column < N) prefetch(matrix + (long long)row * N + column);
  }
}

// Hands the finished tile to the epilogue, WK partial sums of each element added in order. What the epilogue needs of memory is asked for several
// quads ahead.
template <class T, class Epilogue> DEVICE void finish_tile(const float* sums, int M, int N, int m0, int n0, const Epilogue& epilogue) {
  constexpr int QUADS = T::BN / 4, EACH = T::BM * QUADS / T::THREADS, AHEAD = EACH < Epilogue::AHEAD ? EACH : Epilogue::AHEAD;
  constexpr int LINES = T::THREADS / QUADS;
  static_assert(T::THREADS % QUADS == 0 && EACH % AHEAD == 0, "every thread has as many quads, all in the same columns");
  const int line = threadIdx.x / QUADS, column = n0 + threadIdx.x % QUADS * 4, n = min(4, N - column);
  if (n <= 0) return;
  NO_UNROLL
  for (int i = 0; i < EACH; i += AHEAD) {
    typename Epilogue::Loaded loaded[AHEAD];
    UNROLL
    for (int a = 0; a < AHEAD; a++) {
      const int row = m0 + line + (i + a) * LINES;
      if (row < M) loaded[a] = epilogue.load(row, column, n);
    }
    UNROLL
    for (int a = 0; a < AHEAD; a++) {
      const int row = line + (i + a) * LINES;
      if (m0 + row >= M) return;
      Quad sum = load_quad(sums + row * T::STRIDE + column - n0, 4, true);
      UNROLL
      for (int w = 1; w < T::WK; w++) {
        const Quad more = load_quad(sums + (w * T::BM + row) * T::STRIDE + column - n0, 4, true);
        UNROLL
        for (int j = 0; j < 4; j++) sum.v[j] += more.v[j];
      }
      epilogue.store(m0 + row, column, n, sum, loaded[a]);
    }
  }
}

// The product of the block at (x: columns, block_row: rows) of the tiles. If the epilogue SUMS_ROWS, it also gets the sum of each row of a, rounded as
// the products' factors are, from the blocks of the first column.
template <class T, class Math, bool A_ALONG, bool B_ALONG, class Epilogue>
DEVICE void matrix_product(const float* a, const float* b, int M, int N, int K, const Epilogue& epilogue, int block_row) {
  using Both = Panels<T, Math, A_ALONG, B_ALONG>;
  using A = typename Both::A;
  using B = typename Both::B;
  DYNAMIC_SHARED(float, shared);
  const int m0 = block_row * T::BM, n0 = blockIdx.x * T::BN, chunks = (K + T::BK - 1) / T::BK;
  const bool a_wide = is_wide(a, A_ALONG ? K : M), b_wide = is_wide(b, B_ALONG ? K : N);
  const bool sums_rows = Epilogue::SUMS_ROWS && blockIdx.x == 0 && threadIdx.x < T::BM;
  auto fetch = [&](float* stage, int chunk) {
    if (chunk < chunks) {
      A::fetch(stage, a, M, K, m0, chunk * T::BK, a_wide);
      B::fetch(stage + A::SIZE, b, N, K, n0, chunk * T::BK, b_wide);
    }
    commit_copies();  // an empty group at the end, so that the count of groups under way stays the same
  };

  typename Math::template Sums<T> sums;
  float row_sum = 0.0f;
  NO_UNROLL
  for (int chunk = 0; chunk < T::STAGES - 1; chunk++) fetch(shared + chunk * Both::STAGE, chunk);
  epilogue.template prefetch<T>(M, m0, n0);
  float* stage = shared;
  float* spare = shared + (T::STAGES - 1) * Both::STAGE;  // the stage to fill next
  NO_UNROLL
  for (int chunk = 0; chunk < chunks; chunk++) {
    wait_copies<T::STAGES - 2>();
    __syncthreads();  // the chunk is there for all, and all are done with the one before, whose stage is filled next
    fetch(spare, chunk + T::STAGES - 1);
    sums.template add<A, B>(stage, stage + A::SIZE);
    if (sums_rows) {
      UNROLL_8
      for (int k = 0; k < T::BK; k++) row_sum += Math::rounded(stage[A::at(threadIdx.x, k)]);
    }
    spare = stage;
    stage = stage == shared + (T::STAGES - 1) * Both::STAGE ? shared : stage + Both::STAGE;
  }
  if (sums_rows && m0 + (int)threadIdx.x < M) epilogue.take_row(m0 + threadIdx.x, row_sum);
  const auto ready = epilogue.ready();
  __syncthreads();  // all are done with the panels, whose memory the sums take
  sums.store(shared);
  __syncthreads();
  finish_tile<T>(shared, M, N, m0, n0, ready);
}
