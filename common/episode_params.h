// What makes a verifier an environment: `verifiers.<name>.params.episode`, and what it says.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/config.h"

namespace tramontane {

struct EpisodeParams {
  int32_t max_turns = 8;                  // of the policy
  int32_t max_turn_tokens = 0;            // sampled in one turn; 0: rollout.max_new_tokens alone
  int32_t max_observation_tokens = 1024;  // what is longer is cut
  std::string before_observation, after_observation;  // text around each but the first
  std::string judge;  // another verifier, for the whole response; empty: the sum of the rewards
};

// Whether the entry is a service of turns (proto/tramontane/v1/environment.proto).
bool IsEnvironment(const VerifierSection& section);

// The entry's params. InvalidArgument names the field: "params.episode.max_turns".
absl::StatusOr<EpisodeParams> EpisodeParamsOf(const VerifierSection& section);

// Whether every environment among `verifiers` can work: its params, its judge, and that it is a
// service. InvalidArgument: "verifiers.<name>.…".
absl::Status CheckEnvironments(const std::map<std::string, VerifierSection>& verifiers);

}  // namespace tramontane
