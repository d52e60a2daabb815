// Records to bytes and back: MessagePack with raw little-endian arrays for tokens and
// log-probabilities. Every record starts with its format version; unknown versions are refused.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/rollout.h"

namespace tramontane {

std::string EncodeTask(const GroupTask& task);
absl::StatusOr<GroupTask> DecodeTask(const std::string& bytes);

std::string EncodeGroup(const Group& group);
// Checks that tokens, log-probabilities and version spans agree in length (DataLoss otherwise).
absl::StatusOr<Group> DecodeGroup(const std::string& bytes);

// JSON as written to rollouts/*.jsonl and printed by the command line (docs/cli).
Json ToJson(const std::vector<PromptMessage>& messages);        // [{"role", "content"}]
std::vector<PromptMessage> MessagesFromJson(const Json& json);  // throws Json::exception
Json ToJson(const Verdict& verdict);
Json ToJson(const Rollout& rollout);
Json ToJson(const SamplingParams& sampling);
absl::StatusOr<SamplingParams> SamplingFromJson(const Json& json);

}  // namespace tramontane
