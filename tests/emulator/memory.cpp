// Shared memory of the block under way, and the device's global memory.
#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace emu {
char* shared_memory = nullptr;
std::map<uintptr_t, Buffer> buffers;

namespace {
constexpr size_t GUARD = 4096;  // bytes after a buffer that belong to nobody

void open_region(const Region& region) {
  EMU_UNPOISON(shared_memory + region.at, region.bytes);
  memset(shared_memory + region.at, 0xff, region.bytes);  // NaN: shared memory begins as garbage
}
}  // namespace

char* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  return static_cast<char*>(p);
}

void start_shared() {
  if (!shared_memory) shared_memory = reserve(SHARED_ARENA);
  EMU_POISON(shared_memory, SHARED_ARENA);
  for (const Region& region : block.regions) open_region(region);
}
void* dynamic_shared() { return shared_memory; }
void* static_shared(const void* key, size_t bytes) {
  size_t total = 0;
  for (const Region& region : block.regions) {
    if (region.key == key) return shared_memory + region.at;
    if (region.key) total += region.bytes;
  }
  total += bytes;
  if (total > STATIC_LIMIT) fail("%zu bytes of static shared memory, and there are %zu", total, STATIC_LIMIT);
  if (total + block.launch.shared > SHARED_LIMIT)
    fail("%zu bytes of shared memory, and there are %zu", total + block.launch.shared, SHARED_LIMIT);
  const Region region = {key, block.shared_used, bytes};
  block.regions.push_back(region);
  block.shared_used += (bytes + GAP + 15) & ~size_t(15);
  open_region(region);
  return shared_memory + region.at;
}

Buffer* find_buffer(uintptr_t p) {
  auto it = buffers.upper_bound(p);
  if (it == buffers.begin()) return nullptr;
  Buffer& b = std::prev(it)->second;
  return p - b.base < b.bytes + GUARD ? &b : nullptr;
}
}  // namespace emu

EMU_API void* emu_malloc(size_t bytes) {
  const size_t whole = (bytes + emu::GUARD + 255) / 256 * 256;
  char* const p = static_cast<char*>(aligned_alloc(256, whole));
  if (!p) return nullptr;
  memset(p, 0xff, bytes);
  EMU_POISON(p + bytes, whole - bytes);
  emu::Buffer& buffer = emu::buffers[uintptr_t(p)];
  buffer.base = uintptr_t(p);
  buffer.bytes = bytes;
  return p;
}
EMU_API void emu_free(void* p) {
#ifdef EMU_CHECK
  emu::forget_buffers();
#endif
  emu::buffers.erase(uintptr_t(p));
  free(p);
}
EMU_API int emu_contains(uintptr_t p, size_t bytes) {
  const emu::Buffer* buffer = emu::find_buffer(p);
  return buffer && p + bytes <= buffer->base + buffer->bytes;
}
EMU_API size_t emu_allocated() {
  size_t bytes = 0;
  for (auto& [base, buffer] : emu::buffers) bytes += buffer.bytes;
  return bytes;
}
