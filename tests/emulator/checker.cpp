// Checked build: races, bounds, alignment and initialisation of every memory access, fed by the hooks of -fsanitize=thread (the compiler's
// half of ThreadSanitizer alone: its library is not linked).
#include "memory.h"

#include <algorithm>
#include <set>

extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start[], _end[];  // of this library, by the linker

namespace emu {
namespace {
std::vector<Cell> shared_cells;
std::set<std::pair<uint32_t, uint32_t>> reported;  // once for each pair of places in the program

// Graphs: nodes that have started in this replay, in order of time, and what the one under way comes after.
struct Started { uint32_t time; int node; };
std::vector<Started> started;
const uint8_t* is_before = nullptr;  // a bit for each node

// The buffer last found in each stretch of 16 KB.
constexpr size_t STRETCHES = 64;
Buffer* recent[STRETCHES];

Buffer* find_recent(uintptr_t p) {
  Buffer*& b = recent[p >> 14 & (STRETCHES - 1)];
  if (!b || p - b->base >= b->bytes) b = find_buffer(p);
  return b;
}

int node_at(uint32_t time) {
  auto after = std::upper_bound(started.begin(), started.end(), time, [](uint32_t t, const Started& s) { return t < s.time; });
  return after == started.begin() ? -1 : std::prev(after)->node;
}
bool is_ordered_before(uint32_t time) {
  const int node = node_at(time);
  return node < 0 || is_before[node / 8] >> node % 8 & 1;
}

void report_race(const char* space, const char* what, const Stamp& other, const Stamp& own) {
  if (!reported.insert({other.pc, own.pc}).second) return;
  std::string where = "thread " + std::to_string(other.thread) + " of the same block";
  if (other.time < clock.launch) where = "node " + std::to_string(node_at(other.time)) + " of the graph, which it does not come after,";
  else if (other.time < clock.block) where = "thread " + std::to_string(other.thread) + " of another block";
  note("race in %s memory: %s; the other access by %s at pc 0x%x, this one at pc 0x%x", space, what, where.c_str(), other.pc, own.pc);
}

// Whether nothing orders an access before the one of `own`.
bool is_concurrent(const Stamp& other, const Stamp& own, bool lanes, bool warps) {
  if (other.time < clock.replay) return false;
  if (other.time < clock.launch) return !is_ordered_before(other.time);
  if (other.time < clock.block) return true;
  if (other.time < clock.barrier) return false;
  if (warps || other.thread / 32 != own.thread / 32) return true;
  return other.time == own.time && (lanes || other.thread != own.thread);
}

void remember_reader(Cell& c, const Stamp& own, uint8_t bytes) {
  if (c.read.time < clock.launch && c.read.time >= clock.replay && c.bytes_read) c.earlier.push_back(c.read);
  if (c.read.time < clock.barrier) {
    if (c.read.time < clock.launch) c.blocks = false;
    else if (c.read.time < clock.block) c.blocks = true;
    if (!c.blocks) c.bytes_read = 0;
    c.lanes = c.warps = false;
  } else if (c.read.thread / 32 != own.thread / 32) {
    c.warps = true;
  } else if (c.read.time != own.time) {
    c.lanes = false;
  } else if (c.read.thread != own.thread) {
    c.lanes = true;
  }
  c.read = own;
  c.bytes_read |= bytes;
}

void check_cell(Cell& c, const Stamp& own, Access access, uint8_t bytes, const char* space) {
  if (c.in_flight && c.write.time >= clock.block) report_race(space, "the destination of a copy_async, before its wait", c.write, own);
  if (access == READ) {
    if (c.bytes_written & bytes && is_concurrent(c.write, own, false, false)) report_race(space, "read after unordered write", c.write, own);
    return remember_reader(c, own, bytes);
  }
  if (c.bytes_written & bytes && is_concurrent(c.write, own, false, false)) report_race(space, "write after unordered write", c.write, own);
  const bool other_blocks = c.blocks && c.read.time >= clock.launch;
  if (c.bytes_read & bytes && (other_blocks || is_concurrent(c.read, own, c.lanes, c.warps)))
    report_race(space, "write after unordered read", c.read, own);
  for (const Stamp& reader : c.earlier)
    if (is_concurrent(reader, own, false, false)) report_race(space, "write after unordered read", reader, own);
  c.earlier.clear();
  if (c.write.time < clock.barrier) c.bytes_written = 0;
  c.write = own;
  c.bytes_written |= bytes;
}

void check_cells(std::vector<Cell>& cells, size_t at, size_t bytes, Access access, const Stamp& own, const char* space) {
  for (size_t i = at; i < at + bytes;) {
    const size_t end = std::min(at + bytes, (i | 3) + 1);
    check_cell(cells[i / 4], own, access, uint8_t(((1 << (end - i)) - 1) << (i % 4)), space);
    i = end;
  }
}

void touch_shared(size_t at, size_t bytes, size_t align, Access access, const Stamp& own) {
  const char* verb = access == READ ? "read" : "write";
  bool inside = false;
  for (const Region& r : block.regions) inside |= at >= r.at && at + bytes <= r.at + r.bytes;
  if (!inside) fail("out-of-bounds shared %s of %zu bytes at pc 0x%x", verb, bytes, own.pc);
  if (at % align) fail("misaligned shared %s of %zu bytes at pc 0x%x", verb, bytes, own.pc);
  if (profiling) record(self(), own.pc, at, bytes, true, access == WRITE);
  if (shared_cells.empty()) shared_cells.resize(SHARED_ARENA / 4);
  for (size_t i = at / 4; i <= (at + bytes - 1) / 4; i++) {  // what a block before left there is nobody's
    Cell& c = shared_cells[i];
    if (std::max(c.write.time, c.read.time) < clock.block) c = Cell();
  }
  if (access == READ)
    for (size_t i = at / 4; i <= (at + bytes - 1) / 4; i++)
      if (shared_cells[i].write.time < clock.block && reported.insert({own.pc, 0}).second)
        note("read of uninitialised shared memory at pc 0x%x", own.pc);
  check_cells(shared_cells, at, bytes, access, own, "shared");
}

void touch_global(uintptr_t p, size_t bytes, size_t align, Access access, const Stamp& own) {
  const char* verb = access == READ ? "read" : "write";
  Buffer* b = find_recent(p);
  if (!b) fail("illegal global %s of %zu bytes: %p is in no buffer, at pc 0x%x", verb, bytes, reinterpret_cast<void*>(p), own.pc);
  if (p + bytes > b->base + b->bytes)
    fail("out-of-bounds global %s of %zu bytes, the last one %zu bytes past a buffer of %zu, at pc 0x%x", verb, bytes,
         p + bytes - b->base - b->bytes, b->bytes, own.pc);
  if (p % align) fail("misaligned global %s of %zu bytes at pc 0x%x", verb, bytes, own.pc);
  if (profiling) record(self(), own.pc, p, bytes, false, access == WRITE);
  if (b->cells.empty()) b->cells.resize((b->bytes + 3) / 4);
  check_cells(b->cells, p - b->base, bytes, access, own, "global");
}

void touch_aligned(const volatile void* pointer, size_t bytes, size_t align, Access access, void* pc) {
  const uintptr_t p = reinterpret_cast<uintptr_t>(pointer), image = reinterpret_cast<uintptr_t>(__ehdr_start);
  if (p - reinterpret_cast<uintptr_t>(stacks) < stacks_bytes) return;        // local variables
  if (p - image < reinterpret_cast<uintptr_t>(_end) - image) return;         // constants, and threadIdx and its like
  if (!current) return;
  const Fiber& f = self();
  const uint32_t time = std::max(clock.barrier, clock.warp[f.warp]);
  const Stamp own = {time, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - image), static_cast<uint16_t>(f.number)};
  const size_t at = p - reinterpret_cast<uintptr_t>(shared_memory);
  if (at < SHARED_ARENA) touch_shared(at, bytes, align, access, own);
  else touch_global(p, bytes, align, access, own);
}
}  // namespace

void touch(const volatile void* p, size_t bytes, Access access, void* pc) { touch_aligned(p, bytes, bytes, access, pc); }
void mark_in_flight(void* to, int bytes, bool on) {
  const size_t first = (static_cast<char*>(to) - shared_memory) / 4;
  for (int i = 0; i < bytes / 4; i++) shared_cells[first + i].in_flight = on;
}
void clear_reports() { reported.clear(); }
void forget_buffers() {
  for (Buffer*& b : recent) b = nullptr;
}
}  // namespace emu

// What is launched from here on, up to the end, is the nodes of one graph.
EMU_API void emu_replay(int on) {
  emu::started.clear();
  emu::clock.replay = on ? ++emu::clock.now : 0;
}
// Before the launch of a node. `before` has to stay until it is done.
EMU_API void emu_node(int node, const uint8_t* before) {
  emu::started.push_back({emu::clock.now + 1, node});
  emu::is_before = before;
}

extern "C" {
#define HOOK(name, bytes, access) \
  void name(void* p) { emu::touch(p, bytes, emu::access, __builtin_return_address(0)); }
#define HOOKS(bytes)                            \
  HOOK(__tsan_read##bytes, bytes, READ)         \
  HOOK(__tsan_write##bytes, bytes, WRITE)       \
  HOOK(__tsan_unaligned_read##bytes, bytes, READ) \
  HOOK(__tsan_unaligned_write##bytes, bytes, WRITE)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void* p, size_t bytes) { emu::touch_aligned(p, bytes, 1, emu::READ, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t bytes) { emu::touch_aligned(p, bytes, 1, emu::WRITE, __builtin_return_address(0)); }
void __tsan_init() {}
}
