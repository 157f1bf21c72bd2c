// Which instruction sets this build has and this CPU (with its operating system) can run, best first.
#include "table.h"

namespace aae {

#if defined(__x86_64__)
// What a level asks for is what setup.py compiles its file with, not the whole of the level: a virtual machine may hide the rest.
#define AAE_HAS(feature) __builtin_cpu_supports(feature)

const char* missing_feature() {
  __builtin_cpu_init();
  if (!AAE_HAS("ssse3")) return "ssse3";
  if (!AAE_HAS("sse4.1")) return "sse4.1";
  if (!AAE_HAS("sse4.2")) return "sse4.2";
  return AAE_HAS("popcnt") ? nullptr : "popcnt";
}

const KernelTable* supported_table(int index) {
  const KernelTable* tables[4];
  int count = 0;
  bool v2 = !missing_feature();
  bool v3 = v2 && AAE_HAS("avx2") && AAE_HAS("fma") && AAE_HAS("bmi2");
  bool v4 = v3 && AAE_HAS("avx512f") && AAE_HAS("avx512bw") && AAE_HAS("avx512cd") && AAE_HAS("avx512dq") && AAE_HAS("avx512vl");
  if (v4 && AAE_HAS("avx512bf16")) tables[count++] = &table_v4bf16;
  if (v4) tables[count++] = &table_v4;
  if (v3) tables[count++] = &table_v3;
  if (v2) tables[count++] = &table_v2;
  return index < count ? tables[index] : nullptr;
}
#else
const char* missing_feature() { return nullptr; }

const KernelTable* supported_table(int index) {
#if defined(__aarch64__)
  return index == 0 ? &table_neon : nullptr;
#else
  return index == 0 ? &table_generic : nullptr;
#endif
}
#endif

}  // namespace aae
