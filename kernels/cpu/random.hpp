// Counter-based random numbers, the same bits for every instruction set, number of threads and device.
//
// The generator. The `rng` buffer holds {seed, counter}. Block b of a stream is the 4 words of philox(seed, counter, stream, b), b of
// 32 bits; an op uses the blocks below and no state, and rng_advance moves every stream on. u is uniform01(word) in [0, 1). Normals
// 4k ... 4k + 3 of a sequence come from block k: words (0, 1) give two of them by box_muller, words (2, 3) the other two.
// All arithmetic is float, unfused, in the order written here; scalars combined in brackets are combined in double and rounded once.
//
//   uniform      element i: word i % 4 of block i / 4;  low + [high - low] u
//   normal       element i: normal i, from block 0 on;  mean + std n
//   Row r of the others owns the blocks r * stride ... r * stride + stride - 1:
//   mixture      stride 1 + ceil(Z / 4): u of word 0 of block 0 chooses c, the first class with u < cumulative[c], or the last class;
//                normals n from block 1 on;  out[j] = mean[c][j] + factor[c][j][0] n[0] + ... + factor[c][j][j] n[j], left to right
//   swiss roll   stride 1: t = turns_from + [turns_to - turns_from] sqrt(u) of word 0, words (2, 3) give normals n;
//                out = ([radius / turns_to] t) (cos, sin)(2 pi frac(t)) + noise n, for turns >= 0
//   hypersphere  stride ceil(Z / 4): normals n from block 0 on;  out[j] = n[j] (radius / sqrt(n[0]^2 + n[1]^2 + ...)), left to right;
//                if that sum is 0, radius times the first axis
//   categorical  stride 1: u of word 0 chooses the class as in mixture; out is 1 there and 0 elsewhere

struct Rng {
  u64 seed, counter;
  u32 stream;
};
INLINE Rng rng_of(Buffers buf, int64_t stream) {
  const u64* state = in<u64>(buf, 0);
  return {state[0], state[1], (u32)stream};
}
INLINE Random4 words(Rng rng, long block) { return philox(rng.seed, rng.counter, rng.stream, (u32)block); }

struct Floats4 {
  float v[4];
};
INLINE Floats4 uniforms(Random4 w) { return {uniform01(w.v[0]), uniform01(w.v[1]), uniform01(w.v[2]), uniform01(w.v[3])}; }
INLINE Floats4 normals(Random4 w) {
  Normal2 p = box_muller(w.v[0], w.v[1]), q = box_muller(w.v[2], w.v[3]);
  return {p.a, p.b, q.a, q.b};
}

// x[i] = map(element i of the blocks from `first` on) for i < n; `four` makes the 4 elements of a block from its words.
template <class F, class M> INLINE void fill_blocks(Rng rng, long first, float* x, long n, F four, M map) {
  for (long b = 0; b < n / 4; ++b) {
    Floats4 f = four(words(rng, first + b));
    for (int j = 0; j < 4; ++j) x[4 * b + j] = map(f.v[j]);
  }
  if (n % 4) {
    Floats4 f = four(words(rng, first + n / 4));
    for (long i = n / 4 * 4; i < n; ++i) x[i] = map(f.v[i % 4]);
  }
}

INLINE void fill_normals(Rng rng, long first, float* x, long n) { fill_blocks(rng, first, x, n, normals, [](float z) { return z; }); }

// The first class whose cumulative weight exceeds u; the last one if rounding left their total below u.
INLINE long choose(float u, const float* cumulative, long classes) {
  long c = 0;
  while (c < classes - 1 && !(u < cumulative[c])) ++c;
  return c;
}

KERNEL(random_uniform) {
  Rng rng = rng_of(buf, dim[1]);
  float *x = out<float>(buf, 1), low = (float)scalar[0], width = (float)(scalar[1] - scalar[0]);
  for_chunks(dim[0], 40, [=](long i, long end) {
    fill_blocks(rng, i / 4, x + i, end - i, uniforms, [=](float u) { return low + width * u; });
  });
}

KERNEL(random_normal) {
  Rng rng = rng_of(buf, dim[1]);
  float *x = out<float>(buf, 1), mean = (float)scalar[0], std = (float)scalar[1];
  for_chunks(dim[0], 80, [=](long i, long end) {
    fill_blocks(rng, i / 4, x + i, end - i, normals, [=](float z) { return mean + std * z; });
  });
}

// What a block of a row-wise op costs, in flops of the vectorised ops: such blocks are made one at a time.
constexpr double BLOCK_COST = 500.0;

KERNEL(random_mixture) {
  Rng rng = rng_of(buf, dim[3]);
  const float *cumulative = in<float>(buf, 1), *means = in<float>(buf, 2), *factors = in<float>(buf, 3);
  float* x = out<float>(buf, 4);
  long Z = dim[1], C = dim[2], stride = 1 + (Z + 3) / 4;
  for_rows(dim[0], BLOCK_COST * stride + Z * Z, [=](long r) {
    float* row = x + r * Z;
    long c = choose(uniform01(words(rng, r * stride).v[0]), cumulative, C);
    fill_normals(rng, r * stride + 1, row, Z);
    for (long j = Z - 1; j >= 0; --j) {  // in place from the end: out[j] needs no normal behind j
      const float* factor = factors + (c * Z + j) * Z;
      float sum = means[c * Z + j];
      for (long k = 0; k <= j; ++k) sum += factor[k] * row[k];
      row[j] = sum;
    }
  });
}

KERNEL(random_swiss_roll) {
  Rng rng = rng_of(buf, dim[1]);
  float *x = out<float>(buf, 1), from = (float)scalar[0], width = (float)(scalar[1] - scalar[0]);
  float radius_per_turn = (float)(scalar[2] / scalar[1]), noise = (float)scalar[3];
  for_rows(dim[0], 200, [=](long r) {
    Random4 w = words(rng, r);
    Normal2 n = box_muller(w.v[2], w.v[3]);
    float t = from + width * sqrt_f(uniform01(w.v[0]));
    float radius = radius_per_turn * t;
    CosSin direction = cos_sin_turn(t - (float)(i32)t);
    x[2 * r] = radius * direction.cos + noise * n.a;
    x[2 * r + 1] = radius * direction.sin + noise * n.b;
  });
}

KERNEL(random_hypersphere) {
  Rng rng = rng_of(buf, dim[2]);
  float *x = out<float>(buf, 1), radius = (float)scalar[0];
  long Z = dim[1], stride = (Z + 3) / 4;
  for_rows(dim[0], BLOCK_COST * stride, [=](long r) {
    float* row = x + r * Z;
    fill_normals(rng, r * stride, row, Z);
    float sum = 0.0f;
    for (long j = 0; j < Z; ++j) sum += row[j] * row[j];
    if (sum == 0.0f) row[0] = sum = 1.0f;  // the first axis, not 0 / 0
    float factor = radius / sqrt_f(sum);
    for (long j = 0; j < Z; ++j) row[j] *= factor;
  });
}

KERNEL(random_categorical) {
  Rng rng = rng_of(buf, dim[2]);
  const float* cumulative = in<float>(buf, 1);
  float* x = out<float>(buf, 2);
  long C = dim[1];
  for_rows(dim[0], BLOCK_COST + C, [=](long r) {
    for (long c = 0; c < C; ++c) x[r * C + c] = 0.0f;
    x[r * C + choose(uniform01(words(rng, r).v[0]), cumulative, C)] = 1.0f;
  });
}

KERNEL(rng_advance) { ++out<u64>(buf, 0)[1]; }
