// Grows the paths of one search in an engine that others use as well.
//
// A path that pauses at the end of a step, or where its share of the budget ends, is taken up again
// as if it had never stopped: thinking control, grammars and stop strings hold over all of it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "generator/engine_hooks.h"
#include "generator/search/search.h"

namespace tramontane {

class EnginePaths {
 public:
  // `sample`: prompt, sampling, rules, opening and deadline of every path; their ids begin with its
  // id. `engine` outlives this.
  EnginePaths(const EngineHooks& engine, SampleRequest sample, const SearchParams& params);

  // SearchTools::grow. One thread. When the queue is full before anything was sampled that is
  // ResourceExhausted; later it is waited for. DeadlineExceeded, Cancelled, and as WhyLost() says.
  absl::StatusOr<std::vector<PathGrowth>> Grow(const std::vector<PathAsk>& asks);
  // Ends what is growing and whatever comes. Any thread.
  void Cancel();

 private:
  class Round;

  absl::Status Submit(const PathAsk& ask, size_t index, const std::shared_ptr<Round>& round);
  absl::Status SubmitOnce(SampleRequest request);
  absl::StatusOr<PathGrowth> Grown(const PathAsk& ask, OpenResponse response);
  void CancelLive();  // holds mutex_
  bool late() const;

  const EngineHooks& engine_;
  SampleRequest sample_;
  const std::string step_end_;
  int64_t next_request_ = 0;
  bool sampled_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> live_;  // guarded by mutex_
  bool cancelled_ = false;         // guarded by mutex_
};

// One search whose paths grow in `paths`; `tools` has the rest. Without a score, a path's is the
// mean log-probability of its tokens.
absl::StatusOr<SearchResult> SearchIn(EnginePaths& paths, const SearchParams& params,
                                      int32_t max_tokens, SearchTools tools);

}  // namespace tramontane
