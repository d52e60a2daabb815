#include "generator/search/search_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/clock.h"
#include "common/status.h"
#include "generator/search/engine_paths.h"

namespace tramontane {
namespace {

Counter Outcome(MetricsRegistry& metrics, const std::string& outcome) {
  return metrics.MakeCounter("tramontane_generator_searches_total", {{"outcome", outcome}});
}

Gauge State(MetricsRegistry& metrics, const std::string& state) {
  return metrics.MakeGauge("tramontane_generator_searches", {{"state", state}});
}

Gauge Limit(MetricsRegistry& metrics, const std::string& of) {
  return metrics.MakeGauge("tramontane_generator_limit", {{"of", of}});
}

}  // namespace

struct SearchPool::Live {
  Live(const EngineHooks& engine, SearchJob own)
      : job(std::move(own)), paths(engine, job.sample, job.params) {}

  SearchJob job;
  EnginePaths paths;
  const std::chrono::steady_clock::time_point born = std::chrono::steady_clock::now();
};

SearchPool::SearchPool(const SearchPoolOptions& options, EngineHooks engine,
                       MetricsRegistry& metrics)
    : options_(options),
      engine_(std::move(engine)),
      found_(Outcome(metrics, "found")),
      out_of_budget_(Outcome(metrics, "out_of_budget")),
      failed_(Outcome(metrics, "failed")),
      cancelled_(Outcome(metrics, "cancelled")),
      refused_(Outcome(metrics, "refused")),
      tokens_(metrics.MakeCounter("tramontane_generator_search_tokens_total")),
      running_(State(metrics, "running")),
      waiting_(State(metrics, "waiting")),
      seconds_(metrics.MakeHistogram("tramontane_generator_search_seconds")) {
  Limit(metrics, "running_searches").Set(options_.max_running);
  Limit(metrics, "waiting_searches").Set(options_.max_waiting);
}

SearchPool::~SearchPool() {
  std::vector<std::string> ids;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const auto& [id, live] : live_) ids.push_back(id);
  }
  for (const std::string& id : ids) Cancel(id);
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status SearchPool::Submit(SearchJob job) {
  const std::string id = job.sample.id;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return absl::UnavailableError("the generator is stopping");
    if (live_.contains(id)) return absl::AlreadyExistsError("search " + id + " is still running");
    const auto open = static_cast<int32_t>(live_.size());
    if (open >= options_.max_running + options_.max_waiting) {
      refused_.Add();
      return absl::ResourceExhaustedError("too many searches: " + std::to_string(busy_) + " run, " +
                                          std::to_string(queue_.size()) + " wait");
    }
    auto live = std::make_shared<Live>(engine_, std::move(job));
    live_.emplace(id, live);
    queue_.push_back(std::move(live));
    const auto threads = static_cast<int32_t>(threads_.size());
    const auto needed = busy_ + static_cast<int32_t>(queue_.size());
    if (threads < std::min(needed, options_.max_running)) threads_.emplace_back([this] { Work(); });
    ShowQueue();
  }
  changed_.notify_one();
  return absl::OkStatus();
}

void SearchPool::Cancel(const std::string& id) {
  std::shared_ptr<Live> live;
  bool waited = false;
  {
    std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    if (found == live_.end()) return;
    live = found->second;
    waited = std::erase(queue_, live) > 0;
    ShowQueue();
  }
  if (waited) return Finish(id, absl::CancelledError("the search was cancelled"));
  live->paths.Cancel();
  if (live->job.on_cancel) live->job.on_cancel();
}

void SearchPool::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::shared_ptr<Live> live = std::move(queue_.front());
    queue_.pop_front();
    ++busy_;
    ShowQueue();
    lock.unlock();
    Run(*live);
    lock.lock();
    --busy_;
    ShowQueue();
  }
}

void SearchPool::Run(Live& live) {
  SearchJob& job = live.job;
  absl::StatusOr<SearchResult> result =
      absl::DeadlineExceededError("the search did not begin in the time it had");
  if (std::chrono::steady_clock::now() < job.sample.deadline)
    result = SearchIn(live.paths, job.params, job.sample.sampling.max_new_tokens, job.tools);
  Finish(job.sample.id, std::move(result));
}

void SearchPool::Finish(const std::string& id, absl::StatusOr<SearchResult> result) {
  std::shared_ptr<Live> live;
  {
    std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    live = found->second;
    live_.erase(found);
  }
  seconds_.Observe(SecondsSince(live->born));
  if (result.ok()) {
    tokens_.Add(static_cast<double>(result->sampled_tokens));
    (result->out_of_budget ? out_of_budget_ : found_).Add();
  } else {
    (absl::IsCancelled(result.status()) ? cancelled_ : failed_).Add();
  }
  live->job.done(std::move(result));
}

void SearchPool::ShowQueue() {
  running_.Set(busy_);
  waiting_.Set(static_cast<double>(queue_.size()));
}

}  // namespace tramontane
