// Searches beside everything else that an engine serves: each on a thread of its own, which waits
// for the engine or the scorer nearly all of the time; so many at once, so many more waiting.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/engine_hooks.h"
#include "generator/search/search_ask.h"

namespace tramontane {

// What a service asks for.
struct SearchOrder {
  SearchAsk ask;
  PromptRow row;         // for the scorer: prompt, tokens, messages, gold answer
  SampleRequest sample;  // id, prompt, sampling, rules, opening and deadline of every path
  // Once, unless starting it failed. Must not block.
  std::function<void(absl::StatusOr<SearchResult>)> done;
};

// Where services start searches. Any thread; functions are empty where there are none.
struct SearchDesk {
  // InvalidArgument, ResourceExhausted, AlreadyExists, Unavailable.
  std::function<absl::Status(SearchOrder)> start;
  std::function<void(const std::string& id)> cancel;  // done() then gets Cancelled
};

struct SearchJob {
  SearchParams params;
  SampleRequest sample;
  SearchTools tools;  // `grow` is the pool's; without `score` the mean log-probability
  std::function<void()> on_cancel = {};  // ends what `tools` wait for; may be empty
  std::function<void(absl::StatusOr<SearchResult>)> done;  // as SearchOrder's
};

struct SearchPoolOptions {
  int32_t max_running = 8;    // threads
  int32_t max_waiting = 256;  // beyond it ResourceExhausted
};

class SearchPool {
 public:
  // `metrics` and what the hooks reach outlive the pool.
  SearchPool(const SearchPoolOptions& options, EngineHooks engine, MetricsRegistry& metrics);
  ~SearchPool();  // cancels everything

  absl::Status Submit(SearchJob job);
  void Cancel(const std::string& id);

 private:
  struct Live;

  void Work();
  void Run(Live& live);
  void Finish(const std::string& id, absl::StatusOr<SearchResult> result);
  void ShowQueue();  // holds mutex_

  const SearchPoolOptions options_;
  const EngineHooks engine_;
  Counter found_, out_of_budget_, failed_, cancelled_, refused_, tokens_;
  Gauge running_, waiting_;
  Histogram seconds_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  std::map<std::string, std::shared_ptr<Live>> live_;  // by id, waiting ones included
  std::deque<std::shared_ptr<Live>> queue_;
  int32_t busy_ = 0;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tramontane
