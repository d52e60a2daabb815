// A fixed set of threads that run one job each, again and again. The caller is worker 0, so a
// pool of one has no thread. Threads are kept between jobs, so that their allocator caches stay warm.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tramontane {

class WorkerPool {
 public:
  // `on_start` runs once on every thread that the pool makes (not on the caller's).
  WorkerPool(int workers, std::function<void()> on_start);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs job(worker) for every worker and waits for all. `job` must not throw. One caller at a time.
  void Run(const std::function<void(int worker)>& job);

  int size() const { return workers_; }

 private:
  void Serve(int worker);

  const int workers_;
  const std::function<void()> on_start_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  // Guarded by mutex_.
  const std::function<void(int)>* job_ = nullptr;
  uint64_t round_ = 0;
  int running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace tramontane
