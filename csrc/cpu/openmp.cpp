// GOMP_parallel is the entry point that GCC compiles `#pragma omp parallel` to; LLVM's and Intel's runtimes export it too.
// It is looked up in the process, so that it is found only where PyTorch (or another package) has brought a runtime along.
//
// Its threads spin for milliseconds after each of PyTorch's loops: a second pool would share the cores with them (a loss
// between eager ops took 5.0 ms instead of 3.1), while a spinning thread starts at once.
#include "cpu/openmp.h"

#include <atomic>
#if !defined(MEMFAST_NO_OPENMP)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace memfast {
namespace {

std::atomic<bool> enabled{true};

#if !defined(MEMFAST_NO_OPENMP)
using OpenMpParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

// In a forked child the runtime may wait for threads that only its parent has.
std::atomic<bool> forked{false};
const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });

OpenMpParallel entry() {
    if (!enabled || forked) return nullptr;
    return reinterpret_cast<OpenMpParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}
#endif

}  // namespace

bool run_on_openmp_threads(void (*work)(void*), void* shared, int threads) {
#if !defined(MEMFAST_NO_OPENMP)
    if (const OpenMpParallel parallel = entry()) {
        parallel(work, shared, unsigned(threads), 0);
        return true;
    }
#else
    (void)work, (void)shared, (void)threads;
#endif
    return false;
}

void use_openmp(bool on) { enabled = on; }

bool has_openmp() {
#if !defined(MEMFAST_NO_OPENMP)
    return entry() != nullptr;
#else
    return false;
#endif
}

}  // namespace memfast
