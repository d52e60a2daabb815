// The environments of a run, by name: those of `verifiers` whose params have an `episode`. A row
// that names one of them takes turns with it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/metrics.h"
#include "generator/engine_hooks.h"
#include "services/generator/environment_client.h"
#include "services/generator/episodes.h"
#include "services/handshake.h"
#include "text/tokenizer.h"

namespace tramontane {

class Environments {
 public:
  struct Options {
    Identity identity = {};
    int64_t size_limit = 0;     // Engine::size_limit
    int32_t most_episodes = 0;  // of each environment
  };
  // InvalidArgument names the field. `metrics` and what the hooks reach outlive it.
  static absl::StatusOr<std::unique_ptr<Environments>> Create(
      const std::map<std::string, VerifierSection>& verifiers, const Options& options,
      const EngineHooks& engine, const std::shared_ptr<const Tokenizer>& tokenizer,
      MetricsRegistry& metrics);

  bool Has(const PromptRow& row) const;  // whether the row names one
  // As EpisodeRunner's; for rows that name one.
  absl::Status Submit(SampleRequest request, const PromptRow& row);
  void Cancel(const std::string& id);
  // Name of the verifier that judges the row's response: its own, or its environment's judge.
  std::string JudgeOf(const PromptRow& row) const;

  // As VerifierPool's.
  absl::Status WaitUntilReady(double timeout_s);
  std::map<std::string, double> WaitingSeconds() const;

 private:
  struct Environment {
    EpisodeParams params;
    std::unique_ptr<EnvironmentClient> client;
    std::unique_ptr<EpisodeRunner> runner;  // after the client, which it calls
  };

  explicit Environments(std::map<std::string, VerifierSection> verifiers)
      : verifiers_(std::move(verifiers)) {}
  const Environment* Find(const PromptRow& row) const;

  const std::map<std::string, VerifierSection> verifiers_;  // all, so that pins are understood
  std::map<std::string, Environment> environments_;
};

}  // namespace tramontane
