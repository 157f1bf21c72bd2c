// The thread pool of the CPU kernels: one for the process, dynamic tasks, no allocation, fork-safe (threads.cpp).
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace aae {

// Calls task(context, i) once for every 0 <= i < tasks, on the calling thread and the pool's. `flops` is the work of all tasks together: too
// little runs on the calling thread alone. Which thread runs a task is not defined, so no result may depend on it.
// While another thread of the process has the pool, the caller runs its tasks alone: no waiting, the same bits.
void run_tasks(int64_t tasks, double flops, void (*task)(void* context, int64_t i), void* context);

template <class F> static inline void parallel(int64_t tasks, double flops, F&& f) {
  run_tasks(tasks, flops, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &f);
}

// The calling thread's scratch memory, 64-byte aligned, at least `bytes`; valid until its next call for that slot. Grown on demand and kept.
// Null, and NO_MEMORY reported, when there is none: the kernel then returns without touching its outputs further.
enum ScratchSlot { OWN, SHARED };  // of the running task; of the kernel, made before its tasks and read by all of them
void* scratch(size_t bytes, ScratchSlot slot = OWN);

// What a kernel could not do. It belongs to the thread that called the kernel, wherever the task ran that reports it.
enum Failure { NO_MEMORY = 1, BAD_INDEX = 2 };
void report(Failure failure);
int take_failures();  // of the calling thread's kernels since its last call of this function, as bits

// Makes the calling thread take denormal numbers (below 1.2e-38) for zero, and returns its mode before, for set_float_mode. Adam's moments of a unit
// that no longer learns decay into them, and arithmetic on them is many times slower. Workers are always in this mode.
uint64_t flush_denormals();
void set_float_mode(uint64_t mode);

void set_num_threads(int n);  // 1 <= n <= MAX_THREADS; takes effect at the next run_tasks
int num_threads();
int threads_for(double flops);  // how many of them run_tasks gives to so much work
int64_t round_trip_ns();  // between the calling thread and another of the pool, the best of a few; 0 if none answered in a microsecond
const int MAX_THREADS = 256;

}  // namespace aae
