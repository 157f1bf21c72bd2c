// A pool that idles cheaply and never makes the caller wait for a thread that has not started.
//
// One 64-bit word holds a job's state: generation (32 bits), open, waited for, workers inside (30 bits). A worker may enter while it is
// open; the caller works too, closes the job when no task is left, and waits only for the workers inside. So a worker that the system
// has not scheduled costs nothing but its help.
//
// Tasks are dealt out in equal shares of neighbours, one for each thread, which takes from the others' when its own is used up: the
// same rows and panels tend to stay in the same core's cache from one kernel to the next.
//
// Whoever waits spins briefly (the kernels of a step follow each other within microseconds), then sleeps: a sleeping thread leaves its
// core to one that was preempted, a spinning one keeps it away.
#include "threads.h"

#include <atomic>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#elif defined(__aarch64__)
static inline void relax() { __asm__ volatile("isb"); }  // yield does nothing on most cores
#else
static inline void relax() {}
#endif

namespace aae {
namespace {

const uint64_t OPEN = uint64_t(1) << 31, WAITED_FOR = uint64_t(1) << 30, INSIDE = WAITED_FOR - 1, GENERATION = uint64_t(1) << 32;
const int64_t SPIN_NS = 50000;      // how long to spin before sleeping
const int64_t KEEP_NS = 20000;      // how long to spin before offering the core to others between two looks
const size_t APART = 128;           // bytes between what different threads write: cache lines, which some CPUs fetch in pairs

// Jobs below SERIAL_FLOPS cost more to hand over than they save, where two cores answer each other within ROUND_TRIP_NS. Between dies it takes
// three to four times as long, and so does each cache line of operands that moves. Work grows as the cube of its operands' length, what moves
// as the square, so the bound then grows as the cube of the delay: for the usual job, because small ones among large ones would bring their
// operands to one core and back. A virtual machine's cores may move, hence a probe now and then.
const double SERIAL_FLOPS = 140e3;
const int64_t ROUND_TRIP_NS = 100;
const int64_t SLOWEST_NS = 1000;     // two sockets take less; more is a thread that was not running, which says nothing of distances
const double USUAL_OF = 32;          // jobs, about
const int PROBE_AFTER = 256, PROBE_IDLE_AFTER = 2048;  // jobs; the longer one where the worker sleeps between probes

struct alignas(APART) Job {
  std::atomic<uint64_t> state{0};
  void (*task)(void*, int64_t);  // this and the following, and the ends of shares, change only while nobody is inside
  void* context;
  int shares;
  std::atomic<int>* failures;  // of the caller
} job;
struct alignas(APART) Share {
  std::atomic<int64_t> next;  // the first task that nobody has taken yet; grows beyond the end
  int64_t end;
} share[MAX_THREADS];

alignas(APART) std::atomic<int> wanted{1};  // threads including the caller; changed under sleepers.lock
// Flops: of a job that is worth several threads, and of the jobs lately. Only callers use these, workers read the line above.
alignas(APART) std::atomic<double> bound{SERIAL_FLOPS}, usual{0};
struct alignas(APART) {
  std::atomic<int> count{0};  // workers that wait for `wake`
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;  // a job was opened
  pthread_cond_t more = PTHREAD_COND_INITIALIZER;  // more threads are wanted
  pthread_cond_t done = PTHREAD_COND_INITIALIZER;  // the last worker left
} sleepers;
alignas(APART) pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;  // held by the caller whose job runs
int started = 0;                                                  // workers created in this process; this and the next guarded by `busy`
int until_probe = 16;                                             // jobs

thread_local std::atomic<int> own_failures{0};
thread_local std::atomic<int>* reported = nullptr;  // of a worker: the failures of the caller whose job it is in

struct Scratch {
  void* memory;
  size_t bytes;
};
thread_local Scratch own_scratch[2];  // by slot; without constructors, so that a use of it tests nothing
struct FreeScratch {
  bool used;
  ~FreeScratch() { free(own_scratch[OWN].memory), free(own_scratch[SHARED].memory); }
};
thread_local FreeScratch free_scratch;  // at the end of a thread that used it

int64_t nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t(1000000000) + t.tv_nsec;
}

// Waits for done() to hold, SPIN_NS at most; whether it does.
template <class F> bool spin(F&& done) {
  for (int64_t start = 0;;) {
    for (int i = 0; i < 32; ++i, relax())
      if (done()) return true;
    int64_t now = nanoseconds();
    if (!start) start = now;
    if (now - start > SPIN_NS) return false;
    if (now - start > KEEP_NS) sched_yield();
  }
}

void work(int index) {
  for (int k = 0; k < job.shares; ++k) {
    Share& s = share[(index + k) % job.shares];
    for (int64_t i; s.next.load(std::memory_order_relaxed) < s.end && (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;)
      job.task(job.context, i);
  }
}

// Whether a job is open that the worker has not seen; `state` is then its state.
bool is_open(uint64_t& state, uint64_t seen, int index) {
  state = job.state.load();
  return (state & OPEN) && state / GENERATION != seen && index < wanted.load(std::memory_order_relaxed);
}

uint64_t wait_for_job(uint64_t seen, int index) {
  for (uint64_t state;;) {
    if (spin([&] { return is_open(state, seen, index); })) return state;
    pthread_mutex_lock(&sleepers.lock);
    while (index >= wanted.load()) pthread_cond_wait(&sleepers.more, &sleepers.lock);
    sleepers.count.fetch_add(1);
    if (!is_open(state, seen, index)) pthread_cond_wait(&sleepers.wake, &sleepers.lock);
    sleepers.count.fetch_sub(1);
    pthread_mutex_unlock(&sleepers.lock);
  }
}

void* worker(void* argument) {
  flush_denormals();
  int index = int(reinterpret_cast<intptr_t>(argument));
  for (uint64_t seen = 0;;) {
    uint64_t state = wait_for_job(seen, index);
    if (!job.state.compare_exchange_strong(state, state + 1, std::memory_order_acquire)) continue;
    seen = state / GENERATION;
    reported = job.failures;
    work(index);
    state = job.state.fetch_sub(1, std::memory_order_release);
    if ((state & WAITED_FOR) && (state & INSIDE) == 1) {
      pthread_mutex_lock(&sleepers.lock);
      pthread_cond_signal(&sleepers.done);
      pthread_mutex_unlock(&sleepers.lock);
    }
  }
  return nullptr;
}

void wait_for_workers() {
  auto nobody_inside = [] { return !(job.state.load(std::memory_order_acquire) & INSIDE); };
  if (spin(nobody_inside)) return;
  pthread_mutex_lock(&sleepers.lock);
  job.state.fetch_or(WAITED_FOR);
  while (!nobody_inside()) pthread_cond_wait(&sleepers.done, &sleepers.lock);
  pthread_mutex_unlock(&sleepers.lock);
}

void start_workers() {  // called with `busy` held
  if (started >= wanted.load() - 1) return;
  // Signals sent to the process go to the program's own threads; a fault of the worker itself still reaches its handler.
  const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int fault : faults) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
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

// The following are called with `busy` held. A job's shares are set before it is opened.
void open_job(void (*task)(void*, int64_t), void* context, int shares) {
  job.task = task;
  job.context = context;
  job.shares = shares;
  job.failures = &own_failures;
  uint64_t generation = (job.state.load(std::memory_order_relaxed) / GENERATION + 1) & 0xffffffffu;
  if (!generation) generation = 1;  // 0 means "none seen yet"
  job.state.store(generation * GENERATION | OPEN);
  if (sleepers.count.load()) {
    pthread_mutex_lock(&sleepers.lock);
    pthread_cond_broadcast(&sleepers.wake);
    pthread_mutex_unlock(&sleepers.lock);
  }
}

void close_job() {
  job.state.fetch_and(~OPEN, std::memory_order_acq_rel);
  wait_for_workers();
}

void set_share(int i, int64_t begin, int64_t end) {
  share[i].next.store(begin, std::memory_order_relaxed);
  share[i].end = end;
}

// Nanoseconds from opening a job to seeing that a worker has done its only task; SLOWEST_NS or more if none was there to do it.
int64_t round_trip() {
  std::atomic<bool> done{false};
  set_share(0, 0, 0);
  set_share(1, 0, 1);
  int64_t start = nanoseconds();
  open_job([](void* done, int64_t) { static_cast<std::atomic<bool>*>(done)->store(true, std::memory_order_release); }, &done, 2);
  bool answered = spin([&] { return done.load(std::memory_order_acquire); });
  int64_t taken = nanoseconds() - start;
  close_job();
  return answered ? taken : SPIN_NS;
}

int64_t best_round_trip() {
  int64_t best = SLOWEST_NS;
  for (int i = 0; i < 3; ++i) {  // the first may only wake a worker
    int64_t taken = round_trip();
    if (taken < best) best = taken;
  }
  return best;
}

void probe() {
  int64_t best = best_round_trip();
  double delay = best < ROUND_TRIP_NS ? 1.0 : double(best) / ROUND_TRIP_NS;
  if (best < SLOWEST_NS) bound.store(SERIAL_FLOPS * delay * delay * delay, std::memory_order_relaxed);
}

// fork(): the child has the memory but none of the workers. Holding both locks across the fork makes the copied state that of an idle pool.
void before_fork() { pthread_mutex_lock(&busy); pthread_mutex_lock(&sleepers.lock); }
void after_fork_parent() { pthread_mutex_unlock(&sleepers.lock); pthread_mutex_unlock(&busy); }
void after_fork_child() {
  started = 0;
  sleepers.count.store(0);
  job.state.store(0);
  sleepers.wake = sleepers.more = PTHREAD_COND_INITIALIZER;
  after_fork_parent();
}
const int at_fork = pthread_atfork(before_fork, after_fork_parent, after_fork_child);

}  // namespace

int num_threads() { return wanted.load(std::memory_order_relaxed); }

int threads_for(double flops) {
  double typical = usual.load(std::memory_order_relaxed);
  bool worth = flops >= SERIAL_FLOPS && (flops > typical ? flops : typical) >= bound.load(std::memory_order_relaxed);
  return worth ? num_threads() : 1;
}

static void run_alone(int64_t tasks, void (*task)(void*, int64_t), void* context) {
  for (int64_t i = 0; i < tasks; ++i) task(context, i);
}

void run_tasks(int64_t tasks, double flops, void (*task)(void*, int64_t), void* context) {
  int threads = num_threads();
  if (tasks < 2 || flops < SERIAL_FLOPS || threads < 2 || pthread_mutex_trylock(&busy)) return run_alone(tasks, task, context);
  start_workers();
  usual.store(usual + (flops - usual) / USUAL_OF, std::memory_order_relaxed);
  if (--until_probe < 0) {
    probe();
    until_probe = threads_for(flops) > 1 ? PROBE_AFTER : PROBE_IDLE_AFTER;
  }
  bool worth = threads_for(flops) > 1;
  if (worth) {
    int shares = tasks < threads ? int(tasks) : threads;
    for (int i = 0; i < shares; ++i) set_share(i, tasks * i / shares, tasks * (i + 1) / shares);
    open_job(task, context, shares);
    work(0);
    close_job();
  }
  pthread_mutex_unlock(&busy);
  if (!worth) run_alone(tasks, task, context);
}

static void* grown(Scratch& own, size_t bytes) {
  free_scratch.used = true;
  free(own.memory);
  own = {nullptr, 0};
  size_t rounded = (bytes + 4095) & ~size_t(4095);
  if (posix_memalign(&own.memory, 64, rounded)) {
    own.memory = nullptr;
    report(NO_MEMORY);
    return nullptr;
  }
  own.bytes = rounded;
  return own.memory;
}

int64_t round_trip_ns() {
  if (num_threads() < 2 || pthread_mutex_trylock(&busy)) return 0;
  start_workers();
  int64_t best = best_round_trip();
  pthread_mutex_unlock(&busy);
  return best < SLOWEST_NS ? best : 0;
}

void* scratch(size_t bytes, ScratchSlot slot) {
  Scratch& own = own_scratch[slot];
  return bytes <= own.bytes ? own.memory : grown(own, bytes);
}

#if defined(__x86_64__)
uint64_t flush_denormals() {
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);  // flush results, and take denormal operands for zero
  return mode;
}
void set_float_mode(uint64_t mode) { _mm_setcsr(unsigned(mode)); }
#elif defined(__aarch64__)
void set_float_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
uint64_t flush_denormals() {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  set_float_mode(mode | uint64_t(1) << 24);  // FZ: results and operands
  return mode;
}
#else
uint64_t flush_denormals() { return 0; }
void set_float_mode(uint64_t) {}
#endif

void report(Failure failure) { (reported ? reported : &own_failures)->fetch_or(failure); }

int take_failures() { return own_failures.load(std::memory_order_relaxed) ? own_failures.exchange(0) : 0; }

void set_num_threads(int n) {
  pthread_mutex_lock(&sleepers.lock);
  wanted.store(n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n);
  pthread_cond_broadcast(&sleepers.more);
  pthread_mutex_unlock(&sleepers.lock);
}

}  // namespace aae
