# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The CPU kernels, by name: launch one, or replay a recorded list of them without the interpreter lock.

Nothing is checked here; `aaecore.core.backend.Backend.launch` has done it. Pointers are plain integers whose memory the caller keeps alive.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc

from time import perf_counter as _now

cdef extern from "table.h" namespace "aae" nogil:
    ctypedef void (*Kernel)(void**, const int64_t*, const double*) noexcept
    ctypedef double (*Probe)(int64_t, float*) noexcept
    cdef struct NamedKernel:
        const char* name
        Kernel run
    cdef struct KernelTable:
        const char* isa
        const NamedKernel* kernels
        int count
        int lanes
        Probe probe
    const KernelTable* supported_table(int index)
    const char* missing_feature()

cdef extern from "threads.h" namespace "aae" nogil:
    int take_failures()
    const int NO_MEMORY
    void c_set_num_threads "aae::set_num_threads"(int n)
    int c_num_threads "aae::num_threads"()
    int64_t c_round_trip_ns "aae::round_trip_ns"()
    uint64_t flush_denormals()
    void set_float_mode(uint64_t mode)

cdef extern from *:
    """
    #if defined(__clang__)
    static const char* aae_compiler = "clang " __clang_version__;
    #elif defined(__GNUC__)
    static const char* aae_compiler = "gcc " __VERSION__;
    #else
    static const char* aae_compiler = "unknown";
    #endif
    """
    const char* aae_compiler

cdef extern from *:
    """
    // By the bits: an exponent of ones. In blocks, since a loop that may end at any number is not vectorised.
    static int all_finite(const uint32_t* x, int64_t n) {
      const uint32_t exponent = 0x7f800000u;
      for (int64_t i = 0; i < n; i += 4096) {
        int64_t end = n - i < 4096 ? n : i + 4096;
        uint32_t bad = 0;
        for (int64_t j = i; j < end; ++j) bad |= (x[j] & exponent) == exponent;
        if (bad) return 0;
      }
      return 1;
    }
    """
    bint all_finite(const uint32_t* x, int64_t n) nogil

cdef enum:
    MAX_BUFFERS = 12
    MAX_DIMS = 8
    MAX_SCALARS = 4

cdef extern from "time.h" nogil:
    int CLOCK_MONOTONIC
    cdef struct timespec:
        int64_t tv_sec, tv_nsec
    int clock_gettime(int clock, timespec* now)

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef enum:
    CALLS_UNTIMED = 32  # between two looks at the clock: two of the cheapest calls take as long as one look
    SIGNALS_NS = 100000000  # between two looks for signals in a long replay


cdef int64_t nanoseconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


cdef int check(str what) except -1:
    """Raises what the calling thread's kernels reported."""
    cdef int failures = take_failures()
    if failures & NO_MEMORY:
        raise MemoryError(f"{what}: no memory for scratch space")
    if failures:
        raise IndexError(f"{what}: expected indices of rows that are there, got others; what was gathered is incomplete")
    return 0


cdef struct Call:
    Kernel run
    void* buffers[MAX_BUFFERS]
    int64_t dims[MAX_DIMS]
    double scalars[MAX_SCALARS]


def compiler() -> str:
    """The compiler that built the kernels."""
    return aae_compiler.decode()


def supported() -> list:
    """The instruction sets that this build has and this CPU runs, best first."""
    names = []
    while supported_table(len(names)) != NULL:
        names.append(supported_table(len(names)).isa.decode())
    return names


def missing() -> str:
    """A feature without which a CPU runs none of them and which this one lacks; "" where it runs some."""
    return "" if missing_feature() == NULL else missing_feature().decode()


def set_num_threads(int n) -> None:
    """Threads that kernels may use, the caller included."""
    c_set_num_threads(n)


def num_threads() -> int:
    """Threads that kernels may use, the caller included."""
    return c_num_threads()


def round_trip_ns() -> int:
    """Nanoseconds from one thread of the pool to another and back, the best of a few; 0 with one thread, or if none answered.

    About 100 between cores of one die, three to four times that between dies; a virtual machine's cores may move.
    """
    cdef int64_t taken
    with nogil:
        taken = c_round_trip_ns()
    return taken


cdef class Kernels:
    """The kernels of one instruction set. `lanes` is its vector length in floats: half the width of a weight panel."""

    cdef const KernelTable* table
    cdef readonly dict index  # name -> position

    def __cinit__(self, str isa):
        self.table = supported_table(supported().index(isa))
        self.index = {self.table.kernels[i].name.decode(): i for i in range(self.table.count)}

    @property
    def isa(self) -> str:
        return self.table.isa.decode()

    @property
    def lanes(self) -> int:
        return self.table.lanes

    def fma_rate(self, double seconds) -> float:
        """Floating-point operations per second of one thread in multiply-adds on registers: the peak of this instruction set.

        The best of blocks of a quarter of a millisecond within about `seconds`, so that an interruption does not lower it.
        """
        cdef float result = 0
        cdef double done, best = 0
        cdef int64_t rounds = 16384
        end = _now() + seconds
        while True:
            start = _now()
            with nogil:
                done = self.table.probe(rounds, &result)
            taken = _now() - start
            if taken < 2.5e-4:
                rounds *= 2
            else:
                best = max(best, done / taken)
                if _now() > end:
                    return best

    cdef int fill(self, Call* call, str name, pointers, dims, scalars) except -1:
        cdef int i
        call.run = self.table.kernels[<int> self.index[name]].run
        if len(pointers) > MAX_BUFFERS or len(dims) > MAX_DIMS or len(scalars) > MAX_SCALARS:
            raise ValueError(f"{name}: more arguments than a kernel call holds")
        for i in range(len(pointers)):
            call.buffers[i] = <void*> <uintptr_t> pointers[i]
        for i in range(len(dims)):
            call.dims[i] = dims[i]
        for i in range(len(scalars)):
            call.scalars[i] = scalars[i]
        return 0

    def launch(self, str name, pointers, dims, scalars) -> None:
        """Runs one kernel now."""
        cdef Call call
        cdef uint64_t mode
        self.fill(&call, name, pointers, dims, scalars)
        with nogil:
            mode = flush_denormals()
            call.run(call.buffers, call.dims, call.scalars)
            set_float_mode(mode)
        check(name)


cdef class Finite:
    """Whether no number in some memory of float32 is NaN or infinite; for who asks after every step.

    `pointers` and `sizes` (in floats) say where it lies; `memory` is kept alive.
    """

    cdef object memory
    cdef uint32_t** starts
    cdef int64_t* sizes
    cdef int count

    def __cinit__(self, pointers, sizes, memory):
        cdef int i
        self.memory = memory
        self.starts = <uint32_t**> malloc(len(pointers) * sizeof(void*))
        self.sizes = <int64_t*> malloc(len(pointers) * sizeof(int64_t))
        if self.starts == NULL or self.sizes == NULL:
            raise MemoryError("no memory for a list of buffers")
        for i in range(len(pointers)):
            self.starts[i] = <uint32_t*> <uintptr_t> pointers[i]
            self.sizes[i] = sizes[i]
        self.count = len(pointers)

    def __dealloc__(self):
        free(self.starts)
        free(self.sizes)

    def __call__(self) -> bool:
        cdef bint finite = True
        cdef int i
        with nogil:
            for i in range(self.count):
                if not all_finite(self.starts[i], self.sizes[i]):
                    finite = False
                    break
        return finite


cdef class Program:
    """A recorded list of kernel calls; `run` replays it, once or often, in one call."""

    cdef Call* calls
    cdef int count, capacity
    cdef Kernels kernels

    def __cinit__(self, Kernels kernels):
        self.kernels = kernels

    def __dealloc__(self):
        free(self.calls)

    def append(self, str name, pointers, dims, scalars) -> None:
        """Records one call."""
        cdef Call* grown
        if self.count == self.capacity:
            grown = <Call*> realloc(self.calls, (2 * self.capacity + 16) * sizeof(Call))
            if grown == NULL:
                raise MemoryError("no memory to record another call")
            self.calls = grown
            self.capacity = 2 * self.capacity + 16
        self.kernels.fill(&self.calls[self.count], name, pointers, dims, scalars)
        self.count += 1

    def run(self, int64_t times) -> None:
        """Replays all calls in order, `times` times over, with the interpreter lock released.

        Handlers of signals run between two times, every tenth of a second; if one raises, whole times were made.
        """
        cdef int64_t left = times
        while left:
            left = self.run_a_while(left)
            check("replay")
            if left:
                PyErr_CheckSignals()

    cdef int64_t run_a_while(self, int64_t times):
        """Replays until a look for signals is due; how many times are left."""
        cdef int64_t begun, untimed = 0
        cdef int i
        cdef uint64_t mode
        with nogil:
            mode = flush_denormals()
            begun = nanoseconds()
            while times:
                for i in range(self.count):
                    self.calls[i].run(self.calls[i].buffers, self.calls[i].dims, self.calls[i].scalars)
                times -= 1
                untimed += self.count + 1
                if untimed > CALLS_UNTIMED:
                    untimed = 0
                    if nanoseconds() - begun > SIGNALS_NS:
                        break
            set_float_mode(mode)
        return times
