// PyTorch's own OpenMP threads, borrowed without linking an OpenMP runtime. parallel.cpp is the only user.
#pragma once

namespace memfast {

// Runs work(shared) on `threads` threads at once, the caller's included, and waits for all. False, with nothing run, where
// there is no such runtime, in a forked child, after use_openmp(false), or in a build with -DMEMFAST_NO_OPENMP.
bool run_on_openmp_threads(void (*work)(void*), void* shared, int threads);

// Off: kernels use the pool of parallel.cpp from now on. It changes speed, never a bit.
void use_openmp(bool enabled);
// Whether the next call would run on OpenMP threads.
bool has_openmp();

}  // namespace memfast
