#include "services/generator/environments.h"

#include <chrono>
#include <utility>

#include "common/random_hex.h"
#include "common/status.h"

namespace tramontane {

absl::StatusOr<std::unique_ptr<Environments>> Environments::Create(
    const std::map<std::string, VerifierSection>& verifiers, const Options& options,
    const EngineHooks& engine, const std::shared_ptr<const Tokenizer>& tokenizer,
    MetricsRegistry& metrics) {
  RETURN_IF_ERROR(CheckEnvironments(verifiers));
  std::unique_ptr<Environments> all(new Environments(verifiers));
  for (const auto& [name, section] : verifiers) {
    if (!IsEnvironment(section)) continue;
    ASSIGN_OR_RETURN(EpisodeParams params, EpisodeParamsOf(section));
    Environment& environment = all->environments_[name];
    environment.params = params;
    environment.client =
        std::make_unique<EnvironmentClient>(name, section, options.identity, metrics);
    environment.runner = std::make_unique<EpisodeRunner>(
        EpisodeRunner::Options{.params = std::move(params),
                               .size_limit = options.size_limit,
                               .most_episodes = options.most_episodes,
                               .incarnation = RandomHex(8)},
        engine, environment.client->Hooks(), tokenizer, metrics);
  }
  return all;
}

const Environments::Environment* Environments::Find(const PromptRow& row) const {
  const absl::StatusOr<std::string> key = FindVerifier(verifiers_, row.verifier);
  const auto found = key.ok() ? environments_.find(*key) : environments_.end();
  return found == environments_.end() ? nullptr : &found->second;
}

bool Environments::Has(const PromptRow& row) const { return Find(row) != nullptr; }

absl::Status Environments::Submit(SampleRequest request, const PromptRow& row) {
  return Find(row)->runner->Submit(std::move(request), row);
}

void Environments::Cancel(const std::string& id) {
  for (auto& [name, environment] : environments_) environment.runner->Cancel(id);
}

std::string Environments::JudgeOf(const PromptRow& row) const {
  const Environment* environment = Find(row);
  return environment == nullptr ? row.verifier : environment->params.judge;
}

absl::Status Environments::WaitUntilReady(double timeout_s) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
  absl::Status worst;
  for (auto& [name, environment] : environments_) {
    const std::chrono::duration<double> left = end - std::chrono::steady_clock::now();
    const absl::Status status = environment.client->WaitUntilReady(std::max(0.0, left.count()));
    if (worst.ok() || absl::IsFailedPrecondition(status)) worst = status;
  }
  return worst;
}

std::map<std::string, double> Environments::WaitingSeconds() const {
  std::map<std::string, double> waits;
  for (const auto& [name, environment] : environments_) {
    if (const double seconds = environment.client->AwaySeconds(); seconds > 0)
      waits["environment " + name] = seconds;
  }
  return waits;
}

}  // namespace tramontane
