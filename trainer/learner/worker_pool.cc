#include "trainer/learner/worker_pool.h"

#include <utility>

namespace tramontane {

WorkerPool::WorkerPool(int workers, std::function<void()> on_start)
    : workers_(workers), on_start_(std::move(on_start)) {
  for (int worker = 1; worker < workers; ++worker) {
    threads_.emplace_back([this, worker] { Serve(worker); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::Run(const std::function<void(int)>& job) {
  {
    const std::lock_guard lock(mutex_);
    job_ = &job;
    running_ = workers_ - 1;
    ++round_;
  }
  wake_.notify_all();
  job(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
}

void WorkerPool::Serve(int worker) {
  on_start_();
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
    if (stopping_) return;
    seen = round_;
    const std::function<void(int)>& job = *job_;
    lock.unlock();
    job(worker);
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace tramontane
