// A small pool of threads for the kernels. The caller works too; tasks are handed out one by one, so a result may
// never depend on which thread ran a task. After a fork the child starts a pool of its own.
#pragma once
#include <cstdint>
#include <functional>

namespace memfast {

// Calls task(i) once for each i in [0, tasks), on at most `threads` threads. An exception of a task is rethrown here.
void parallel_for(int64_t tasks, int threads, const std::function<void(int64_t)>& task);

}  // namespace memfast
