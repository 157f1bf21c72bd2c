// Four neighbours of a row: one access of 16 bytes where the memory allows it, else as many as there are, one by one.
#pragma once

#include "device.cuh"

struct Quad {
  float v[4];
};

// Whether every row of `stride` floats from p on begins at a multiple of 16 bytes.
DEVICE bool is_wide(const float* p, int stride) { return stride % 4 == 0 && is_aligned16(p); }

DEVICE Quad load_quad(const float* p, int n, bool wide) {
  Quad q = {{0.0f, 0.0f, 0.0f, 0.0f}};
  if (wide) {
    const float4 f = load4(p);
    q.v[0] = f.x, q.v[1] = f.y, q.v[2] = f.z, q.v[3] = f.w;
  } else {
    UNROLL
    for (int j = 0; j < 4; j++)
      if (j < n) q.v[j] = p[j];
  }
  return q;
}

DEVICE void store_quad(float* p, const Quad& q, int n, bool wide) {
  if (wide) return store4(p, make_float4(q.v[0], q.v[1], q.v[2], q.v[3]));
  UNROLL
  for (int j = 0; j < 4; j++)
    if (j < n) p[j] = q.v[j];
}
