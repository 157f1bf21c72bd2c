// Counter-based random numbers, bit for bit those of the CPU: kernels/cpu/random.hpp says which block of which stream a number comes from.
#include "quad.cuh"

constexpr int THREADS = 256, ROW_THREADS = 64;  // rows are few, and a chip has many multiprocessors

DEVICE Random4 words(const u64* rng, int stream, int block) { return philox(rng[0], rng[1], (u32)stream, (u32)block); }

DEVICE Quad uniforms(const Random4& w) {
  const Quad f = {{uniform01(w.v[0]), uniform01(w.v[1]), uniform01(w.v[2]), uniform01(w.v[3])}};
  return f;
}
DEVICE Quad normals(const Random4& w) {
  const Normal2 p = box_muller(w.v[0], w.v[1]), q = box_muller(w.v[2], w.v[3]);
  const Quad f = {{p.a, p.b, q.a, q.b}};
  return f;
}

DEVICE bool is_whole(const float* x, int left) { return left >= 4 && is_aligned16(x); }

// out[i] = map(i, f[i]) for the elements of a block below N; `map` gets the place in the quad.
template <class M> DEVICE void store_block(float* out, int block, int N, const Quad& f, M map) {
  Quad q;
  UNROLL
  for (int j = 0; j < 4; j++) q.v[j] = map(j, f.v[j]);
  const int left = N - 4 * block;
  store_quad(out + 4 * block, q, left, is_whole(out, left));
}
DEVICE Quad load_block(const float* x, int block, int N) {
  const int left = N - 4 * block;
  return load_quad(x + 4 * block, left, is_whole(x, left));
}

// Four elements a thread, in these four.
DEVICE int this_block() { return blockIdx.x * THREADS + threadIdx.x; }

KERNEL(random_uniform, THREADS, const u64* rng, float* out, int N, int stream, double low, double high) {
  const int block = this_block();
  if (4 * block >= N) return;
  const float from = (float)low, width = (float)(high - low);
  store_block(out, block, N, uniforms(words(rng, stream, block)), [=](int, float u) { return from + width * u; });
}

KERNEL(random_normal, THREADS, const u64* rng, float* out, int N, int stream, double mean, double std) {
  const int block = this_block();
  if (4 * block >= N) return;
  const float from = (float)mean, factor = (float)std;
  store_block(out, block, N, normals(words(rng, stream, block)), [=](int, float z) { return from + factor * z; });
}

KERNEL(random_bernoulli, THREADS, const u64* rng, const float* probability, float* out, int N, int stream) {
  const int block = this_block();
  if (4 * block >= N) return;
  const Quad least = load_block(probability, block, N);
  store_block(out, block, N, uniforms(words(rng, stream, block)), [=](int j, float u) { return u < least.v[j] ? 1.0f : 0.0f; });
}

KERNEL(add_noise, THREADS, const u64* rng, const float* x, float* y, int N, int stream, double std) {
  const int block = this_block();
  if (4 * block >= N) return;
  const Quad from = load_block(x, block, N);
  const float factor = (float)std;
  store_block(y, block, N, normals(words(rng, stream, block)), [=](int j, float z) { return from.v[j] + factor * z; });
}

KERNEL(dropout, THREADS, const u64* rng, const float* x, float* y, int N, int stream, int beta, double rate) {
  const int block = this_block();
  if (4 * block >= N) return;
  Quad from = load_block(x, block, N), before = {{0.0f, 0.0f, 0.0f, 0.0f}};
  if (beta) before = load_block(y, block, N);
  const float least = (float)rate, factor = (float)(1.0 / (1.0 - rate));
  store_block(y, block, N, uniforms(words(rng, stream, block)), [=](int j, float u) {
    const float kept = u >= least ? from.v[j] * factor : 0.0f;
    return beta ? before.v[j] + kept : kept;
  });
}

// row[0 .. Z) = normals from block `first` on.
DEVICE void fill_normals(const u64* rng, int stream, int first, float* row, int Z) {
  NO_UNROLL
  for (int b = 0; 4 * b < Z; b++) {
    const Quad f = normals(words(rng, stream, first + b));
    UNROLL
    for (int j = 0; j < 4; j++)
      if (4 * b + j < Z) row[4 * b + j] = f.v[j];
  }
}

// The first class whose cumulative weight exceeds u; the last one if rounding left their total below u.
DEVICE int choose(float u, const float* cumulative, int classes) {
  int c = 0;
  while (c < classes - 1 && !(u < cumulative[c])) ++c;
  return c;
}

// The first of a row's K columns with a number above 1/2, if it is below `classes`, else -1.
DEVICE int class_of(const float* row, int K, int classes) {
  int c = 0;
  while (c < K && !(row[c] > 0.5f)) ++c;
  return c < K && c < classes ? c : -1;
}

// A thread for each row, in all that follow but `translate`.
DEVICE int this_row() { return blockIdx.x * ROW_THREADS + threadIdx.x; }

// Row r of a mixture, of component `given`, or of one that is drawn if that is negative.
DEVICE void mixture_row(const u64* rng, const float* cumulative, const float* means, const float* factors, float* out, int r, int Z, int C,
                        int stream, int given) {
  const int stride = 1 + (Z + 3) / 4;
  float* row = out + r * Z;
  const int c = given < 0 ? choose(uniform01(words(rng, stream, r * stride).v[0]), cumulative, C) : given;
  fill_normals(rng, stream, r * stride + 1, row, Z);
  for (int j = Z - 1; j >= 0; --j) {  // in place from the end: out[j] needs no normal behind j
    const float* factor = factors + (c * Z + j) * Z;
    float sum = means[c * Z + j];
    for (int k = 0; k <= j; ++k) sum += factor[k] * row[k];
    row[j] = sum;
  }
}

KERNEL(random_mixture, ROW_THREADS, const u64* rng, const float* cumulative, const float* means, const float* factors, float* out, int B, int Z,
       int C, int stream) {
  const int r = this_row();
  if (r < B) mixture_row(rng, cumulative, means, factors, out, r, Z, C, stream, -1);
}

KERNEL(random_mixture_of, ROW_THREADS, const u64* rng, const float* cumulative, const float* means, const float* factors, const float* like,
       float* out, int B, int Z, int C, int K, int classes, int stream) {
  const int r = this_row();
  if (r < B) mixture_row(rng, cumulative, means, factors, out, r, Z, C, stream, class_of(like + r * K, K, classes));
}

// Row r of a roll, whose u becomes (given + u) / parts unless `given` is negative.
DEVICE void swiss_roll_row(const u64* rng, float* out, int r, int parts, int stream, int given, double turns_from, double turns_to,
                           double radius, double noise) {
  const Random4 w = words(rng, stream, r);
  const Normal2 n = box_muller(w.v[2], w.v[3]);
  float u = uniform01(w.v[0]);
  if (given >= 0) u = ((float)given + u) / (float)parts;
  const float t = (float)turns_from + (float)(turns_to - turns_from) * sqrt_f(u);
  const float at = (float)(radius / turns_to) * t;
  const CosSin direction = cos_sin_turn(t - (float)(i32)t);
  out[2 * r] = at * direction.cos + (float)noise * n.a;
  out[2 * r + 1] = at * direction.sin + (float)noise * n.b;
}

KERNEL(random_swiss_roll, ROW_THREADS, const u64* rng, float* out, int B, int stream, double turns_from, double turns_to, double radius,
       double noise) {
  const int r = this_row();
  if (r < B) swiss_roll_row(rng, out, r, 1, stream, -1, turns_from, turns_to, radius, noise);
}

KERNEL(random_swiss_roll_of, ROW_THREADS, const u64* rng, const float* like, float* out, int B, int K, int parts, int stream, double turns_from,
       double turns_to, double radius, double noise) {
  const int r = this_row();
  if (r < B) swiss_roll_row(rng, out, r, parts, stream, class_of(like + r * K, K, parts), turns_from, turns_to, radius, noise);
}

KERNEL(random_hypersphere, ROW_THREADS, const u64* rng, float* out, int B, int Z, int stream, double radius) {
  const int r = this_row();
  if (r >= B) return;
  float* row = out + r * Z;
  fill_normals(rng, stream, r * ((Z + 3) / 4), row, Z);
  float sum = 0.0f;
  for (int j = 0; j < Z; ++j) sum += row[j] * row[j];
  if (sum == 0.0f) row[0] = sum = 1.0f;  // the first axis, not 0 / 0
  const float factor = (float)radius / sqrt_f(sum);
  for (int j = 0; j < Z; ++j) row[j] *= factor;
}

KERNEL(random_categorical, ROW_THREADS, const u64* rng, const float* cumulative, float* out, int B, int C, int stream) {
  const int r = this_row();
  if (r >= B) return;
  const int c = choose(uniform01(words(rng, stream, r).v[0]), cumulative, C);
  for (int j = 0; j < C; ++j) out[r * C + j] = j == c ? 1.0f : 0.0f;
}

// Pixels that an image moves by: each number from -most to most is as likely. The product stays below 2 most + 1.
DEVICE int move_of(u32 word, int most) { return (int)((float)(2 * most + 1) * uniform01(word)) - most; }

// A thread for each element: it makes its row's words anew, which are few instructions beside the wait for memory.
KERNEL(translate, THREADS, const u64* rng, const float* x, float* y, int B, int N, int height, int width, int most, int stream) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= B * N) return;
  const int line = N / height, numbers = line / width, row = i / N, at = i % N;
  const Random4 w = words(rng, stream, row);
  const int down = move_of(w.v[0], most), right = move_of(w.v[1], most);
  const int from_line = at / line - down, from_pixel = at % line / numbers - right;
  const bool inside = from_line >= 0 && from_line < height && from_pixel >= 0 && from_pixel < width;
  y[i] = inside ? x[i - down * line - right * numbers] : 0.0f;
}

KERNEL(rng_advance, 1, u64* rng) { ++rng[1]; }
