// What the files of the emulator's runtime share.
#pragma once

#include "cuda_emu.h"

#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define EMU_POISON(p, bytes) __asan_poison_memory_region(p, bytes)
#define EMU_UNPOISON(p, bytes) __asan_unpoison_memory_region(p, bytes)
#else
#define EMU_POISON(p, bytes) (void)0
#define EMU_UNPOISON(p, bytes) (void)0
#endif

namespace emu {
constexpr int MAX_THREADS = 1024;
constexpr size_t SHARED_ARENA = 256 << 10;                            // holds a block's shared memory and the gaps in it
constexpr size_t STATIC_LIMIT = 48 << 10, SHARED_LIMIT = 227 << 10;  // of compute capability 9.0
constexpr size_t GAP = 64;                                            // no man's land after each shared array

enum State { READY, AT_BARRIER, AT_MEETING, DONE };

struct Stack {
  void* sp;
  const void* bottom;
  size_t size;
  void* fake;  // AddressSanitizer's
};
struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes, group;
  void* pc;
};
struct Fiber : Thread {
  int number, warp;
  State state;
  const char* operation;  // what it waits for
  Site site;
  Stack stack;
  int group;
  std::vector<Copy> copies;  // under way
};
struct Meeting {
  unsigned mask, here;
  const char* operation;
  Site site;
  void* lanes[32];
};
struct Region {  // an array in shared memory
  const void* key;
  size_t at, bytes;
};
// The block under way: blocks run one after the other.
struct Block {
  Launch launch;
  int threads, alive, waiting;
  unsigned number;
  bool aborted;
  std::vector<Fiber*> order;
  std::vector<Meeting> meetings[MAX_THREADS / 32];
  std::vector<Region> regions;
  size_t shared_used;
};
// Every event that orders memory accesses has its own time. What is here is the latest of each kind.
struct Clock {
  uint32_t now, replay, launch, block, barrier, warp[MAX_THREADS / 32];
};

extern Block block;
extern Clock clock;
extern Fiber fibers[MAX_THREADS];
extern char *stacks, *shared_memory;
extern size_t stacks_bytes;
extern std::string errors;
extern int error_count;
extern bool profiling;

inline Fiber& self() { return *static_cast<Fiber*>(current); }
const char* base_name(const char* path);
void note(const char* format, ...) __attribute__((format(printf, 1, 2)));  // reports, and goes on

// fibers.cpp
void prepare(Fiber& fiber);
void leave();                // the fiber under way waits, or is done
void end_launch();           // back to the caller of the launch, for good
void run_block(void (*body)(void*), void* argument);
uint64_t random_number();
void seed_random(uint64_t seed);
template <class T> void shuffle_order(std::vector<T>& order) {
  for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random_number() % i]);
}

// memory.cpp
char* reserve(size_t bytes);
void start_shared();

// checker.cpp
void mark_in_flight(void* to, int bytes, bool on);
void clear_reports();

// profile.cpp
void record(const Fiber& fiber, uint32_t pc, uintptr_t address, size_t bytes, bool shared, bool write);
void end_profiled_launch();
}  // namespace emu
