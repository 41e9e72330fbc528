// The pool of threads, and how a loop is handed out: to PyTorch's OpenMP threads (openmp.h) or to the pool.
#include "cpu/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/float_environment.h"
#include "cpu/openmp.h"

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
        const FloatEnvironment environment;
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

// From the moment this module is loaded: a child must know that it is one, and makes a pool of its own.
const int watching_forks = pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                                          [] { pool.store(nullptr); pool_mutex.unlock(); });

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
        const FloatEnvironment environment;
        for (int64_t i = 0; i < tasks; ++i) task(i);
        return;
    }
    auto job = std::make_shared<Job>();
    job->task = &task;
    job->tasks = tasks;
    const auto work = [](void* shared) { static_cast<Job*>(shared)->work(); };
    if (!run_on_openmp_threads(work, job.get(), helpers + 1)) {
        the_pool().run(job, helpers);
        job->work();
        std::unique_lock<std::mutex> lock(job->mutex);
        job->finished.wait(lock, [&] { return job->done.load() == tasks; });
    }
    if (job->error) std::rethrow_exception(job->error);
}

}  // namespace memfast
