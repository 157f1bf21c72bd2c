// Counter-based random numbers, the same bits for every instruction set, number of threads and device.
//
// The generator. The `rng` buffer holds {seed, counter}. Block b of a stream is the 4 words of philox(seed, counter, stream, b), b of
// 32 bits; an op uses the blocks below and no state, and rng_advance moves every stream on. u is uniform01(word) in [0, 1). Normals
// 4k ... 4k + 3 of a sequence come from block k: words (0, 1) give two of them by box_muller, words (2, 3) the other two.
// All arithmetic is float, unfused, in the order written here; scalars combined in brackets are combined in double and rounded once.
//
//   uniform      element i: word i % 4 of block i / 4;  low + [high - low] u
//   normal       element i: normal i, from block 0 on;  mean + std n
//   bernoulli    element i: 1 where u of word i % 4 of block i / 4 is below its p, else 0
//   Row r of the others owns the blocks r * stride ... r * stride + stride - 1:
//   mixture      stride 1 + ceil(Z / 4): u of word 0 of block 0 chooses c, the first class with u < cumulative[c], or the last class;
//                normals n from block 1 on;  out[j] = mean[c][j] + factor[c][j][0] n[0] + ... + factor[c][j][j] n[j], left to right
//   swiss roll   stride 1: t = turns_from + [turns_to - turns_from] sqrt(u) of word 0, words (2, 3) give normals n;
//                out = ([radius / turns_to] t) (cos, sin)(2 pi frac(t)) + noise n, for turns >= 0
//   hypersphere  stride ceil(Z / 4): normals n from block 0 on;  out[j] = n[j] (radius / sqrt(n[0]^2 + n[1]^2 + ...)), left to right;
//                if that sum is 0, radius times the first axis
//   categorical  stride 1: u of word 0 chooses the class as in mixture; out is 1 there and 0 elsewhere
//
// What has labels uses the same blocks and words, so a row without one is what it would be anyway: the mixture does not look at u where a
// class is given, and the roll takes (class + u) / parts for u. What changes numbers that are there:
//   noise        element i: x + std n, n normal i as above
//   dropout      element i: x [1 / (1 - rate)] where u of word i % 4 of block i / 4 is at least rate, else 0
//   translate    stride 1: row r moves down by floor([2 most + 1] u) - most pixels, u of word 0, and right by the same of word 1

struct Rng {
  u64 seed, counter;
  u32 stream;
};
INLINE Rng rng_of(Buffers buf, int64_t stream) {
  const u64* state = in<u64>(buf, 0);
  return {state[0], state[1], (u32)stream};
}
INLINE Random4 words(Rng rng, long block) { return philox(rng.seed, rng.counter, rng.stream, (u32)block); }

// The words of VL / 2 blocks from `first` on, philox() of each, a block in each lane: of its 64 bits the lower half counts.
INLINE void words_of_some(Rng rng, long first, u32* w) {
  Words c0 = splat_word((u64)first), c1 = splat_word(rng.stream), c2 = splat_word((u32)rng.counter), c3 = splat_word(rng.counter >> 32);
  for (int i = 0; i < VL / 2; ++i) c0[i] += i;
  u32 k0 = (u32)rng.seed, k1 = (u32)(rng.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    Words p0 = low_products(c0, splat_word(0xD2511F53u)), p1 = low_products(c2, splat_word(0xCD9E8D57u));
    c0 = (p1 >> 32) ^ c1 ^ splat_word(k0);
    c2 = (p0 >> 32) ^ c3 ^ splat_word(k1);
    c1 = p1, c3 = p0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  Words low = splat_word(0xFFFFFFFFu), first_two = (c0 & low) | (c1 << 32), last_two = (c2 & low) | (c3 << 32);
  store((float*)w, interleave_pairs_low((V)first_two, (V)last_two));
  store((float*)w + VL, interleave_pairs_high((V)first_two, (V)last_two));
}

constexpr long SOME = 2 * VL;

// Elements from their words, n of them and, if n is odd, one more: types, so that whoever is given one compiles it in.
struct Uniforms {
  INLINE_MEMBER void operator()(const u32* w, float* x, long n) const {
    for (long i = 0; i < n; ++i) x[i] = uniform01(w[i]);
  }
};
struct Normals {
  INLINE_MEMBER void operator()(const u32* w, float* x, long n) const {
    for (long i = 0; i < (n + 1) / 2; ++i) {
      Normal2 two = box_muller(w[2 * i], w[2 * i + 1]);
      x[2 * i] = two.a;
      x[2 * i + 1] = two.b;
    }
  }
};

INLINE void fill_normals(Rng rng, long first, float* x, long n) {
  for (long i = 0; i < n; i += SOME) {
    u32 w[SOME];
    float f[SOME];
    words_of_some(rng, first + i / 4, w);
    Normals()(w, f, SOME);
    for (long j = 0; j < min_l(SOME, n - i); ++j) x[i + j] = f[j];
  }
}

// put(i, element i) for all i < n, in chunks, a part of one at a time: the loops over its words, its elements and what is made of them vectorise.
template <class F, class P> INLINE void for_random(Rng rng, long n, double flops_per_element, F elements, P put) {
  for_chunks(n, flops_per_element, [&](long begin, long end) {
    constexpr long PART = 512;
    P local = put;
    u32 w[PART];
    float f[PART];
    for (; begin < end; begin += PART) {
      long count = min_l(PART, end - begin);
      for (long i = 0; i < count; i += SOME) words_of_some(rng, (begin + i) / 4, w + i);
      elements(w, f, count);
#pragma GCC ivdep
      for (long i = 0; i < count; ++i) local(begin + i, f[i]);
    }
  });
}

// The first class whose cumulative weight exceeds u; the last one if rounding left their total below u.
INLINE long choose(float u, const float* cumulative, long classes) {
  long c = 0;
  while (c < classes - 1 && !(u < cumulative[c])) ++c;
  return c;
}

// The classes of rows: none has one, or the first column of `like` with a number above 1/2 tells, if it is below `classes`. -1 is none.
struct NoClasses {
  INLINE_MEMBER long operator()(long) const { return -1; }
};
struct Classes {
  const float* like;
  long columns, classes;
  INLINE_MEMBER long operator()(long r) const {
    long c = 0;
    while (c < columns && !(like[r * columns + c] > 0.5f)) ++c;
    return c < min_l(columns, classes) ? c : -1;
  }
};

KERNEL(random_uniform) {
  float *x = out<float>(buf, 1), low = (float)scalar[0], width = (float)(scalar[1] - scalar[0]);
  for_random(rng_of(buf, dim[1]), dim[0], 40, Uniforms(), [=](long i, float u) { x[i] = low + width * u; });
}

KERNEL(random_normal) {
  float *x = out<float>(buf, 1), mean = (float)scalar[0], std = (float)scalar[1];
  for_random(rng_of(buf, dim[1]), dim[0], 80, Normals(), [=](long i, float z) { x[i] = mean + std * z; });
}

KERNEL(random_bernoulli) {
  const float* p = in<float>(buf, 1);
  float* x = out<float>(buf, 2);
  for_random(rng_of(buf, dim[1]), dim[0], 41, Uniforms(), [=](long i, float u) { x[i] = u < p[i] ? 1.0f : 0.0f; });
}

KERNEL(add_noise) {
  const float* x = in<float>(buf, 1);
  float *y = out<float>(buf, 2), std = (float)scalar[0];
  for_random(rng_of(buf, dim[1]), dim[0], 80, Normals(), [=](long i, float z) { y[i] = x[i] + std * z; });
}

KERNEL(dropout) {
  const float* x = in<float>(buf, 1);
  float *y = out<float>(buf, 2), rate = (float)scalar[0], factor = (float)(1.0 / (1.0 - scalar[0]));
  with_beta(dim[2], [&](auto beta) {
    for_random(rng_of(buf, dim[1]), dim[0], 42, Uniforms(), [=](long i, float u) {
      put(beta, y[i], u >= rate ? x[i] * factor : 0.0f);
    });
  });
}

// What a block of a row-wise op costs, in flops of the vectorised ops: a row has few of them.
constexpr double BLOCK_COST = 500.0;

struct Components {
  const float *cumulative, *means, *factors;
  long Z, C;
};

template <class G> INLINE void fill_mixture(Rng rng, Components mixture, G class_of, float* x, long rows) {
  long Z = mixture.Z, stride = 1 + (Z + 3) / 4;
  for_rows(rows, BLOCK_COST * stride + Z * Z, [=](long r) {
    float* row = x + r * Z;
    long given = class_of(r), c = given < 0 ? choose(uniform01(words(rng, r * stride).v[0]), mixture.cumulative, mixture.C) : given;
    fill_normals(rng, r * stride + 1, row, Z);
    for (long j = Z - 1; j >= 0; --j) {  // in place from the end: out[j] needs no normal behind j
      const float* factor = mixture.factors + (c * Z + j) * Z;
      float sum = mixture.means[c * Z + j];
      for (long k = 0; k <= j; ++k) sum += factor[k] * row[k];
      row[j] = sum;
    }
  });
}

KERNEL(random_mixture) {
  Components mixture = {in<float>(buf, 1), in<float>(buf, 2), in<float>(buf, 3), dim[1], dim[2]};
  fill_mixture(rng_of(buf, dim[3]), mixture, NoClasses(), out<float>(buf, 4), dim[0]);
}

KERNEL(random_mixture_of) {
  Components mixture = {in<float>(buf, 1), in<float>(buf, 2), in<float>(buf, 3), dim[1], dim[2]};
  fill_mixture(rng_of(buf, dim[5]), mixture, Classes{in<float>(buf, 4), dim[3], dim[4]}, out<float>(buf, 5), dim[0]);
}

// The scalars are turns_from, turns_to, radius, noise.
template <class G> INLINE void fill_swiss_roll(Rng rng, Scalars scalar, G class_of, float parts, float* x, long rows) {
  float from = (float)scalar[0], width = (float)(scalar[1] - scalar[0]);
  float radius_per_turn = (float)(scalar[2] / scalar[1]), noise = (float)scalar[3];
  for_rows(rows, 200, [=](long r) {
    Random4 w = words(rng, r);
    Normal2 n = box_muller(w.v[2], w.v[3]);
    float u = uniform01(w.v[0]);
    long given = class_of(r);
    float t = from + width * sqrt_f(given < 0 ? u : ((float)given + u) / parts);
    float radius = radius_per_turn * t;
    CosSin direction = cos_sin_turn(t - (float)(i32)t);
    x[2 * r] = radius * direction.cos + noise * n.a;
    x[2 * r + 1] = radius * direction.sin + noise * n.b;
  });
}

KERNEL(random_swiss_roll) { fill_swiss_roll(rng_of(buf, dim[1]), scalar, NoClasses(), 1.0f, out<float>(buf, 1), dim[0]); }

KERNEL(random_swiss_roll_of) {
  Classes classes = {in<float>(buf, 1), dim[1], dim[2]};
  fill_swiss_roll(rng_of(buf, dim[3]), scalar, classes, (float)dim[2], out<float>(buf, 2), dim[0]);
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

// Pixels that an image moves by: each number from -most to most is as likely. The product stays below 2 most + 1.
INLINE long move_of(u32 word, long most) { return (long)((float)(2 * most + 1) * uniform01(word)) - most; }

KERNEL(translate) {
  Rng rng = rng_of(buf, dim[5]);
  const float* x = in<float>(buf, 1);
  float* y = out<float>(buf, 2);
  long N = dim[1], height = dim[2], width = dim[3], most = dim[4], line = N / height, numbers = line / width;
  for_rows(dim[0], BLOCK_COST + N, [=](long r) {
    Random4 w = words(rng, r);
    long down = move_of(w.v[0], most), right = move_of(w.v[1], most) * numbers;
    long begin = min_l(max_l(right, 0), line), end = max_l(min_l(line + right, line), begin);  // of a line that is filled
    for (long h = 0; h < height; ++h) {
      float* to = y + r * N + h * line;
      bool comes = h >= down && h - down < height;
      const float* from = x + r * N + (h - down) * line - right;
      for (long i = 0; i < (comes ? begin : line); ++i) to[i] = 0.0f;
      if (!comes) continue;
#pragma GCC ivdep
      for (long i = begin; i < end; ++i) to[i] = from[i];
      for (long i = end; i < line; ++i) to[i] = 0.0f;
    }
  });
}

KERNEL(rng_advance) { ++out<u64>(buf, 0)[1]; }
