#include "cpu/parallel.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace memfast {
namespace {

// One call of parallel_for. Workers hold it by shared_ptr: a late worker finds no task left and lets go.
struct Job {
    const std::function<void(int64_t)>* task;
    int64_t tasks;
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr error;

    void work() {
        for (int64_t i; (i = next.fetch_add(1)) < tasks;) {
            try {
                (*task)(i);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                if (!error) error = std::current_exception();
            }
            if (done.fetch_add(1) + 1 == tasks) {
                std::lock_guard<std::mutex> lock(mutex);
                finished.notify_all();
            }
        }
    }
};

class Pool {
  public:
    void run(const std::shared_ptr<Job>& job, int helpers) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(workers_) < helpers) {
                std::thread([this] { serve(); }).detach();
                ++workers_;
            }
            queue_.insert(queue_.end(), helpers, job);
        }
        if (helpers == 1) wake_.notify_one(); else wake_.notify_all();
    }

  private:
    void serve() {
        for (;;) {
            std::shared_ptr<Job> job;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [this] { return !queue_.empty(); });
                job = std::move(queue_.back());
                queue_.pop_back();
            }
            job->work();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::shared_ptr<Job>> queue_;
    int workers_ = 0;
};

// Leaked on purpose: detached workers may outlive static destructors, and a forked child has none of them.
std::atomic<Pool*> pool{nullptr};
std::mutex pool_mutex;
std::atomic<bool> forked{false};

// From the moment this module is loaded: a child must know that it is one.
const int watching_forks =
    pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                   [] { pool.store(nullptr); forked = true; pool_mutex.unlock(); });

// PyTorch's own threads, where its OpenMP runtime is GNU's (or Intel's or LLVM's, which also export this name). They spin
// for milliseconds after each of PyTorch's loops: a second pool would share the cores with them (a loss between eager ops
// took 5.0 ms instead of 3.1), while a spinning thread starts at once. In a forked child that runtime may hang.
using OpenMpParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
OpenMpParallel openmp() {
    if (forked) return nullptr;
    return reinterpret_cast<OpenMpParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}

Pool& the_pool() {
    Pool* existing = pool.load(std::memory_order_acquire);
    if (existing) return *existing;
    std::lock_guard<std::mutex> lock(pool_mutex);
    if (!pool.load()) pool.store(new Pool, std::memory_order_release);
    return *pool.load();
}

}  // namespace

void parallel_for(int64_t tasks, int threads, const std::function<void(int64_t)>& task) {
    const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
    if (helpers <= 0) {
        for (int64_t i = 0; i < tasks; ++i) task(i);
        return;
    }
    auto job = std::make_shared<Job>();
    job->task = &task;
    job->tasks = tasks;
    if (const OpenMpParallel parallel = openmp()) {
        parallel([](void* shared) { static_cast<Job*>(shared)->work(); }, job.get(), unsigned(helpers) + 1, 0);
    } else {
        the_pool().run(job, helpers);
        job->work();
        std::unique_lock<std::mutex> lock(job->mutex);
        job->finished.wait(lock, [&] { return job->done.load() == tasks; });
    }
    if (job->error) std::rethrow_exception(job->error);
}

}  // namespace memfast
