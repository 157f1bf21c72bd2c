// A pool that idles cheaply and never makes the caller wait for a thread that has not started.
//
// One 64-bit word holds a job's state: generation (32 bits), open (1 bit), workers inside (31 bits). A worker may enter while the job is
// open; the caller works too, closes the job when no task is left, and waits only for the workers inside. So a worker that the system
// has not scheduled costs nothing but its help. Workers spin briefly between jobs (the ops of a step follow each other within
// microseconds), then sleep on a condition variable.
#include "threads.h"

#include <atomic>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() {}
#endif

namespace aae {
namespace {

const uint64_t OPEN = uint64_t(1) << 31, INSIDE = OPEN - 1, GENERATION = uint64_t(1) << 32;
const int SPINS = 4000;             // about 50 us of pauses before a worker sleeps
const double SERIAL_FLOPS = 200e3;  // below this a hand-over costs more than it saves

std::atomic<uint64_t> state{0};
std::atomic<int64_t> next_task{0};
int64_t job_tasks;
void (*job_task)(void*, int64_t);
void* job_context;

std::atomic<int> wanted{1};    // threads including the caller
std::atomic<int> sleepers{0};
int started = 0;               // workers created in this process; guarded by `busy`
pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;   // held by the caller whose job runs
pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
std::atomic<bool> scratch_failed{false};

struct Scratch {
  void* memory = nullptr;
  size_t bytes = 0;
  ~Scratch() { free(memory); }
};
thread_local Scratch own_scratch[2];

void work() {
  for (int64_t i; (i = next_task.fetch_add(1, std::memory_order_relaxed)) < job_tasks;) job_task(job_context, i);
}

uint64_t wait_for_job(uint64_t seen, int index) {  // returns the state of a job that is open and was not seen before
  for (int n = 0;; ++n) {
    uint64_t s = state.load(std::memory_order_acquire);
    if ((s & OPEN) && (s >> 32) != seen && index < wanted.load(std::memory_order_relaxed)) return s;
    if (n < SPINS) { relax(); continue; }
    pthread_mutex_lock(&sleep_lock);
    sleepers.fetch_add(1);
    s = state.load();
    if (!((s & OPEN) && (s >> 32) != seen && index < wanted.load())) pthread_cond_wait(&wake, &sleep_lock);
    sleepers.fetch_sub(1);
    pthread_mutex_unlock(&sleep_lock);
    n = 0;
  }
}

void* worker(void* argument) {
  int index = int(reinterpret_cast<intptr_t>(argument));
  for (uint64_t seen = 0;;) {
    uint64_t s = wait_for_job(seen, index);
    if (!state.compare_exchange_strong(s, s + 1, std::memory_order_acquire)) continue;
    seen = s >> 32;
    work();
    state.fetch_sub(1, std::memory_order_release);
  }
  return nullptr;
}

void start_workers() {  // called with `busy` held
  // Workers block all signals, so that a program's own mask decides where they are delivered.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  while (started < wanted.load() - 1) {
    pthread_t id;
    if (pthread_create(&id, &attributes, worker, reinterpret_cast<void*>(intptr_t(started + 1)))) break;  // fewer threads, same bits
    ++started;
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// fork(): the child has the memory but none of the workers. Holding both locks across the fork makes the copied state that of an idle pool.
void before_fork() { pthread_mutex_lock(&busy); pthread_mutex_lock(&sleep_lock); }
void after_fork_parent() { pthread_mutex_unlock(&sleep_lock); pthread_mutex_unlock(&busy); }
void after_fork_child() {
  started = 0;
  sleepers.store(0);
  state.store(0);
  pthread_cond_t fresh = PTHREAD_COND_INITIALIZER;
  wake = fresh;
  after_fork_parent();
}
const int at_fork = pthread_atfork(before_fork, after_fork_parent, after_fork_child);

}  // namespace

void run_tasks(int64_t tasks, double flops, void (*task)(void*, int64_t), void* context) {
  bool alone = tasks < 2 || flops < SERIAL_FLOPS || wanted.load(std::memory_order_relaxed) < 2;
  if (alone || pthread_mutex_trylock(&busy)) {
    for (int64_t i = 0; i < tasks; ++i) task(context, i);
    return;
  }
  if (started < wanted.load() - 1) start_workers();
  job_tasks = tasks;
  job_task = task;
  job_context = context;
  next_task.store(0, std::memory_order_relaxed);
  uint64_t generation = ((state.load(std::memory_order_relaxed) >> 32) + 1) & 0xffffffffu;
  if (!generation) generation = 1;  // 0 means "none seen yet"
  state.store(generation * GENERATION | OPEN);
  if (sleepers.load()) {
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&sleep_lock);
  }
  work();
  state.fetch_and(~OPEN, std::memory_order_acq_rel);
  for (int n = 0; state.load(std::memory_order_acquire) & INSIDE; ++n) n < SPINS ? relax() : (void)sched_yield();
  pthread_mutex_unlock(&busy);
}

void* scratch(size_t bytes, ScratchSlot slot) {
  Scratch& own = own_scratch[slot];
  if (bytes > own.bytes) {
    free(own.memory);
    own.memory = nullptr;
    own.bytes = 0;
    size_t rounded = (bytes + 4095) & ~size_t(4095);
    if (posix_memalign(&own.memory, 64, rounded)) {
      own.memory = nullptr;
      scratch_failed.store(true);
      return nullptr;
    }
    own.bytes = rounded;
  }
  return own.memory;
}

bool out_of_memory() { return scratch_failed.exchange(false); }

void set_num_threads(int n) { wanted.store(n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n); }
int num_threads() { return wanted.load(); }

}  // namespace aae
