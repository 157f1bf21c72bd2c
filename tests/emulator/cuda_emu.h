// What kernels/cuda/device.cuh gives a kernel on a GPU, for g++: every CUDA thread of a block is a fiber, and barriers and warp-wide
// operations are where fibers wait for each other. One OS thread, and for a given seed always the same schedule.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#define EMU_API extern "C" __attribute__((visibility("default")))  // for Python: all else is hidden
#define EMU_RAW __attribute__((no_sanitize("thread")))             // the emulator's own memory accesses are none of the kernel's
#ifdef EMU_CHECK
// Checked build: plain accesses report themselves, through the hooks that -fsanitize=thread puts before each of them. A wide access, which is
// four floats to g++, is reported as one, at the program counter of its caller.
#define EMU_HOOK __attribute__((noinline)) EMU_RAW
#define EMU_TOUCH(p, bytes, access) emu::touch(p, bytes, emu::access, __builtin_return_address(0))
#define EMU_PC __builtin_return_address(0)
#else
#define EMU_HOOK
#define EMU_TOUCH(p, bytes, access)
#define EMU_PC nullptr
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emu {
struct Site { const char* file; int line; };
#define EMU_SITE emu::Site site = {__builtin_FILE(), __builtin_LINE()}  // a default argument: where the call is

struct Thread {
  uint3 thread, block;
  dim3 threads, blocks;
  int lane;
};
extern Thread* current;

enum Access { READ, WRITE };
void touch(const volatile void* p, size_t bytes, Access access, void* pc);

void barrier(Site site);
// All lanes of `mask` meet; the last one to come runs `combine` over what every lane brought.
using Combine = void (*)(void* const* lanes, unsigned mask);
void meet(const char* operation, unsigned mask, void* brought, Combine combine, bool orders_memory, Site site);
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));  // reports, and ends the launch

void* static_shared(const void* key, size_t bytes);
void* dynamic_shared();
void begin_copy(void* to, const void* from, int bytes, void* pc);  // zeros if from is null
void commit_copies();
void wait_copies(int pending);

template <class T> struct Exchange { T in, out; int from; };
template <class T> EMU_RAW T shuffle(const char* operation, unsigned mask, T value, int from, Site site) {
  Exchange<T> own{value, value, from};
  auto combine = [](void* const* lanes, unsigned m) EMU_RAW {
    for (int lane = 0; lane < 32; lane++) {
      if (!(m >> lane & 1)) continue;
      auto* to = static_cast<Exchange<T>*>(lanes[lane]);
      if (!(m >> to->from & 1)) fail("shuffle: lane %d reads lane %d, which is not in mask %08x", lane, to->from, m);
      to->out = static_cast<Exchange<T>*>(lanes[to->from])->in;
    }
  };
  meet(operation, mask, &own, combine, false, site);
  return own.out;
}

struct Fragments { float d[4]; unsigned a[4], b[2]; };
void multiply_tf32(void* const* lanes, unsigned mask);
void multiply_bf16(void* const* lanes, unsigned mask);
inline EMU_RAW __attribute__((always_inline)) void multiply(const char* operation, Combine combine, float (&d)[4], const unsigned (&a)[4],
                                                            const unsigned (&b)[2], Site site) {
  // Copies, so that the accumulators of the kernel can stay in registers.
  Fragments own = {{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  meet(operation, ~0u, &own, combine, false, site);
  for (int i = 0; i < 4; i++) d[i] = own.d[i];
}

// -------------------------------------------------------------------------------------------------------------- launches

struct Launch {
  unsigned grid[2], threads, shared;
  uint64_t seed;
};
int run(const Launch& launch, void (*body)(void*), void* argument);  // the number of reports

template <class... A, size_t... I> EMU_RAW void call(void (*kernel)(A...), void* const* arguments, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(arguments[I])...);
}
template <class... A> EMU_RAW int launch(const Launch& l, void (*kernel)(A...), void* const* arguments) {
  struct Call { void (*kernel)(A...); void* const* arguments; } c{kernel, arguments};
  auto body = [](void* p) EMU_RAW {
    auto* own = static_cast<Call*>(p);
    call(own->kernel, own->arguments, std::index_sequence_for<A...>{});
  };
  return run(l, body, &c);
}
template <class T> constexpr char kind() {
  static_assert(std::is_pointer_v<T> || std::is_same_v<T, int> || std::is_same_v<T, double>, "parameters are pointers, int and double");
  return std::is_pointer_v<T> ? 'p' : std::is_same_v<T, int> ? 'i' : 'd';
}
template <class... A> const char* signature(void (*)(A...)) {
  static const char kinds[] = {kind<A>()..., 0};
  return kinds;
}
}  // namespace emu

// ------------------------------------------------------------------------------------------------------ the compiler's part

#define KERNEL_BLOCKS(name, bound, blocks, ...) KERNEL(name, bound, __VA_ARGS__)
#define KERNEL(name, bound, ...)                                                                                             \
  static void name(__VA_ARGS__);                                                                                             \
  EMU_API int emu_launch_##name(const emu::Launch* launch, void* const* arguments) { return emu::launch(*launch, name, arguments); } \
  EMU_API const char* emu_sig_##name() { return emu::signature(name); }                                                      \
  EMU_API const char* emu_source_##name() { return __builtin_FILE(); }                                                       \
  EMU_API int emu_threads_##name() { return bound; }                                                                         \
  static void name(__VA_ARGS__)
// Inlined by force as on the GPU; and no function is left over for the linker to take one file's for another's of the same name.
#define DEVICE inline __attribute__((always_inline))
#ifdef EMU_UNROLL
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif
#define NO_UNROLL _Pragma("GCC unroll 1")
#define UNROLL_8 NO_UNROLL
#define STATIC_SHARED(T, name, n)       \
  static const char emu_key_##name = 0; \
  T* const name = static_cast<T*>(emu::static_shared(&emu_key_##name, sizeof(T) * (n)))
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emu::dynamic_shared())
#ifndef HAS_SM80
#define HAS_SM80 1
#endif

#define threadIdx (emu::current->thread)
#define blockIdx (emu::current->block)
#define blockDim (emu::current->threads)
#define gridDim (emu::current->blocks)

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }

// ---------------------------------------------------------------------------------------- synchronisation, shuffles

inline void __syncthreads(EMU_SITE) { emu::barrier(site); }
inline void __syncwarp(unsigned mask = ~0u, EMU_SITE) { emu::meet("__syncwarp", mask, nullptr, nullptr, true, site); }
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes, EMU_SITE) {
  return emu::shuffle("__shfl_xor_sync", mask, value, (emu::current->lane ^ lanes) % 32, site);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned lanes, EMU_SITE) {
  const int lane = emu::current->lane, from = lane + static_cast<int>(lanes);
  return emu::shuffle("__shfl_down_sync", mask, value, from < 32 ? from : lane, site);
}

// ------------------------------------------------------------------------------------------------ wide memory access

inline EMU_HOOK float4 load4(const float* p) {
  EMU_TOUCH(p, 16, READ);
  return {p[0], p[1], p[2], p[3]};
}
inline EMU_HOOK float2 load2(const float* p) {
  EMU_TOUCH(p, 8, READ);
  return {p[0], p[1]};
}
inline EMU_HOOK void store4(float* p, float4 v) {
  EMU_TOUCH(p, 16, WRITE);
  p[0] = v.x, p[1] = v.y, p[2] = v.z, p[3] = v.w;
}
inline EMU_HOOK void store2(float* p, float2 v) {
  EMU_TOUCH(p, 8, WRITE);
  p[0] = v.x, p[1] = v.y;
}
inline void prefetch(const float*) {}  // changes no result
inline bool is_aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// ------------------------------------------------------------------------------- asynchronous copy, global -> shared

#if HAS_SM80
template <int N> EMU_HOOK void copy_async(float* shared, const float* global, bool inside) {
  static_assert(N == 4 || N == 16, "bytes of a copy");
  emu::begin_copy(shared, inside ? global : nullptr, N, EMU_PC);
}
inline void commit_copies() { emu::commit_copies(); }
template <int PENDING> void wait_copies() { emu::wait_copies(PENDING); }
#else
template <int N> DEVICE void copy_async(float* shared, const float* global, bool inside) {
  static_assert(N == 4 || N == 16, "bytes of a copy");
  if (N == 16) store4(shared, inside ? load4(global) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
  else *shared = inside ? *global : 0.0f;
}
inline void commit_copies() {}
template <int PENDING> void wait_copies() {}
#endif

// ------------------------------------------------------------------------------------------------------ tensor cores

#if HAS_SM80
inline EMU_RAW unsigned emu_bits(float x) {
  unsigned bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
inline EMU_RAW unsigned round_tf32(float x) {
  return x - x != 0.0f ? emu_bits(x) : (emu_bits(x) + 0x1000u) & ~0x1fffu;  // infinity and NaN stay
}
inline EMU_RAW unsigned emu_bf16(float x) {
  const unsigned bits = emu_bits(x);
  return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline EMU_RAW unsigned pack_bf16(float low, float high) { return emu_bf16(high) << 16 | emu_bf16(low); }
DEVICE void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_SITE) {
  emu::multiply("mma_tf32", emu::multiply_tf32, d, a, b, site);
}
DEVICE void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_SITE) {
  emu::multiply("mma_bf16", emu::multiply_bf16, d, a, b, site);
}
#endif
