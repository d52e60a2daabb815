// Episodes: samples that take turns with an environment, each turn a request of the engine's.
//
// A response holds the turns and, between them, what the environment said: observations are
// injected tokens, without log-probability and with mask 0. Turns of an episode begin with the same
// tokens, so that the prefix cache keeps their keys and values in between. The environment's
// rewards become the verdict, unless a verifier is to judge the whole response.
//
// One thread carries all episodes on; engine and environment call back from theirs. Neither torch
// nor gRPC.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/episode_params.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/engine_hooks.h"
#include "text/tokenizer.h"

namespace tramontane {

struct EnvironmentObservation {
  std::string text;
  std::vector<int32_t> tokens;  // in place of the text where there are any
};

struct EnvironmentStep {
  EnvironmentObservation observation;
  double reward = 0;  // of this turn
  bool done = false, correct = false;
  std::map<std::string, double> metrics;
  std::string feedback;
};

struct EnvironmentName {
  std::string name, version, digest;
};

// Any thread; calls back exactly once, from any thread. What failed for good is an error.
struct EnvironmentHooks {
  std::function<void(const std::string& episode, const PromptRow& row, uint64_t seed,
                     std::function<void(absl::StatusOr<EnvironmentObservation>)> done)>
      reset;
  std::function<void(const std::string& episode, int32_t turn, const Rollout& action,
                     std::function<void(absl::StatusOr<EnvironmentStep>)> done)>
      step;
  std::function<void(const std::string& episode)> close;
  std::function<EnvironmentName()> name;  // as it described itself
};

class EpisodeRunner {
 public:
  struct Options {
    EpisodeParams params;
    int64_t size_limit = 0;     // Engine::size_limit
    int32_t most_episodes = 0;  // beyond it ResourceExhausted
    std::string incarnation;    // episodes of two lives of a generator have different names
  };
  // What the hooks reach outlives the last callback; late callbacks after the runner are harmless.
  EpisodeRunner(Options options, EngineHooks engine, EnvironmentHooks environment,
                std::shared_ptr<const Tokenizer> tokenizer, MetricsRegistry& metrics);
  ~EpisodeRunner();  // unfinished episodes end with kAborted

  // As Engine::Submit: `n` episodes of one row, on_finished once for each. Chunks are not streamed.
  absl::Status Submit(SampleRequest request, const PromptRow& row);
  void Cancel(const std::string& id);  // its episodes end with kAborted

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tramontane
