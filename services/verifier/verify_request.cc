#include "services/verifier/verify_request.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "services/convert.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

constexpr size_t kHashDigits = 16;

// Two requests that may differ in their verdicts draw differently, a repeat draws the same.
uint64_t SeedOf(const std::string& request_id) {
  return std::stoull(Sha256Hex(request_id).substr(0, kHashDigits), nullptr, 16);
}

std::string RequestId(const std::string& gid, const std::string& which,
                      const std::string& content) {
  return gid + "/" + which + "/" + Sha256Hex(content).substr(0, kHashDigits);
}

}  // namespace

absl::StatusOr<v1::VerifyRequest> RequestFor(const PromptRow& row, const Rollout& rollout,
                                             const std::string& gid, const Json& defaults) {
  v1::VerifyRequest request;
  request.set_request_id(RequestId(gid, std::to_string(rollout.sample_index), rollout.text));
  request.set_seed(SeedOf(request.request_id()));
  for (const PromptMessage& message : row.messages) {
    v1::Message* out = request.add_messages();
    out->set_role(message.role);
    out->set_content(message.content);
  }
  request.set_prompt(row.prompt);
  request.set_completion(rollout.text);
  request.set_completion_tokens(static_cast<uint32_t>(rollout.tokens.size()));
  request.set_finish_reason(ToProto(rollout.finish_reason));
  request.set_answer(row.answer);
  Json params = defaults.is_object() ? defaults : Json::object();
  params.update(row.params);
  if (!params.empty()) {
    absl::StatusOr<google::protobuf::Struct> wire = ToStruct(params);
    if (!wire.ok()) return wire.status();
    *request.mutable_params() = *std::move(wire);
  }
  request.set_group_id(gid);
  request.set_policy_version(MinVersion(rollout));
  return request;
}

v1::VerifyRequest GroupRequestOf(const std::vector<const v1::VerifyRequest*>& samples) {
  v1::VerifyRequest group = *samples.front();
  std::string content;
  for (const v1::VerifyRequest* sample : samples) {
    v1::GroupSample* item = group.add_group();
    item->set_completion(sample->completion());
    item->set_completion_tokens(sample->completion_tokens());
    item->set_finish_reason(sample->finish_reason());
    group.set_policy_version(std::min(group.policy_version(), sample->policy_version()));
    content += sample->request_id() + "\n";
  }
  group.set_request_id(RequestId(group.group_id(), "group", content));
  group.set_seed(SeedOf(group.request_id()));
  group.clear_completion();
  group.clear_completion_tokens();
  group.clear_finish_reason();
  return group;
}

std::string TooLarge(const v1::VerifyRequest& request, uint64_t most_bytes) {
  const uint64_t transport = kMaxMessageBytes;
  const uint64_t most = most_bytes > 0 ? std::min(most_bytes, transport) : transport;
  const uint64_t bytes = request.ByteSizeLong();
  if (bytes <= most) return "";
  return "the request has " + std::to_string(bytes) + " bytes, the verifier takes " +
         std::to_string(most);
}

}  // namespace tramontane
