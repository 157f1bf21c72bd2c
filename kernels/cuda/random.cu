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

// out[i] = offset + factor f[i], four elements a thread.
DEVICE void store_block(float* out, int block, int N, const Quad& f, float offset, float factor) {
  Quad q;
  UNROLL
  for (int j = 0; j < 4; j++) q.v[j] = offset + factor * f.v[j];
  const int left = N - 4 * block;
  store_quad(out + 4 * block, q, left, left >= 4 && is_aligned16(out));
}

KERNEL(random_uniform, THREADS, const u64* rng, float* out, int N, int stream, double low, double high) {
  const int block = blockIdx.x * THREADS + threadIdx.x;
  if (4 * block < N) store_block(out, block, N, uniforms(words(rng, stream, block)), (float)low, (float)(high - low));
}

KERNEL(random_normal, THREADS, const u64* rng, float* out, int N, int stream, double mean, double std) {
  const int block = blockIdx.x * THREADS + threadIdx.x;
  if (4 * block < N) store_block(out, block, N, normals(words(rng, stream, block)), (float)mean, (float)std);
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

// A thread for each row, in all that follow.
DEVICE int this_row() { return blockIdx.x * ROW_THREADS + threadIdx.x; }

KERNEL(random_mixture, ROW_THREADS, const u64* rng, const float* cumulative, const float* means, const float* factors, float* out, int B, int Z,
       int C, int stream) {
  const int r = this_row(), stride = 1 + (Z + 3) / 4;
  if (r >= B) return;
  float* row = out + r * Z;
  const int c = choose(uniform01(words(rng, stream, r * stride).v[0]), cumulative, C);
  fill_normals(rng, stream, r * stride + 1, row, Z);
  for (int j = Z - 1; j >= 0; --j) {  // in place from the end: out[j] needs no normal behind j
    const float* factor = factors + (c * Z + j) * Z;
    float sum = means[c * Z + j];
    for (int k = 0; k <= j; ++k) sum += factor[k] * row[k];
    row[j] = sum;
  }
}

KERNEL(random_swiss_roll, ROW_THREADS, const u64* rng, float* out, int B, int stream, double turns_from, double turns_to, double radius,
       double noise) {
  const int r = this_row();
  if (r >= B) return;
  const Random4 w = words(rng, stream, r);
  const Normal2 n = box_muller(w.v[2], w.v[3]);
  const float t = (float)turns_from + (float)(turns_to - turns_from) * sqrt_f(uniform01(w.v[0]));
  const float at = (float)(radius / turns_to) * t;
  const CosSin direction = cos_sin_turn(t - (float)(i32)t);
  out[2 * r] = at * direction.cos + (float)noise * n.a;
  out[2 * r + 1] = at * direction.sin + (float)noise * n.b;
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

KERNEL(rng_advance, 1, u64* rng) { ++rng[1]; }
