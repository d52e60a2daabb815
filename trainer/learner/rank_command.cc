#include "trainer/learner/rank_command.h"

#include <cstring>
#include <utility>

#include "common/record_io.h"
#include "common/status.h"

namespace tramontane {
namespace {

// Prompt tokens' count, prompt tokens, completion tokens.
std::string EncodeExample(const SftExample& example) {
  const auto prompt = static_cast<uint32_t>(example.prompt_tokens.size());
  const size_t prompt_bytes = sizeof(int32_t) * prompt,
               completion_bytes = sizeof(int32_t) * example.completion_tokens.size();
  std::string bytes(sizeof(prompt) + prompt_bytes + completion_bytes, '\0');
  std::memcpy(bytes.data(), &prompt, sizeof(prompt));
  std::memcpy(bytes.data() + sizeof(prompt), example.prompt_tokens.data(), prompt_bytes);
  std::memcpy(bytes.data() + sizeof(prompt) + prompt_bytes, example.completion_tokens.data(),
              completion_bytes);
  return bytes;
}

absl::StatusOr<SftExample> DecodeExample(const std::string& bytes) {
  uint32_t prompt = 0;
  if (bytes.size() < sizeof(prompt)) return absl::DataLossError("an example is cut off");
  std::memcpy(&prompt, bytes.data(), sizeof(prompt));
  const size_t tokens = (bytes.size() - sizeof(prompt)) / sizeof(int32_t);
  if (prompt > tokens) return absl::DataLossError("an example is cut off");
  SftExample example;
  example.prompt_tokens.resize(prompt);
  example.completion_tokens.resize(tokens - prompt);
  std::memcpy(example.prompt_tokens.data(), bytes.data() + sizeof(prompt),
              sizeof(int32_t) * prompt);
  std::memcpy(example.completion_tokens.data(),
              bytes.data() + sizeof(prompt) + sizeof(int32_t) * prompt,
              sizeof(int32_t) * (tokens - prompt));
  return example;
}

}  // namespace

RankCommand StepCommand(const std::vector<Group>& groups, int64_t step) {
  RankCommand command{.op = RankOp::kStep, .step = step};
  for (const Group& group : groups) command.records.push_back(EncodeGroup(group));
  return command;
}

RankCommand SftStepCommand(const std::vector<SftExample>& examples, int64_t step) {
  RankCommand command{.op = RankOp::kSftStep, .step = step};
  for (const SftExample& example : examples) command.records.push_back(EncodeExample(example));
  return command;
}

RankCommand DpoStepCommand(const std::vector<PreferencePair>& pairs, int64_t step) {
  RankCommand command{.op = RankOp::kDpoStep, .step = step};
  for (const PreferencePair& pair : pairs) {
    command.records.push_back(EncodeExample({pair.prompt_tokens, pair.chosen_tokens}));
    command.records.push_back(EncodeExample({pair.prompt_tokens, pair.rejected_tokens}));
  }
  return command;
}

std::string Encode(const RankCommand& command) {
  Json records = Json::array();
  for (const std::string& record : command.records)
    records.push_back(Json::binary({record.begin(), record.end()}));
  std::string bytes;
  Json::to_msgpack({{"op", static_cast<int>(command.op)},
                    {"step", command.step},
                    {"text", command.text},
                    {"config", command.config},
                    {"model", command.model},
                    {"dtype", command.dtype},
                    {"records", std::move(records)}},
                   bytes);
  return bytes;
}

absl::StatusOr<RankCommand> DecodeRankCommand(const std::string& bytes) {
  try {
    Json json = Json::from_msgpack(bytes);
    RankCommand command;
    command.op = static_cast<RankOp>(json.at("op").get<int>());
    command.step = json.at("step").get<int64_t>();
    command.text = json.at("text").get<std::string>();
    command.config = std::move(json.at("config"));
    command.model = std::move(json.at("model"));
    command.dtype = json.at("dtype").get<std::string>();
    for (const Json& record : json.at("records")) {
      const auto& binary = record.get_binary();
      command.records.emplace_back(binary.begin(), binary.end());
    }
    return command;
  } catch (const Json::exception& error) {
    return absl::DataLossError(std::string("a command of rank 0: ") + error.what());
  }
}

absl::StatusOr<std::vector<Group>> GroupsOf(const RankCommand& command) {
  std::vector<Group> groups;
  for (const std::string& record : command.records) {
    ASSIGN_OR_RETURN(Group group, DecodeGroup(record));
    groups.push_back(std::move(group));
  }
  return groups;
}

absl::StatusOr<std::vector<SftExample>> ExamplesOf(const RankCommand& command) {
  std::vector<SftExample> examples;
  for (const std::string& record : command.records) {
    ASSIGN_OR_RETURN(SftExample example, DecodeExample(record));
    examples.push_back(std::move(example));
  }
  return examples;
}

absl::StatusOr<std::vector<PreferencePair>> PairsOf(const RankCommand& command) {
  ASSIGN_OR_RETURN(std::vector<SftExample> halves, ExamplesOf(command));
  if (halves.size() % 2 != 0) return absl::DataLossError("half a pair");
  std::vector<PreferencePair> pairs;
  for (size_t i = 0; i < halves.size(); i += 2) {
    pairs.push_back({.prompt_tokens = std::move(halves[i].prompt_tokens),
                     .chosen_tokens = std::move(halves[i].completion_tokens),
                     .rejected_tokens = std::move(halves[i + 1].completion_tokens)});
  }
  return pairs;
}

void GiveUpAfter(const absl::Status& status, RankGroup* ranks) {
  if (ranks == nullptr || status.ok() || absl::IsInvalidArgument(status)) return;
  ranks->Abort(std::string(status.message()));
}

}  // namespace tramontane
