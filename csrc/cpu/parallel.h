// Threads for the kernels: PyTorch's OpenMP threads where they can be had, otherwise a small pool. The caller works too;
// tasks are handed out one by one, so a result may never depend on which thread ran a task. A forked child has a pool of
// its own. Every task runs in a FloatEnvironment.
#pragma once
#include <cstdint>
#include <functional>

namespace memfast {

// Calls task(i) once for each i in [0, tasks), on at most `threads` threads. An exception of a task is rethrown here.
void parallel_for(int64_t tasks, int threads, const std::function<void(int64_t)>& task);

}  // namespace memfast
