#include "services/convert.h"

#include <cmath>
#include <limits>

#include "common/status.h"

namespace tramontane {
namespace {

constexpr int kMaxJsonDepth = 64;
constexpr size_t kMaxNumbers = 256;

absl::Status Invalid(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status CheckUnit(const std::string& field, double value, bool zero_allowed,
                       bool one_allowed) {
  const bool low = zero_allowed ? value >= 0 : value > 0;
  const bool high = one_allowed ? value <= 1 : value < 1;
  if (low && high) return absl::OkStatus();
  return Invalid("sampling." + field + " is " + std::to_string(value) + ", outside its range");
}

absl::Status ToValue(const Json& json, int depth, google::protobuf::Value* value);

absl::Status ToStructAt(const Json& json, int depth, google::protobuf::Struct* proto) {
  for (const auto& [key, item] : json.items()) {
    RETURN_IF_ERROR(ToValue(item, depth + 1, &(*proto->mutable_fields())[key]));
  }
  return absl::OkStatus();
}

absl::Status ToValue(const Json& json, int depth, google::protobuf::Value* value) {
  if (depth > kMaxJsonDepth) return Invalid("JSON nests deeper than 64");
  if (json.is_null()) {
    value->set_null_value(google::protobuf::NULL_VALUE);
  } else if (json.is_boolean()) {
    value->set_bool_value(json.get<bool>());
  } else if (json.is_number()) {
    value->set_number_value(json.get<double>());
  } else if (json.is_string()) {
    value->set_string_value(json.get<std::string>());
  } else if (json.is_array()) {
    auto* list = value->mutable_list_value();
    for (const Json& item : json) RETURN_IF_ERROR(ToValue(item, depth + 1, list->add_values()));
  } else if (json.is_object()) {
    return ToStructAt(json, depth, value->mutable_struct_value());
  } else {
    return Invalid("JSON holds a binary value");
  }
  return absl::OkStatus();
}

Json FromNumber(double number) {
  // Row parameters written as integers should come back as integers.
  if (std::nearbyint(number) == number && std::abs(number) < 9007199254740992.0) {
    return static_cast<int64_t>(number);
  }
  return number;
}

Json FromValue(const google::protobuf::Value& value) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kNumberValue:
      return FromNumber(value.number_value());
    case google::protobuf::Value::kStringValue:
      return value.string_value();
    case google::protobuf::Value::kBoolValue:
      return value.bool_value();
    case google::protobuf::Value::kStructValue:
      return FromStruct(value.struct_value());
    case google::protobuf::Value::kListValue: {
      Json list = Json::array();
      for (const auto& item : value.list_value().values()) list.push_back(FromValue(item));
      return list;
    }
    default:
      return nullptr;
  }
}

absl::StatusOr<VerdictStatus> StatusOf(v1::VerifyStatus status) {
  switch (status) {
    case v1::VERIFY_STATUS_SCORED:
      return VerdictStatus::kScored;
    case v1::VERIFY_STATUS_POLICY_FAILURE:
      return VerdictStatus::kPolicyFailure;
    case v1::VERIFY_STATUS_TIMEOUT:
      return VerdictStatus::kTimeout;
    case v1::VERIFY_STATUS_SKIPPED:
      return VerdictStatus::kSkipped;
    case v1::VERIFY_STATUS_BAD_INPUT:
    case v1::VERIFY_STATUS_VERIFIER_ERROR:
    case v1::VERIFY_STATUS_SANDBOX_ERROR:
    case v1::VERIFY_STATUS_OVERLOADED:
    case v1::VERIFY_STATUS_CANCELLED:
      return VerdictStatus::kInfraFailure;
    default:
      return Invalid("verify result: status is not set");
  }
}

v1::VerifyStatus StatusOf(const Verdict& verdict) {
  switch (verdict.status) {
    case VerdictStatus::kScored:
      return v1::VERIFY_STATUS_SCORED;
    case VerdictStatus::kPolicyFailure:
      return v1::VERIFY_STATUS_POLICY_FAILURE;
    case VerdictStatus::kTimeout:
      return v1::VERIFY_STATUS_TIMEOUT;
    case VerdictStatus::kSkipped:
      return v1::VERIFY_STATUS_SKIPPED;
    case VerdictStatus::kInfraFailure:
      return verdict.fault == Fault::kRow       ? v1::VERIFY_STATUS_BAD_INPUT
             : verdict.fault == Fault::kSandbox ? v1::VERIFY_STATUS_SANDBOX_ERROR
                                                : v1::VERIFY_STATUS_VERIFIER_ERROR;
    case VerdictStatus::kUnspecified:
      break;
  }
  return v1::VERIFY_STATUS_UNSPECIFIED;
}

// Numbers by name, from somebody who is not trusted.
absl::Status CheckNumbers(const char* what,
                          const google::protobuf::Map<std::string, double>& numbers) {
  if (numbers.size() > kMaxNumbers) {
    return Invalid(std::string("verify result: more than 256 ") + what);
  }
  for (const auto& [name, value] : numbers) {
    if (!std::isfinite(value)) {
      return Invalid(std::string("verify result: ") + what + ": " + name + " is not finite");
    }
  }
  return absl::OkStatus();
}

// SCORED must carry a reward, POLICY_FAILURE may, anything else must not.
absl::Status CheckReward(const v1::VerifyResult& result) {
  const bool scored = result.status() == v1::VERIFY_STATUS_SCORED;
  const bool may_have = scored || result.status() == v1::VERIFY_STATUS_POLICY_FAILURE;
  if (scored && !result.has_reward()) return Invalid("verify result: SCORED without a reward");
  if (!may_have && result.has_reward()) {
    return Invalid("verify result: a reward with status " + v1::VerifyStatus_Name(result.status()));
  }
  if (result.has_reward() && !std::isfinite(result.reward())) {
    return Invalid("verify result: reward is not finite");
  }
  RETURN_IF_ERROR(CheckNumbers("components", result.components()));
  return CheckNumbers("metrics", result.metrics());
}

}  // namespace

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kAborted:
      return v1::FINISH_REASON_ABORTED;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
    case FinishReason::kTimeout:
      return v1::FINISH_REASON_ABORTED;  // the call says why
    case FinishReason::kRepetition:
      return v1::FINISH_REASON_REPETITION;
    case FinishReason::kUnspecified:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

FinishReason FromProto(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_ABORTED:
      return FinishReason::kAborted;
    case v1::FINISH_REASON_ERROR:
      return FinishReason::kError;
    case v1::FINISH_REASON_REPETITION:
      return FinishReason::kRepetition;
    default:
      return FinishReason::kUnspecified;
  }
}

v1::Thinking ToProto(const ThinkingParams& thinking) {
  v1::Thinking proto;
  if (thinking.budget) proto.set_budget(*thinking.budget);
  proto.set_effort(thinking.effort);
  proto.set_tag(thinking.tag);
  proto.set_mode(thinking.mode);
  proto.set_min_tokens(static_cast<uint32_t>(thinking.min_tokens));
  proto.set_on_exhaust(thinking.on_exhaust);
  proto.set_exhaust_text(thinking.exhaust_text);
  if (thinking.reserve) proto.set_reserve(static_cast<uint32_t>(*thinking.reserve));
  if (thinking.extensions) proto.set_extensions(static_cast<uint32_t>(*thinking.extensions));
  proto.set_extension_text(thinking.extension_text);
  proto.set_guidance(thinking.guidance);
  proto.set_guidance_draw(thinking.guidance_draw);
  return proto;
}

absl::StatusOr<ThinkingParams> FromProto(const v1::Thinking& proto) {
  ThinkingParams thinking;
  for (const auto& [field, value] :
       {std::pair<const char*, uint32_t>{"min_tokens", proto.min_tokens()},
        {"reserve", proto.reserve()},
        {"extensions", proto.extensions()}}) {
    if (value > std::numeric_limits<int32_t>::max()) {
      return Invalid(std::string("thinking.") + field + " is too large");
    }
  }
  if (proto.has_budget()) thinking.budget = proto.budget();
  thinking.effort = proto.effort();
  thinking.tag = proto.tag();
  thinking.mode = proto.mode();
  thinking.min_tokens = static_cast<int32_t>(proto.min_tokens());
  if (!proto.on_exhaust().empty()) thinking.on_exhaust = proto.on_exhaust();
  thinking.exhaust_text = proto.exhaust_text();
  if (proto.has_reserve()) thinking.reserve = static_cast<int32_t>(proto.reserve());
  if (proto.has_extensions()) thinking.extensions = static_cast<int32_t>(proto.extensions());
  if (!proto.extension_text().empty()) thinking.extension_text = proto.extension_text();
  thinking.guidance = proto.guidance();
  if (!proto.guidance_draw().empty()) thinking.guidance_draw = proto.guidance_draw();
  RETURN_IF_ERROR(CheckThinking(thinking));
  return thinking;
}

v1::SamplingParams ToProto(const SamplingParams& sampling) {
  v1::SamplingParams proto;
  proto.set_temperature(sampling.temperature);
  proto.set_top_p(sampling.top_p);
  proto.set_top_k(static_cast<uint32_t>(sampling.top_k));
  proto.set_min_p(sampling.min_p);
  proto.set_max_new_tokens(static_cast<uint32_t>(sampling.max_new_tokens));
  proto.set_seed(sampling.seed);
  proto.mutable_stop()->Assign(sampling.stop.begin(), sampling.stop.end());
  proto.mutable_stop_token_ids()->Assign(sampling.stop_token_ids.begin(),
                                         sampling.stop_token_ids.end());
  proto.set_ignore_eos(sampling.ignore_eos);
  if (sampling.thinking) *proto.mutable_thinking() = ToProto(*sampling.thinking);
  return proto;
}

absl::StatusOr<SamplingParams> FromProto(const v1::SamplingParams& proto) {
  constexpr uint32_t kMaxInt = std::numeric_limits<int32_t>::max();
  SamplingParams sampling;
  if (proto.has_temperature()) sampling.temperature = proto.temperature();
  if (!std::isfinite(sampling.temperature) || sampling.temperature < 0) {
    return Invalid("sampling.temperature must be finite and not negative");
  }
  if (proto.has_top_p()) sampling.top_p = proto.top_p();
  RETURN_IF_ERROR(CheckUnit("top_p", sampling.top_p, false, true));
  sampling.min_p = proto.min_p();
  RETURN_IF_ERROR(CheckUnit("min_p", sampling.min_p, true, false));
  if (proto.top_k() > kMaxInt) return Invalid("sampling.top_k is too large");
  sampling.top_k = static_cast<int32_t>(proto.top_k());
  if (proto.max_new_tokens() == 0 || proto.max_new_tokens() > kMaxInt) {
    return Invalid("sampling.max_new_tokens must be positive");
  }
  sampling.max_new_tokens = static_cast<int32_t>(proto.max_new_tokens());
  sampling.seed = proto.seed();
  sampling.stop.assign(proto.stop().begin(), proto.stop().end());
  sampling.stop_token_ids.assign(proto.stop_token_ids().begin(), proto.stop_token_ids().end());
  sampling.ignore_eos = proto.ignore_eos();
  if (proto.has_thinking()) {
    ASSIGN_OR_RETURN(sampling.thinking, FromProto(proto.thinking()));
  }
  return sampling;
}

v1::Rollout ToProto(const Rollout& rollout) {
  v1::Rollout proto;
  proto.set_sample_index(static_cast<uint32_t>(rollout.sample_index));
  proto.mutable_tokens()->Assign(rollout.tokens.begin(), rollout.tokens.end());
  proto.mutable_logprobs()->Assign(rollout.logprobs.begin(), rollout.logprobs.end());
  for (const VersionSpan& span : rollout.spans) {
    v1::VersionSpan* item = proto.add_versions();
    item->set_version(span.version);
    item->set_token_count(static_cast<uint32_t>(span.count));
  }
  proto.set_finish_reason(ToProto(rollout.finish_reason));
  proto.set_text(rollout.text);
  proto.set_generate_seconds(rollout.generate_seconds);
  for (const TokenSpan& span : rollout.injected) {
    v1::TokenSpan* item = proto.add_injected();
    item->set_begin(static_cast<uint32_t>(span.begin));
    item->set_count(static_cast<uint32_t>(span.count));
  }
  proto.mutable_usage()->set_thinking(static_cast<uint32_t>(rollout.usage.thinking));
  proto.mutable_usage()->set_answer(static_cast<uint32_t>(rollout.usage.answer));
  proto.mutable_usage()->set_injected(static_cast<uint32_t>(rollout.usage.injected));
  return proto;
}

absl::StatusOr<Rollout> FromProto(const v1::Rollout& proto) {
  Rollout rollout;
  rollout.sample_index = static_cast<int32_t>(proto.sample_index());
  rollout.tokens.assign(proto.tokens().begin(), proto.tokens().end());
  rollout.logprobs.assign(proto.logprobs().begin(), proto.logprobs().end());
  if (rollout.logprobs.size() != rollout.tokens.size()) {
    return Invalid("rollout.logprobs must have one entry per token");
  }
  uint64_t covered = 0;
  for (const v1::VersionSpan& span : proto.versions()) {
    if (!rollout.spans.empty() && span.version() < rollout.spans.back().version) {
      return Invalid("rollout.versions must not fall");
    }
    covered += span.token_count();
    rollout.spans.push_back({span.version(), static_cast<int32_t>(span.token_count())});
  }
  if (covered != rollout.tokens.size()) {
    return Invalid("rollout.versions must cover every token once");
  }
  rollout.finish_reason = FromProto(proto.finish_reason());
  rollout.text = proto.text();
  rollout.generate_seconds = proto.generate_seconds();
  for (const v1::TokenSpan& span : proto.injected()) {
    rollout.injected.push_back(
        {static_cast<int32_t>(span.begin()), static_cast<int32_t>(span.count())});
  }
  if (!AreDisjointSpans(rollout.injected, rollout.tokens.size())) {
    return Invalid("rollout.injected must be disjoint spans of the tokens, in order");
  }
  rollout.usage = {static_cast<int32_t>(proto.usage().thinking()),
                   static_cast<int32_t>(proto.usage().answer()),
                   static_cast<int32_t>(proto.usage().injected())};
  return rollout;
}

v1::VerifyResult ToProto(const Verdict& verdict, const std::string& request_id) {
  v1::VerifyResult proto;
  proto.set_request_id(request_id);
  proto.set_status(StatusOf(verdict));
  if (verdict.score.has_value()) proto.set_reward(*verdict.score);
  for (const auto& [name, value] : verdict.components) (*proto.mutable_components())[name] = value;
  for (const auto& [name, value] : verdict.metrics) (*proto.mutable_metrics())[name] = value;
  proto.set_correct(verdict.correct);
  proto.set_extracted(verdict.extracted);
  proto.set_feedback(verdict.feedback);
  proto.set_retryable(verdict.status == VerdictStatus::kInfraFailure &&
                      verdict.fault != Fault::kRow);
  proto.set_queue_seconds(verdict.queue_seconds);
  proto.set_exec_seconds(verdict.exec_seconds);
  proto.set_verifier(verdict.verifier);
  proto.set_version(verdict.verifier_version);
  proto.set_digest(verdict.verifier_digest);
  return proto;
}

absl::StatusOr<Verdict> FromProto(const v1::VerifyResult& proto) {
  Verdict verdict;
  ASSIGN_OR_RETURN(verdict.status, StatusOf(proto.status()));
  RETURN_IF_ERROR(CheckReward(proto));
  if (proto.has_reward()) verdict.score = proto.reward();
  verdict.components.insert(proto.components().begin(), proto.components().end());
  verdict.metrics.insert(proto.metrics().begin(), proto.metrics().end());
  verdict.correct = proto.correct();
  verdict.extracted = proto.extracted();
  verdict.feedback = proto.feedback();
  verdict.verifier = proto.verifier();
  verdict.verifier_version = proto.version();
  verdict.verifier_digest = proto.digest();
  verdict.queue_seconds = proto.queue_seconds();
  verdict.exec_seconds = proto.exec_seconds();
  return verdict;
}

v1::WeightManifest ToProto(const WeightManifest& manifest) {
  v1::WeightManifest proto;
  proto.set_version(manifest.version);
  proto.set_trainer_epoch(manifest.trainer_epoch);
  proto.set_payload_bytes(manifest.payload_bytes);
  for (const TensorEntry& tensor : manifest.tensors) {
    v1::TensorSpec* spec = proto.add_tensors();
    spec->set_name(tensor.name);
    spec->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    spec->set_dtype(tensor.dtype);
    spec->set_offset_bytes(tensor.offset_bytes);
    spec->set_size_bytes(tensor.size_bytes);
    spec->set_sha256(tensor.sha256);
  }
  proto.mutable_probe_tokens()->Assign(manifest.probe_tokens.begin(), manifest.probe_tokens.end());
  proto.mutable_probe_logprobs()->Assign(manifest.probe_logprobs.begin(),
                                         manifest.probe_logprobs.end());
  proto.set_probe_tolerance(manifest.probe_tolerance);
  return proto;
}

WeightManifest FromProto(const v1::WeightManifest& proto) {
  WeightManifest manifest;
  manifest.version = proto.version();
  manifest.trainer_epoch = proto.trainer_epoch();
  manifest.payload_bytes = proto.payload_bytes();
  for (const v1::TensorSpec& spec : proto.tensors()) {
    TensorEntry& tensor = manifest.tensors.emplace_back();
    tensor.name = spec.name();
    tensor.shape.assign(spec.shape().begin(), spec.shape().end());
    tensor.dtype = spec.dtype();
    tensor.offset_bytes = spec.offset_bytes();
    tensor.size_bytes = spec.size_bytes();
    tensor.sha256 = spec.sha256();
  }
  manifest.probe_tokens.assign(proto.probe_tokens().begin(), proto.probe_tokens().end());
  manifest.probe_logprobs.assign(proto.probe_logprobs().begin(), proto.probe_logprobs().end());
  manifest.probe_tolerance = proto.probe_tolerance();
  return manifest;
}

v1::ProcessState ToProto(const std::string& process, const ProcessStatus& status) {
  v1::ProcessState proto;
  proto.set_process(process);
  proto.set_phase(status.phase);
  for (const auto& [what, seconds] : status.waiting_seconds) {
    (*proto.mutable_waiting_seconds())[what] = seconds;
  }
  proto.set_weight_version(status.weight_version);
  if (absl::StatusOr<google::protobuf::Struct> detail = ToStruct(status.detail); detail.ok()) {
    *proto.mutable_detail() = *std::move(detail);
  }
  return proto;
}

absl::StatusOr<google::protobuf::Struct> ToStruct(const Json& json) {
  if (!json.is_object()) return Invalid("expected a JSON object");
  google::protobuf::Struct proto;
  RETURN_IF_ERROR(ToStructAt(json, 0, &proto));
  return proto;
}

Json FromStruct(const google::protobuf::Struct& proto) {
  Json json = Json::object();
  for (const auto& [key, value] : proto.fields()) json[key] = FromValue(value);
  return json;
}

}  // namespace tramontane
