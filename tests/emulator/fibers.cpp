// Fibers, one for each thread of the block under way, and their scheduler.
#include "internal.h"

#include <cstdlib>
#include <map>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "emu_switch is written for x86-64 alone"
#endif

// Saves the registers that a function keeps for its caller, and takes up the other stack where it was left.
extern "C" void emu_switch(void** save_sp, void* load_sp);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emu {
Thread* current = nullptr;
Fiber fibers[MAX_THREADS];
char* stacks = nullptr;
size_t stacks_bytes = 0;

namespace {
// Stacks begin 13 cache lines further in their page each: at a power of two apart they would all want the same few lines of the cache.
constexpr size_t STACK = 128 << 10, STRIDE = STACK + 13 * 64;

Stack caller;              // of the launch
Stack* left = nullptr;     // the stack that the last switch left
void (*body)(void*) = nullptr;
void* argument = nullptr;
size_t position = 0;       // in the round under way
bool progress = false;     // somebody has run in it
uint64_t random_state = 0;

void arrive(Stack& own) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(own.fake, &left->bottom, &left->size);
#else
  (void)own;
#endif
}
void switch_stack(Stack& from, Stack& to) {
  left = &from;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake, to.bottom, to.size);
#endif
  emu_switch(&from.sp, to.sp);
  arrive(from);
}

void report_deadlock() {
  std::map<std::string, std::pair<int, int>> where;
  for (const Fiber* f : block.order) {
    std::string state = "returned";
    if (f->state != DONE) state = std::string(f->operation) + " at " + base_name(f->site.file) + ":" + std::to_string(f->site.line);
    auto& entry = where[state];
    if (!entry.first++ || f->number < entry.second) entry.second = f->number;
  }
  std::string text;
  for (auto& [state, entry] : where)
    text += "; " + std::to_string(entry.first) + " threads: " + state + " (thread " + std::to_string(entry.second) + ")";
  current = nullptr;
  note("deadlock in block %u%s", block.number, text.c_str());
  block.aborted = true;
}

// The fiber to run next. Every thread that can run gets its turn once a round; null at the end of the block.
Fiber* next() {
  for (;;) {
    while (position < block.order.size()) {
      Fiber* f = block.order[position++];
      if (f->state != READY) continue;
      progress = true;
      return f;
    }
    if (!block.alive) return nullptr;
    if (!progress) {
      report_deadlock();
      return nullptr;
    }
    position = 0;
    progress = false;
    if (block.launch.seed) shuffle_order(block.order);
  }
}

void fiber_main() {
  Fiber& f = self();
  arrive(f.stack);
  body(argument);
  commit_copies();  // copies that nobody waits for go on by themselves
  wait_copies(0);
  f.state = DONE;
  block.alive--;
  if (block.waiting) fail("a thread returns while %d threads wait at a __syncthreads", block.waiting);
  for (const Meeting& m : block.meetings[f.warp])
    if (m.mask >> f.lane & 1) fail("lane %d returns while others wait for it at %s, %s:%d", f.lane, m.operation, base_name(m.site.file), m.site.line);
  leave();
  abort();
}
}  // namespace

void seed_random(uint64_t seed) { random_state = seed; }
uint64_t random_number() {  // splitmix64
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void prepare(Fiber& f) {
  if (!stacks) stacks = reserve(stacks_bytes = MAX_THREADS * STRIDE);
  char* const bottom = stacks + f.number * STRIDE;
  EMU_UNPOISON(bottom, STACK);
  void** top = reinterpret_cast<void**>(bottom + STACK);
  *--top = nullptr;  // as if fiber_main had been called: the ABI wants rsp % 16 == 8 there
  *--top = reinterpret_cast<void*>(fiber_main);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f.stack = {top, bottom, STACK, nullptr};
  f.state = READY;
  f.group = 0;
  f.copies.clear();
}

void leave() {
  Fiber& f = self();
  Fiber* const to = next();
  if (to == &f) return;
  current = to;
  switch_stack(f.stack, to ? to->stack : caller);
}

void end_launch() {
  Fiber& f = self();
  block.aborted = true;
  current = nullptr;
  switch_stack(f.stack, caller);
}

void run_block(void (*kernel)(void*), void* arguments) {
  body = kernel;
  argument = arguments;
  position = 0;
  progress = false;
  if (block.launch.seed) shuffle_order(block.order);
  Fiber* const first = next();
  current = first;
  switch_stack(caller, first->stack);
}
}  // namespace emu
