// Distances of all pairs of rows, d_ij = |x_i|^2 + |y_j|^2 - 2 x_i . y_j, and what is made of them while they are in the cache.
//
// The products are those of a linear layer's forward pass: rows of x as they lie, rows of y as the columns of packed panels. A block of rows
// meets HELD columns at a time: first its distances, in memory of their own, then what an op makes of each row of them. Each distance is
// one chain of multiply-adds, and what is added up over the columns follows their order: the bits depend on the shapes only.

constexpr long HELD = 512;    // of distances that a block of rows holds; a whole number of panels
constexpr long BLOCK_ROWS = 112;  // at most, and no more than BLOCK_FLOATS of them: they stay in L2 while panels stream past
constexpr long BLOCK_FLOATS = 1 << 17;

// Rows of n numbers that stand as columns: [panel][k][NR], padded with zeros, and their squared lengths, padded with infinity: no column that
// does not exist is near.
struct Columns {
  long count, depth;
  float *panels, *squares;
  INLINE_MEMBER long padded() const { return round_up(count, NR); }
  INLINE_MEMBER long floats() const { return padded() * (depth + 1); }
  INLINE_MEMBER float* place(float* at) {  // the end
    panels = at;
    squares = at + padded() * depth;
    return at + floats();
  }
};

INLINE float squared_length(const float* x, long n) {
  V sums[2] = {splat(0.0f), splat(0.0f)};
  long k = 0;
  for (; k + NR <= n; k += NR)
    for (int j = 0; j < 2; ++j) sums[j] = fma(load(x + k + j * VL), load(x + k + j * VL), sums[j]);
  for (; k < n; k += VL) sums[0] = fma(load_first(x + k, n - k), load_first(x + k, n - k), sums[0]);
  float lanes[VL];
  store(lanes, sums[0] + sums[1]);
  for (int half = VL / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// panel[k][0 .. NR) from at most NR rows of x.
INLINE void pack_rows(const float* x, long rows, long depth, float* panel) {
  float block[VL * VL];
  for (long q = 0; q < NR; q += VL)
    for (long k = 0; k < depth; k += VL) {
      long width = min_l(VL, depth - k);
      if (q + VL <= rows && width == VL) {
        transpose(x + q * depth + k, depth, panel + k * NR + q, NR);
        continue;
      }
      float columns[VL * VL];
      for (long i = 0; i < VL; ++i) store(block + i * VL, q + i < rows ? load_first(x + (q + i) * depth + k, width) : splat(0.0f));
      transpose(block, VL, columns, VL);
      for (long i = 0; i < width; ++i) store(panel + (k + i) * NR + q, load(columns + i * VL));
    }
}

INLINE void pack_columns(const float* x, const Columns& columns) {
  aae::parallel(columns.padded() / NR, 8.0 * columns.padded() * columns.depth, [=](long p) {
    long first = p * NR, rows = min_l(NR, columns.count - first), depth = columns.depth;
    pack_rows(x + first * depth, rows, depth, columns.panels + first * depth);
    for (long j = 0; j < NR; ++j)
      columns.squares[first + j] = j < rows ? squared_length(x + (first + j) * depth, depth) : __builtin_inff();
  });
}

// Rows of x next to each other, and their squared lengths.
struct Rows {
  const float *x, *squares;
  long count, depth;
};

template <int MR>
static __attribute__((noinline)) void distance_tile(
    const Rows& rows, long r0, const float* panel, const float* squares, Ahead ahead, float* d) {
  V acc[MR][2];
  dot_tile<Float32>(rows.x + r0 * rows.depth, rows.depth, panel, rows.depth, ahead, acc);
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) {
    V columns = load(squares + j * VL);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      V v = (splat(rows.squares[r0 + i]) + columns) - splat(2.0f) * acc[i][j];
      store(d + (r0 + i) * HELD + j * VL, v < splat(0.0f) ? splat(0.0f) : v);  // NaN stays
    }
  }
}

// Calls f(row, first column, columns, d) for every row, HELD columns at a time: d[j] is the distance from the first column + j. Up to the end of
// the last panel more follow, which are infinite. Columns before `from` need not be there. `d` has room for HELD of each row.
template <class F> INLINE void for_distances(const Rows& rows, const Columns& columns, long from, float* d, F&& f) {
  long last = columns.padded() - NR;
  for (long c0 = from / HELD * HELD; c0 < columns.count; c0 += HELD) {
    for (long c = max_l(c0, from / NR * NR); c < min_l(c0 + HELD, columns.count); c += NR) {
      const float *panel = columns.panels + c * rows.depth, *next = columns.panels + min_l(c + NR, last) * rows.depth;
      long tile = 0;
      for_tiles(rows.count, [&](long r, long height) {
        Ahead ahead = {next + tile++ % TILES * LINES * LINE, BLOCK * NR};
        with_count<MR_MAX>(height, [&](auto R) { distance_tile<R>(rows, r, panel, columns.squares + c, ahead, d + c - c0); });
      });
    }
    for (long r = 0; r < rows.count; ++r) f(r, c0, min_l(HELD, columns.count - c0), d + r * HELD);
  }
}

// Calls f(first row, rows) for blocks of rows, in parallel. No result depends on where they are cut.
template <class F> INLINE void for_row_blocks(long count, long depth, double flops, F&& f) {
  long most = max_l(MR_MAX, min_l(BLOCK_ROWS, BLOCK_FLOATS / depth));
  long blocks = max_l((count + most - 1) / most, parts_per_panel(1, (count + 27) / 28, flops));
  aae::parallel(blocks, flops, [&](long b) { f(count * b / blocks, count * (b + 1) / blocks - count * b / blocks); });
}

// ---------------------------------------------------------------------------------------------------------- Parzen

// The least of d[0 ... n - 1], infinity if n is 0; n is a multiple of VL. NaN if one of them is.
INLINE float smallest(const float* d, long n) {
  float least = __builtin_inff();
  V all = splat(least);
  for (long j = 0; j < n; j += VL) {
    V v = load(d + j);
    all = ((v < all) | (v != v)) ? v : all;
  }
  float lanes[VL];
  store(lanes, all);
  for (int i = 0; i < VL; ++i) least = lanes[i] < least || lanes[i] != lanes[i] ? lanes[i] : least;
  return least;
}

// least and sums of a row after n more distances.
INLINE void take_distances(const float* d, long n, const float* gammas, long K, float* least, double* sums) {
  float near = smallest(d, round_up(n, NR));
  float now = near < *least || near != near ? near : *least, closer = *least - now;
  *least = now;
  for (long k = 0; k < K; ++k) {
    float gamma = gammas[k];
    if (gamma * (near - now) > 88.0f) continue;  // all terms are 0, as nearly always once there are many samples
    double kept = sums[k] == 0.0 ? 0.0 : sums[k] * (double)exp_minus_abs_f(gamma * closer);  // not 0 * exp(infinity - infinity)
    sums[k] = kept + sum_part(0, n, [=](long j) { return exp_minus_abs_f(gamma * (d[j] - now)); });
  }
}

KERNEL(parzen) {
  const float *x = in<float>(buf, 0), *samples = in<float>(buf, 1), *gammas = in<float>(buf, 2);
  float* least = out<float>(buf, 3);
  double* sums = out<double>(buf, 4);
  long B = dim[0], N = dim[2], K = dim[3];
  Columns columns = {dim[1], N, nullptr, nullptr};
  float* shared = static_cast<float*>(aae::scratch(columns.floats() * sizeof(float), aae::SHARED));
  if (!shared) return;
  columns.place(shared);
  pack_columns(samples, columns);
  for_row_blocks(B, N, B * dim[1] * (2.0 * N + 20.0 * K), [&](long first, long count) {
    float* d = static_cast<float*>(aae::scratch(count * (HELD + 1) * sizeof(float)));
    if (!d) return;
    float* squares = d + count * HELD;
    for (long r = 0; r < count; ++r) squares[r] = squared_length(x + (first + r) * N, N);
    for_distances({x + first * N, squares, count, N}, columns, 0, d, [&](long r, long, long n, float* row) {
      take_distances(row, n, gammas, K, least + first + r, sums + (first + r) * K);
    });
  });
}

// ---------------------------------------------------------------------------------------- maximum mean discrepancy

struct Gaussians {
  const float* gammas;
  long K;
};

// The sum of k over n distances; with PULLS, pulls[j] = factor times minus the derivative of k.
template <bool PULLS> INLINE double kernel_row(const Gaussians& g, const float* d, long n, float factor, float* pulls) {
  float k[HELD] = {}, w[HELD] = {};
  for (long s = 0; s < g.K; ++s) {
    float gamma = g.gammas[s], weight = factor * gamma;
#pragma GCC ivdep
    for (long j = 0; j < n; ++j) {
      float term = exp_minus_abs_f(gamma * d[j]);
      k[j] += term;
      if (PULLS) w[j] += weight * term;
    }
  }
  for (long j = 0; PULLS && j < n; ++j) pulls[j] = w[j];
  return sum_part(0, n, [&](long j) { return k[j]; });
}

// What mmd makes in scratch. With the factors a = 4 weight / (B M) and b = 4 weight / B^2 a row of `pulls` is
// (-b w of x_i and all x, a w of x_i and all y), and dx_i = (sum of the row) x_i - row . (x, y).
struct Discrepancy {
  const float *x, *y;
  long B, M, N;
  Gaussians kernel;
  Columns of_x, of_y;
  float a, b;
  float* pulls;   // [B][B + M]
  double* sums;   // of k: [B] of x and all x, [B] of x and all y, [M] of y and those y that come after it
};

static __attribute__((noinline)) void rows_of_x(const Discrepancy& m, long first, long count) {
  float* d = static_cast<float*>(aae::scratch(count * HELD * sizeof(float)));
  if (!d) return;
  Rows rows = {m.x + first * m.N, m.of_x.squares + first, count, m.N};
  double *own = m.sums + first, *cross = own + m.B;
  for (long r = 0; r < count; ++r) own[r] = cross[r] = 0.0;
  for_distances(rows, m.of_x, 0, d, [&](long r, long c, long n, float* row) {
    if (long same = first + r - c; same >= 0 && same < n) row[same] = 0.0f;  // exactly, as the mean over all pairs of y has it
    own[r] += kernel_row<true>(m.kernel, row, n, -m.b, m.pulls + (first + r) * (m.B + m.M) + c);
  });
  for_distances(rows, m.of_y, 0, d, [&](long r, long c, long n, float* row) {
    cross[r] += kernel_row<true>(m.kernel, row, n, m.a, m.pulls + (first + r) * (m.B + m.M) + m.B + c);
  });
}

static __attribute__((noinline)) void rows_of_y(const Discrepancy& m, long first, long count) {
  float* d = static_cast<float*>(aae::scratch(count * HELD * sizeof(float)));
  if (!d) return;
  double* sums = m.sums + 2 * m.B + first;
  for (long r = 0; r < count; ++r) sums[r] = 0.0;
  for_distances({m.y + first * m.N, m.of_y.squares + first, count, m.N}, m.of_y, first, d, [&](long r, long c, long n, float* row) {
    long before = max_l(0, first + r + 1 - c);
    if (before < n) sums[r] += kernel_row<false>(m.kernel, row + before, n - before, 0.0f, nullptr);
  });
}

// dx = total x - sums for a tile of sums [MR][NR] at row r0 and column n0.
template <int MR>
static __attribute__((noinline)) void pull_tile(const Discrepancy& m, const float* panel, const float* totals, long r0, long n0, float* dx) {
  V acc[MR][2];
  long depth = m.B + m.M;
  dot_tile<Float32>(m.pulls + r0 * depth, depth, panel, depth, {panel, 0}, acc);
  for (int j = 0; j < 2 && n0 + j * VL < m.N; ++j)
    for (int i = 0; i < MR; ++i) {
      long at = (r0 + i) * m.N + n0 + j * VL, n = m.N - n0 - j * VL;
      store_first(dx + at, splat(totals[r0 + i]) * load_first(m.x + at, n) - acc[i][j], n);
    }
}

INLINE void pull(const Discrepancy& m, const float* totals, float* dx) {
  long panels = (m.N + NR - 1) / NR, depth = m.B + m.M;
  double flops = 2.0 * m.B * depth * m.N;
  long blocks = parts_per_panel(panels, (m.B + 27) / 28, flops);
  for_blocks_and_panels(blocks, panels, flops, [&](long block, long p) {
    float* panel = static_cast<float*>(aae::scratch(depth * NR * sizeof(float)));
    if (!panel) return;
    for (long k = 0; k < depth; ++k)
      for (long j = 0; j < NR; j += VL) {
        const float* row = k < m.B ? m.x + k * m.N : m.y + (k - m.B) * m.N;
        long at = p * NR + j;
        store(panel + k * NR + j, at < m.N ? load_first(row + at, m.N - at) : splat(0.0f));
      }
    long first = m.B * block / blocks, rows = m.B * (block + 1) / blocks - first;
    for_tiles(rows, [&](long r, long height) {
      with_count<MR_MAX>(height, [&](auto R) { pull_tile<R>(m, panel, totals, first + r, p * NR, dx); });
    });
  });
}

KERNEL(mmd) {
  long B = dim[0], M = dim[1], N = dim[2];
  double weight = scalar[0];
  Discrepancy m = {in<float>(buf, 0), in<float>(buf, 1), B, M, N, {in<float>(buf, 2), dim[3]}, {B, N, nullptr, nullptr}, {M, N, nullptr, nullptr},
                   (float)(4.0 * weight / ((double)B * M)), (float)(4.0 * weight / ((double)B * B)), nullptr, nullptr};
  long doubles = 2 * B + M, pulls = B * (B + M);
  size_t floats = 2 * doubles + m.of_x.floats() + m.of_y.floats() + pulls + B;
  double* shared = static_cast<double*>(aae::scratch(floats * sizeof(float), aae::SHARED));
  if (!shared) return;
  m.sums = shared;
  m.pulls = m.of_y.place(m.of_x.place(reinterpret_cast<float*>(shared + doubles)));
  float* totals = m.pulls + pulls;
  pack_columns(m.x, m.of_x);
  pack_columns(m.y, m.of_y);
  double flops = 2.0 * N + 30.0 * m.kernel.K;
  for_row_blocks(B, N, flops * B * (B + M), [&](long first, long count) { rows_of_x(m, first, count); });
  for_row_blocks(M, N, flops * M * M / 2, [&](long first, long count) { rows_of_y(m, first, count); });
  for_rows(B, 2.0 * (B + M), [=](long r) {
    totals[r] = (float)sum_part(0, B + M, [=](long j) { return m.pulls[r * (B + M) + j]; });
  });
  pull(m, totals, out<float>(buf, 3));
  double own = 0.0, cross = 0.0, others = 0.0;
  for (long i = 0; i < B; ++i) own += m.sums[i], cross += m.sums[B + i];
  for (long i = 0; i < M; ++i) others += 2.0 * m.sums[2 * B + i] + m.kernel.K;
  *out<float>(buf, 4) = (float)(weight * (own / ((double)B * B) - 2.0 * cross / ((double)B * M) + others / ((double)M * M)));
}
