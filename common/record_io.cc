#include "common/record_io.h"

#include <bit>
#include <cstring>
#include <exception>

#include "common/status.h"

namespace tramontane {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

constexpr int kRecordVersion = 1;

template <class T>
Json Pack(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return Json::binary(std::move(bytes));
}

template <class T>
std::vector<T> Unpack(const Json& json) {
  const auto& bytes = json.get_binary();
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

Json SpansToJson(const std::vector<VersionSpan>& spans) {
  Json out = Json::array();
  for (const VersionSpan& span : spans) out.push_back({span.version, span.count});
  return out;
}

std::vector<VersionSpan> SpansFromJson(const Json& json) {
  std::vector<VersionSpan> out;
  for (const Json& span : json)
    out.push_back({span.at(0).get<int64_t>(), span.at(1).get<int32_t>()});
  return out;
}

Json InjectedToJson(const std::vector<TokenSpan>& spans) {
  Json out = Json::array();
  for (const TokenSpan& span : spans) out.push_back({span.begin, span.count});
  return out;
}

Json UsageToJson(const TokenUsage& usage) {
  return {{"thinking", usage.thinking}, {"answer", usage.answer}, {"injected", usage.injected}};
}

// Records from before thinking control have neither of the two.
void ReadInjected(const Json& json, Rollout& rollout) {
  for (const Json& span : json.value("injected", Json::array()))
    rollout.injected.push_back({span.at(0).get<int32_t>(), span.at(1).get<int32_t>()});
  const auto usage = json.find("usage");
  if (usage == json.end()) return;
  rollout.usage = {usage->at("thinking").get<int32_t>(), usage->at("answer").get<int32_t>(),
                   usage->at("injected").get<int32_t>()};
}

Verdict VerdictFromJson(const Json& json) {
  Verdict v;
  v.status = static_cast<VerdictStatus>(json.at("status_code").get<int>());
  if (!json.at("score").is_null()) v.score = json.at("score").get<double>();
  v.components = json.at("components").get<std::map<std::string, double>>();
  v.metrics = json.value("metrics", std::map<std::string, double>());  // records before they were
  v.correct = json.at("correct").get<bool>();
  v.extracted = json.at("extracted").get<std::string>();
  v.feedback = json.at("feedback").get<std::string>();
  v.verifier = json.at("verifier").get<std::string>();
  v.verifier_version = json.at("verifier_version").get<std::string>();
  v.verifier_digest = json.at("verifier_digest").get<std::string>();
  v.queue_seconds = json.at("queue_seconds").get<double>();
  v.exec_seconds = json.at("exec_seconds").get<double>();
  return v;
}

Json TaskToJson(const GroupTask& task) {
  Json row = {{"row_id", task.row.row_id},
              {"prompt", task.row.prompt},
              {"prompt_tokens", Pack(task.row.prompt_tokens)},
              {"answer", task.row.answer},
              {"verifier", task.row.verifier},
              {"params", task.row.params}};
  if (!task.row.messages.empty()) row["messages"] = ToJson(task.row.messages);
  Json json = {{"gid", task.gid},
               {"cursor", task.cursor},
               {"purpose", ToString(task.purpose)},
               {"samples", task.samples},
               {"issued_version", task.issued_version},
               {"wants_routes", task.wants_routes},
               {"trainer_epoch", task.trainer_epoch},
               {"sampling", ToJson(task.sampling)},
               {"row", std::move(row)}};
  if (!task.reward_weights.empty()) json["reward_weights"] = task.reward_weights;
  if (task.answers > 0) {
    json["answers"] = task.answers;
    json["corrections_by_prompt"] = task.corrections_by_prompt;
  }
  return json;
}

absl::StatusOr<GroupTask> TaskFromJson(const Json& json) {
  GroupTask task;
  task.gid = json.at("gid").get<std::string>();
  task.cursor = json.at("cursor").get<uint64_t>();
  task.purpose = json.at("purpose").get<std::string>() == "eval" ? Purpose::kEval : Purpose::kTrain;
  task.samples = json.at("samples").get<int32_t>();
  task.issued_version = json.at("issued_version").get<int64_t>();
  task.wants_routes = json.value("wants_routes", false);  // absent: from before there were routes
  task.trainer_epoch = json.at("trainer_epoch").get<int64_t>();
  task.reward_weights = json.value("reward_weights", std::map<std::string, double>());
  task.answers = json.value("answers", 0);
  task.corrections_by_prompt = json.value("corrections_by_prompt", false);
  if (task.answers < 0 ||
      (task.answers > 0 && (task.samples <= task.answers || task.samples % task.answers != 0)))
    return absl::DataLossError("answers: " + std::to_string(task.answers) + " of " +
                               std::to_string(task.samples) + " samples");
  ASSIGN_OR_RETURN(task.sampling, SamplingFromJson(json.at("sampling")));
  const Json& row = json.at("row");
  task.row.row_id = row.at("row_id").get<std::string>();
  task.row.prompt = row.at("prompt").get<std::string>();
  task.row.prompt_tokens = Unpack<int32_t>(row.at("prompt_tokens"));
  task.row.answer = row.at("answer").get<std::string>();
  task.row.verifier = row.at("verifier").get<std::string>();
  task.row.params = row.at("params");
  task.row.messages = MessagesFromJson(row.value("messages", Json::array()));
  return task;
}

Json RolloutToRecord(const Rollout& rollout) {
  Json verdict = ToJson(rollout.verdict);
  verdict["status_code"] = static_cast<int>(rollout.verdict.status);
  return {{"sample_index", rollout.sample_index},
          {"tokens", Pack(rollout.tokens)},
          {"logprobs", Pack(rollout.logprobs)},
          {"spans", SpansToJson(rollout.spans)},
          {"injected", InjectedToJson(rollout.injected)},
          {"usage", UsageToJson(rollout.usage)},
          {"routes", Pack(rollout.routes)},
          {"finish_reason", static_cast<int>(rollout.finish_reason)},
          {"text", Json::binary({rollout.text.begin(), rollout.text.end()})},
          {"verdict", std::move(verdict)},
          {"generate_seconds", rollout.generate_seconds}};
}

absl::StatusOr<Rollout> RolloutFromRecord(const Json& json) {
  Rollout rollout;
  rollout.sample_index = json.at("sample_index").get<int32_t>();
  rollout.tokens = Unpack<int32_t>(json.at("tokens"));
  rollout.logprobs = Unpack<float>(json.at("logprobs"));
  rollout.spans = SpansFromJson(json.at("spans"));
  ReadInjected(json, rollout);
  // Absent: from before there were routes.
  if (json.contains("routes")) rollout.routes = Unpack<uint8_t>(json.at("routes"));
  rollout.finish_reason = static_cast<FinishReason>(json.at("finish_reason").get<int>());
  const auto& text = json.at("text").get_binary();
  rollout.text.assign(text.begin(), text.end());
  rollout.verdict = VerdictFromJson(json.at("verdict"));
  rollout.generate_seconds = json.at("generate_seconds").get<double>();

  int64_t counted = 0, version = rollout.spans.empty() ? 0 : rollout.spans.front().version;
  for (const VersionSpan& span : rollout.spans) {
    if (span.count <= 0 || span.version < version)
      return absl::DataLossError("version spans out of order");
    counted += span.count;
    version = span.version;
  }
  if (rollout.tokens.size() != rollout.logprobs.size() ||
      counted != static_cast<int64_t>(rollout.tokens.size())) {
    return absl::DataLossError("rollout " + std::to_string(rollout.sample_index) + ": " +
                               std::to_string(rollout.tokens.size()) + " tokens, " +
                               std::to_string(rollout.logprobs.size()) + " log-probabilities, " +
                               std::to_string(counted) + " in version spans");
  }
  if (!AreDisjointSpans(rollout.injected, rollout.tokens.size()))
    return absl::DataLossError("rollout " + std::to_string(rollout.sample_index) +
                               ": spans of injected tokens overlap or leave the response");
  return rollout;
}

// Runs `parse` over a MessagePack document; nlohmann's exceptions end here.
template <class T, class F>
absl::StatusOr<T> DecodeRecord(const std::string& bytes, const char* kind, F parse) {
  try {
    const Json json = Json::from_msgpack(bytes.begin(), bytes.end());
    if (json.at("record_version").get<int>() != kRecordVersion) {
      return absl::DataLossError(std::string(kind) + ": record version " +
                                 json.at("record_version").dump() + ", this program reads " +
                                 std::to_string(kRecordVersion));
    }
    absl::StatusOr<T> value = parse(json);
    if (!value.ok()) return Annotate(value.status(), kind);
    return value;
  } catch (const Json::exception& error) {
    return absl::DataLossError(std::string(kind) + ": " + error.what());
  }
}

std::string ToBytes(Json json) {
  json["record_version"] = kRecordVersion;
  std::string bytes;
  Json::to_msgpack(json, bytes);
  return bytes;
}

}  // namespace

std::string EncodeTask(const GroupTask& task) { return ToBytes(TaskToJson(task)); }

absl::StatusOr<GroupTask> DecodeTask(const std::string& bytes) {
  return DecodeRecord<GroupTask>(bytes, "group task", TaskFromJson);
}

std::string EncodeGroup(const Group& group) {
  Json rollouts = Json::array();
  for (const Rollout& rollout : group.rollouts) rollouts.push_back(RolloutToRecord(rollout));
  return ToBytes({{"task", TaskToJson(group.task)},
                  {"rollouts", std::move(rollouts)},
                  {"generator_id", group.generator_id}});
}

absl::StatusOr<Group> DecodeGroup(const std::string& bytes) {
  return DecodeRecord<Group>(bytes, "group", [](const Json& json) -> absl::StatusOr<Group> {
    Group group;
    ASSIGN_OR_RETURN(group.task, TaskFromJson(json.at("task")));
    for (const Json& item : json.at("rollouts")) {
      ASSIGN_OR_RETURN(Rollout rollout, RolloutFromRecord(item));
      group.rollouts.push_back(std::move(rollout));
    }
    group.generator_id = json.at("generator_id").get<std::string>();
    return group;
  });
}

Json ToJson(const std::vector<PromptMessage>& messages) {
  Json out = Json::array();
  for (const PromptMessage& message : messages) {
    out.push_back({{"role", message.role}, {"content", message.content}});
  }
  return out;
}

std::vector<PromptMessage> MessagesFromJson(const Json& json) {
  std::vector<PromptMessage> messages;
  for (const Json& message : json) {
    messages.push_back(
        {message.at("role").get<std::string>(), message.at("content").get<std::string>()});
  }
  return messages;
}

Json ToJson(const Verdict& v) {
  return {{"status", ToString(v.status)},
          {"score", v.score ? Json(*v.score) : Json(nullptr)},
          {"components", v.components},
          {"metrics", v.metrics},
          {"correct", v.correct},
          {"extracted", v.extracted},
          {"feedback", v.feedback},
          {"verifier", v.verifier},
          {"verifier_version", v.verifier_version},
          {"verifier_digest", v.verifier_digest},
          {"queue_seconds", v.queue_seconds},
          {"exec_seconds", v.exec_seconds}};
}

Json ToJson(const Rollout& rollout) {
  Json logprobs = rollout.logprobs;
  for (const TokenSpan& span : rollout.injected)
    for (int32_t i = 0; i < span.count; ++i) logprobs.at(span.begin + i) = nullptr;
  return {{"sample_index", rollout.sample_index},
          {"tokens", rollout.tokens},
          {"logprobs", std::move(logprobs)},
          {"injected", InjectedToJson(rollout.injected)},
          {"usage", UsageToJson(rollout.usage)},
          {"text", rollout.text},
          {"finish_reason", ToString(rollout.finish_reason)},
          {"versions", SpansToJson(rollout.spans)}};
}

Json ToJson(const SamplingParams& s) {
  return {{"temperature", s.temperature},
          {"top_p", s.top_p},
          {"top_k", s.top_k},
          {"min_p", s.min_p},
          {"max_new_tokens", s.max_new_tokens},
          {"seed", s.seed},
          {"stop", s.stop},
          {"stop_token_ids", s.stop_token_ids},
          {"ignore_eos", s.ignore_eos},
          {"repetition_tokens", s.repetition_tokens},
          {"repetition_times", s.repetition_times},
          {"thinking", s.thinking ? ToJson(*s.thinking) : Json(nullptr)}};
}

absl::StatusOr<SamplingParams> SamplingFromJson(const Json& json) {
  SamplingParams s;
  try {
    s.temperature = json.value("temperature", s.temperature);
    s.top_p = json.value("top_p", s.top_p);
    s.top_k = json.value("top_k", s.top_k);
    s.min_p = json.value("min_p", s.min_p);
    s.max_new_tokens = json.value("max_new_tokens", s.max_new_tokens);
    s.seed = json.value("seed", s.seed);
    s.stop = json.value("stop", s.stop);
    s.stop_token_ids = json.value("stop_token_ids", s.stop_token_ids);
    s.ignore_eos = json.value("ignore_eos", s.ignore_eos);
    s.repetition_tokens = json.value("repetition_tokens", s.repetition_tokens);
    s.repetition_times = json.value("repetition_times", s.repetition_times);
    if (json.contains("thinking") && !json["thinking"].is_null()) {
      ASSIGN_OR_RETURN(s.thinking, ThinkingFromJson(json["thinking"]));
    }
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(std::string("sampling: ") + error.what());
  }
  return s;
}

}  // namespace tramontane
