// Distances of all pairs of rows, d_ij = |x_i|^2 + |y_j|^2 - 2 x_i . y_j: a discrepancy of two samples, the density of a Parzen window.
//
// An op is a chain of kernels that share scratch memory: squared lengths of all rows, distances by tiles of a matrix product, then what the op makes of
// each row of distances, a warp for each. Sums over the columns run in double, those of a lane in their order: the bits depend on the shapes and the
// tile only.
#include "linear.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256;

DEVICE int warp_of_grid() { return (blockIdx.x * THREADS + threadIdx.x) / 32; }
DEVICE int lane() { return threadIdx.x % 32; }
DEVICE long long quads(long long n) { return (n + 3) / 4 * 4; }  // every part of the scratch begins at a multiple of 16 bytes

// |row|^2, in every lane.
DEVICE float squared_length(const float* row, int N) {
  float sum = 0.0f;
  for (int k = lane(); k < N; k += 32) sum = fmaf(row[k], row[k], sum);
  return warp_sum(sum);
}

struct Distances {  // d = |row|^2 + |column|^2 - 2 sums, never below 0
  static constexpr bool SUMS_ROWS = false;
  static constexpr int AHEAD = 4;
  struct Loaded {
    Quad columns;
    float row;
  };
  const float *rows, *columns;  // squared lengths
  float* d;
  int M;
  bool wide;
  template <class T> DEVICE void prefetch(int, int, int) const {}
  DEVICE const Distances& ready() const { return *this; }
  DEVICE Loaded load(int row, int column, int n) const {
    const Loaded squares = {load_quad(columns + column, n, wide), rows[row]};
    return squares;
  }
  DEVICE void store(int row, int column, int n, Quad sum, const Loaded& squares) const {
    UNROLL
    for (int j = 0; j < 4; j++) {
      const float v = (squares.row + squares.columns.v[j]) - 2.0f * sum.v[j];
      sum.v[j] = v < 0.0f ? 0.0f : v;  // NaN stays
    }
    store_quad(d + (long long)row * M + column, sum, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

// -------------------------------------------------------------------------------------------------------------- Parzen

struct ParzenScratch {
  float *d, *rows, *samples;  // distances [B][M]; squared lengths [B], [M]
  DEVICE ParzenScratch(float* at, int B, int M) : d(at), rows(at + quads((long long)B * M)), samples(rows + quads(B)) {}
};

KERNEL(parzen_squares, THREADS, const float* x, const float* samples, const float*, float*, double*, int B, int M, int N, int, float* scratch) {
  const int row = warp_of_grid();
  if (row >= B + M) return;
  const ParzenScratch s(scratch, B, M);
  const float square = squared_length(row < B ? x + (long long)row * N : samples + (long long)(row - B) * N, N);
  if (lane() == 0) (row < B ? s.rows + row : s.samples + row - B)[0] = square;
}

#define PARZEN_DISTANCES(MATH, TILE, blocks, suffix)                                                                                       \
  KERNEL_BLOCKS(parzen_distances_##suffix, TILE::THREADS, blocks, const float* x, const float* samples, const float*, float*, double*,     \
         int B, int M, int N, int, float* scratch) {                                                                                       \
    const ParzenScratch s(scratch, B, M);                                                                                                  \
    const bool wide = is_wide(s.d, M) && is_aligned16(s.samples);                                                                          \
    product<TILE, MATH, true, true>(x, samples, B, M, N, Distances{s.rows, s.samples, s.d, M, wide}, blockIdx.y);                          \
  }

// The smaller of two numbers; NaN if one of them is.
DEVICE float smaller(float a, float b) { return b < a || b != b ? b : a; }

// least and sums of a row after its distances to M more samples.
KERNEL(parzen, THREADS, const float*, const float*, const float* gammas, float* least, double* sums, int B, int M, int, int K, float* scratch) {
  const int row = warp_of_grid();
  if (row >= B) return;
  const float* d = ParzenScratch(scratch, B, M).d + (long long)row * M;
  const float before = lane() == 0 ? least[row] : bits_to_float(0x7f800000u);  // no other lane knows it
  float now = before;
  for (int j = lane(); j < M; j += 32) now = smaller(now, d[j]);
  UNROLL
  for (int lanes = 16; lanes; lanes /= 2) now = smaller(now, __shfl_xor_sync(0xffffffffu, now, lanes));
  for (int k = 0; k < K; k++) {
    const float gamma = gammas[k];
    double sum = 0.0;
    for (int j = lane(); j < M; j += 32) sum += (double)exp_minus_abs_f(gamma * (d[j] - now));
    sum = warp_sum(sum);
    if (lane() == 0) {
      double& old = sums[(long long)row * K + k];
      old = (old == 0.0 ? 0.0 : old * (double)exp_minus_abs_f(gamma * (before - now))) + sum;  // not 0 * exp(infinity - infinity)
    }
  }
  if (lane() == 0) least[row] = now;
}

// -------------------------------------------------------------------------------------------- maximum mean discrepancy

// Rows are those of x and then those of y. With a = 4 weight / (B M) and b = 4 weight / B^2 the distances of a row of x become its `pulls`: -b w for the
// columns of x, a w for those of y, where w is minus the derivative of k. Then dx = (sum of the row's pulls) x - pulls (x, y).
struct MmdScratch {
  int rows;
  double *own, *others;  // sums of k over the columns of x (of its rows only), and over those of y
  float *z, *squares, *totals, *d;  // x and y [rows][N], |z|^2 [rows], sums of pulls [rows], distances or pulls [rows][rows]
  DEVICE MmdScratch(float* at, int B, int M, int N) : rows(B + M) {
    own = reinterpret_cast<double*>(at);
    others = own + quads(rows);
    z = reinterpret_cast<float*>(others + quads(rows));
    squares = z + quads((long long)rows * N);
    totals = squares + quads(rows);
    d = totals + quads(rows);
  }
};

KERNEL(mmd_squares, THREADS, const float* x, const float* y, const float*, float*, float*, int B, int M, int N, int, double, float* scratch) {
  const int row = warp_of_grid();
  if (row >= B + M) return;
  const MmdScratch s(scratch, B, M, N);
  const float* from = row < B ? x + (long long)row * N : y + (long long)(row - B) * N;
  for (int k = lane(); k < N; k += 32) s.z[(long long)row * N + k] = from[k];
  const float square = squared_length(from, N);
  if (lane() == 0) s.squares[row] = square;
}

// Nothing reads the distances of a row of y to those of x.
#define MMD_DISTANCES(MATH, TILE, blocks, suffix)                                                                                          \
  KERNEL_BLOCKS(mmd_distances_##suffix, TILE::THREADS, blocks, const float*, const float*, const float*, float*, float*, int B, int M,     \
         int N, int, double, float* scratch) {                                                                                             \
    if ((int)blockIdx.y * TILE::BM >= B && ((int)blockIdx.x + 1) * TILE::BN <= B) return;                                                  \
    const MmdScratch s(scratch, B, M, N);                                                                                                  \
    product<TILE, MATH, true, true>(                                                                                                       \
        s.z, s.z, s.rows, s.rows, N, Distances{s.squares, s.squares, s.d, s.rows, is_wide(s.d, s.rows)}, blockIdx.y);                      \
  }

KERNEL(mmd, THREADS, const float*, const float*, const float* gammas, float*, float*, int B, int M, int N, int K, double weight, float* scratch) {
  const MmdScratch s(scratch, B, M, N);
  const int row = warp_of_grid();
  if (row >= s.rows) return;
  const float a = (float)(4.0 * weight / ((double)B * M)), b = (float)(4.0 * weight / ((double)B * B));
  float* d = s.d + (long long)row * s.rows;
  double own = 0.0, others = 0.0, total = 0.0;
  for (int j = lane() + (row < B ? 0 : B); j < s.rows; j += 32) {
    const float factor = j < B ? -b : a, distance = j == row ? 0.0f : d[j];  // of a row to itself exactly, as on the CPU
    float k = 0.0f, w = 0.0f;
    for (int i = 0; i < K; i++) {
      const float gamma = gammas[i], term = exp_minus_abs_f(gamma * distance);
      k += term;
      w += factor * gamma * term;
    }
    (j < B ? own : others) += (double)k;
    total += (double)w;
    d[j] = w;
  }
  own = warp_sum(own);
  others = warp_sum(others);
  total = warp_sum(total);
  if (lane() == 0) {
    s.own[row] = own;
    s.others[row] = others;
    s.totals[row] = (float)total;
  }
}

struct Pull {  // dx = total x - sums
  static constexpr bool SUMS_ROWS = false;
  static constexpr int AHEAD = 4;
  using Loaded = Quad;
  const float *x, *totals;
  float* dx;
  int N;
  bool wide;
  template <class T> DEVICE void prefetch(int, int, int) const {}
  DEVICE const Pull& ready() const { return *this; }
  DEVICE Quad load(int row, int column, int n) const { return load_quad(x + (long long)row * N + column, n, wide); }
  DEVICE void store(int row, int column, int n, Quad sum, const Quad& own) const {
    UNROLL
    for (int j = 0; j < 4; j++) sum.v[j] = totals[row] * own.v[j] - sum.v[j];
    store_quad(dx + (long long)row * N + column, sum, n, wide);
  }
  DEVICE void take_row(int, float) const {}
};

#define MMD_PULL(MATH, TILE, blocks, suffix)                                                                                               \
  KERNEL_BLOCKS(mmd_pull_##suffix, TILE::THREADS, blocks, const float* x, const float*, const float*, float* dx, float*, int B, int M,     \
         int N, int, double, float* scratch) {                                                                                             \
    const MmdScratch s(scratch, B, M, N);                                                                                                  \
    product<TILE, MATH, true, false>(s.d, s.z, B, N, s.rows, Pull{x, s.totals, dx, N, is_wide(x, N) && is_wide(dx, N)}, blockIdx.y);       \
  }

KERNEL(mmd_sum, 32, const float*, const float*, const float*, float*, float* loss, int B, int M, int N, int, double weight, float* scratch) {
  const MmdScratch s(scratch, B, M, N);
  double own = 0.0, cross = 0.0, others = 0.0;
  for (int i = threadIdx.x; i < B; i += 32) own += s.own[i], cross += s.others[i];
  for (int i = threadIdx.x; i < M; i += 32) others += s.others[B + i];
  own = warp_sum(own);
  cross = warp_sum(cross);
  others = warp_sum(others);
  if (threadIdx.x == 0)
    *loss = (float)(weight * (own / ((double)B * B) - 2.0 * cross / ((double)B * M) + others / ((double)M * M)));
}

PARZEN_DISTANCES(Ffma, Medium, 1, ffma_medium)
MMD_DISTANCES(Ffma, Medium, 1, ffma_medium)
MMD_PULL(Ffma, Medium, 1, ffma_medium)
#if HAS_SM80
PARZEN_DISTANCES(Tf32x3, Medium, 2, tf32x3_medium)
PARZEN_DISTANCES(Tf32x3, Large, 1, tf32x3_large)
MMD_DISTANCES(Tf32x3, Medium, 2, tf32x3_medium)
MMD_PULL(Tf32x3, Medium, 2, tf32x3_medium)
#endif
