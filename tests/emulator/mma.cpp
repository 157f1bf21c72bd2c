// Tensor cores: d (16 x 8) += a (16 x K) b (K x 8), fragments laid out over the lanes as in the PTX manual.
#include "internal.h"

#include <cmath>
#include <cstring>

namespace emu {
namespace {
typedef double Row __attribute__((vector_size(64)));  // 8 numbers: left to itself g++ vectorizes along the wrong index

float from_bits(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
float tf32(unsigned bits) { return from_bits(bits & ~0x1fffu); }  // the hardware ignores the low bits

// A tensor core does not round to nearest. Toward zero is the worst that it may do.
float round_to_zero(double sum) {
  float rounded = float(sum);
  if (std::fabs(double(rounded)) <= std::fabs(sum) || sum != sum) return rounded;
  unsigned bits;
  memcpy(&bits, &rounded, 4);
  return from_bits(bits - 1);
}

// Products are exact in double, and their sum is as good as exact.
template <int K> void multiply_add(void* const* lanes, const double (&a)[16][K], const Row (&b)[K]) {
  Row sums[16];
  for (int lane = 0; lane < 32; lane++)
    for (int r = 0; r < 4; r++) sums[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2] = static_cast<Fragments*>(lanes[lane])->d[r];
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < K; k++) sums[i] += a[i][k] * b[k];
  for (int lane = 0; lane < 32; lane++)
    for (int r = 0; r < 4; r++) static_cast<Fragments*>(lanes[lane])->d[r] = round_to_zero(sums[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2]);
}
}  // namespace

void multiply_tf32(void* const* lanes, unsigned) {
  double a[16][8];
  Row b[8];
  for (int lane = 0; lane < 32; lane++) {
    const Fragments& f = *static_cast<Fragments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; r++) a[g + r % 2 * 8][t + r / 2 * 4] = tf32(f.a[r]);
    for (int r = 0; r < 2; r++) b[t + r * 4][g] = tf32(f.b[r]);
  }
  multiply_add<8>(lanes, a, b);
}

void multiply_bf16(void* const* lanes, unsigned) {
  double a[16][16];
  Row b[16];
  for (int lane = 0; lane < 32; lane++) {
    const Fragments& f = *static_cast<Fragments*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; r++)
      for (int half = 0; half < 2; half++)
        a[g + r % 2 * 8][2 * t + half + r / 2 * 8] = from_bits(half ? f.a[r] & 0xffff0000u : f.a[r] << 16);
    for (int r = 0; r < 2; r++)
      for (int half = 0; half < 2; half++) b[2 * t + half + r * 8][g] = from_bits(half ? f.b[r] & 0xffff0000u : f.b[r] << 16);
  }
  multiply_add<16>(lanes, a, b);
}
}  // namespace emu
