// Launches, barriers, meetings of warps, asynchronous copies.
#include "internal.h"

#include <xmmintrin.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emu {
Block block;
Clock clock;
std::string errors;
int error_count = 0;

namespace {
constexpr int MAX_REPORTS = 20;

void report(const char* format, va_list arguments) {
  char text[512];
  vsnprintf(text, sizeof text, format, arguments);
  if (++error_count > MAX_REPORTS) return;
  errors += text;
  if (current) errors += " [block " + std::to_string(current->block.x) + ", " + std::to_string(current->block.y) + " thread " +
                         std::to_string(current->thread.x) + "]";
  errors += "\n";
}
bool same(const char* a, const char* b) { return a == b || !strcmp(a, b); }
bool same(const Site& a, const Site& b) { return a.line == b.line && same(a.file, b.file); }

void wait_at(State state, const char* operation, Site site) {
  Fiber& f = self();
  f.state = state;
  f.operation = operation;
  f.site = site;
  leave();
}
void start_block(unsigned number) {
  block.number = number;
  block.alive = block.threads;
  block.waiting = 0;
  clock.block = clock.barrier = ++clock.now;
  for (auto& meetings : block.meetings) meetings.clear();
  start_shared();
  for (int t = 0; t < block.threads; t++) {
    Fiber& f = fibers[t];
    f.block = {number % block.launch.grid[0], number / block.launch.grid[0], 0};
    prepare(f);
  }
}
bool start_launch(const Launch& launch) {
  current = nullptr;
  errors.clear();
  error_count = 0;
  if (!launch.threads || launch.threads > MAX_THREADS || !launch.grid[0] || !launch.grid[1] || launch.grid[1] > 65535)
    note("bad launch: %u x %u blocks of %u threads", launch.grid[0], launch.grid[1], launch.threads);
  if (launch.shared > SHARED_LIMIT) note("bad launch: %u bytes of dynamic shared memory, and there are %zu", launch.shared, SHARED_LIMIT);
  block.launch = launch;
  block.threads = int(launch.threads);
  block.aborted = false;
  block.regions.assign(1, {nullptr, 0, launch.shared});
  block.shared_used = (launch.shared + GAP + 15) & ~size_t(15);
  block.order.clear();
  for (int t = 0; t < block.threads && !error_count; t++) {
    Fiber& f = fibers[t];
    f.number = t, f.warp = t / 32, f.lane = t % 32;
    f.thread = {unsigned(t), 0, 0};
    f.threads = {launch.threads, 1, 1};
    f.blocks = {launch.grid[0], launch.grid[1], 1};
    block.order.push_back(&f);
  }
  clock.launch = ++clock.now;
  return !error_count;
}
}  // namespace

const char* base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
void note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(format, arguments);
  va_end(arguments);
}
void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(format, arguments);
  va_end(arguments);
  end_launch();
  abort();
}

int run(const Launch& launch, void (*body)(void*), void* argument) {
  if (!start_launch(launch)) return error_count;
  std::vector<unsigned> order(launch.grid[0] * launch.grid[1]);
  for (unsigned i = 0; i < order.size(); i++) order[i] = i;
  seed_random(launch.seed);
  if (launch.seed) shuffle_order(order);
  // The product is compiled with -ftz=true: denormal float32 numbers are zeros, going in and coming out.
  const unsigned control = _mm_getcsr();
  _mm_setcsr(control | 0x8040);
  for (unsigned number : order) {
    start_block(number);
    run_block(body, argument);
    if (block.aborted) break;
  }
  _mm_setcsr(control);
#ifdef EMU_CHECK
  clear_reports();
  end_profiled_launch();
#endif
  return error_count;
}

// ---------------------------------------------------------------------------------------------------- barriers, meetings

// Stricter than the hardware, which does not count threads that have returned and does not know one barrier from another.
void barrier(Site site) {
  const int returned = block.threads - block.alive;
  if (returned) fail("%d threads have returned before the __syncthreads at %s:%d", returned, base_name(site.file), site.line);
  for (const Fiber* f : block.order) {
    if (f->state != AT_BARRIER) continue;
    if (!same(f->site, site))
      fail("divergent barrier: __syncthreads at %s:%d while thread %d waits at %s:%d", base_name(site.file), site.line, f->number,
           base_name(f->site.file), f->site.line);
    break;
  }
  if (++block.waiting < block.threads) return wait_at(AT_BARRIER, "__syncthreads", site);
  for (Fiber* f : block.order) f->state = READY;
  block.waiting = 0;
  clock.barrier = ++clock.now;
}

namespace {
Meeting& meeting_of(const Fiber& f, const char* operation, unsigned mask, Site site) {
  std::vector<Meeting>& meetings = block.meetings[f.warp];
  for (Meeting& m : meetings) {
    if (!(m.mask & mask)) continue;
    if (m.mask != mask || !same(m.operation, operation) || !same(m.site, site))
      fail("divergent warp: lane %d at %s, %s:%d, mask %08x, while others wait at %s, %s:%d, mask %08x", f.lane, operation,
           base_name(site.file), site.line, mask, m.operation, base_name(m.site.file), m.site.line, m.mask);
    return m;
  }
  if (!(mask >> f.lane & 1)) fail("%s at %s:%d: lane %d is not in its mask %08x", operation, base_name(site.file), site.line, f.lane, mask);
  for (int lane = 0; lane < 32; lane++) {
    const int thread = f.warp * 32 + lane;
    if (mask >> lane & 1 && (thread >= block.threads || fibers[thread].state == DONE))
      fail("%s at %s:%d waits for lane %d, which has returned", operation, base_name(site.file), site.line, lane);
  }
  meetings.push_back({mask, 0, operation, site, {}});
  return meetings.back();
}
}  // namespace

void meet(const char* operation, unsigned mask, void* brought, Combine combine, bool orders_memory, Site site) {
  Fiber& f = self();
  Meeting& m = meeting_of(f, operation, mask, site);
  m.here |= 1u << f.lane;
  m.lanes[f.lane] = brought;
  if (m.here != mask) return wait_at(AT_MEETING, operation, site);
  if (combine) combine(m.lanes, mask);
  for (int lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) fibers[f.warp * 32 + lane].state = READY;
  if (orders_memory && mask == ~0u) clock.warp[f.warp] = ++clock.now;
  std::vector<Meeting>& meetings = block.meetings[f.warp];
  meetings.erase(meetings.begin() + (&m - meetings.data()));
}

// --------------------------------------------------------------------------------------------------- asynchronous copies

// As unkind as the programming model allows: from the beginning of a copy on its destination is garbage, and touching it an error; only the
// wait reads the source and brings the data, and for the waiting thread alone.
void begin_copy(void* to, const void* from, int bytes, void* pc) {
  Fiber& f = self();
  if (uintptr_t(to) - uintptr_t(shared_memory) >= SHARED_ARENA) fail("the destination of a copy_async is not in shared memory");
#ifdef EMU_CHECK
  touch(to, bytes, WRITE, pc);
  mark_in_flight(to, bytes, true);
#endif
  memset(to, 0xff, bytes);
  f.copies.push_back({to, from, bytes, f.group, pc});
}
void commit_copies() { self().group++; }
namespace {
void finish_copy(const Copy& c) {
#ifdef EMU_CHECK
  if (c.from) touch(c.from, c.bytes, READ, c.pc);
  mark_in_flight(c.to, c.bytes, false);
  const bool counting = profiling;
  profiling = false;  // the write has been counted
  touch(c.to, c.bytes, WRITE, c.pc);
  profiling = counting;
#endif
  if (c.from) memcpy(c.to, c.from, c.bytes);
  else memset(c.to, 0, c.bytes);
}
}  // namespace
void wait_copies(int pending) {
  Fiber& f = self();
  size_t done = 0;
  while (done < f.copies.size() && f.copies[done].group < f.group - pending) finish_copy(f.copies[done++]);
  f.copies.erase(f.copies.begin(), f.copies.begin() + done);
}
}  // namespace emu

EMU_API const char* emu_errors() { return emu::errors.c_str(); }
