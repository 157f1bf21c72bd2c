// Which instruction sets this build has and this CPU (with its operating system) can run, best first.
#include "table.h"

namespace aae {

const KernelTable* supported_table(int index) {
  const KernelTable* tables[4];
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (v4 && __builtin_cpu_supports("avx512bf16")) tables[count++] = &table_v4bf16;
  if (v4) tables[count++] = &table_v4;
  if (v3) tables[count++] = &table_v3;
#endif
  tables[count++] = &table_generic;
  return index < count ? tables[index] : nullptr;
}

}  // namespace aae
