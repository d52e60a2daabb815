#include "services/verifier/client.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "services/convert.h"
#include "services/verifier/verifier_client.h"

namespace tramontane {
namespace {

absl::StatusOr<v1::VerifyRequest> MakeRequest(const PromptRow& row, const Rollout& rollout,
                                              const std::string& gid, double exec_timeout_s) {
  v1::VerifyRequest request;
  request.set_request_id(gid + "/" + std::to_string(rollout.sample_index));
  request.set_prompt(row.prompt);
  request.set_completion(rollout.text);
  request.set_completion_tokens(static_cast<uint32_t>(rollout.tokens.size()));
  request.set_finish_reason(ToProto(rollout.finish_reason));
  request.set_answer(row.answer);
  if (!row.params.empty()) {
    absl::StatusOr<google::protobuf::Struct> params = ToStruct(row.params);
    if (!params.ok()) return params.status();
    *request.mutable_params() = *std::move(params);
  }
  request.set_group_id(gid);
  request.set_policy_version(MinVersion(rollout));
  request.set_exec_timeout_s(exec_timeout_s);
  return request;
}

Verdict NotAsked(const std::string& verifier, const std::string& why) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.verifier = verifier;
  verdict.feedback = why;
  return verdict;
}

}  // namespace

absl::StatusOr<std::unique_ptr<VerifierPool>> VerifierPool::Create(
    const std::map<std::string, VerifierSection>& verifiers, VerifierPoolOptions options,
    MetricsRegistry& metrics, const Clock& clock) {
  std::unique_ptr<VerifierPool> pool(new VerifierPool());
  for (const auto& [name, section] : verifiers) {
    if (section.address.empty()) {
      return absl::InvalidArgumentError("verifiers." + name + ".address: empty");
    }
    pool->clients_[name] =
        std::make_unique<VerifierClient>(name, section, options, metrics, clock);
  }
  return pool;
}

VerifierPool::~VerifierPool() = default;

absl::Status VerifierPool::WaitUntilReady(double timeout_s) {
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1e3));
  absl::Status worst;
  for (auto& [name, client] : clients_) {
    const absl::Status status = client->WaitUntilReady(end);
    if (worst.ok() || status.code() == absl::StatusCode::kFailedPrecondition) worst = status;
  }
  return worst;
}

void VerifierPool::Verify(const PromptRow& row, const Rollout& rollout, const std::string& gid,
                          Callback callback) {
  const auto it = clients_.find(row.verifier);
  if (it == clients_.end()) {
    callback(NotAsked(row.verifier, "no verifier is named \"" + row.verifier + "\""));
    return;
  }
  VerifierClient& client = *it->second;
  absl::StatusOr<v1::VerifyRequest> request =
      MakeRequest(row, rollout, gid, client.exec_timeout_s());
  if (!request.ok()) {
    callback(NotAsked(row.verifier, "params: " + std::string(request.status().message())));
    return;
  }
  client.Verify(*std::move(request), std::move(callback));
}

Json VerifierPool::State() const {
  Json state = Json::object();
  for (const auto& [name, client] : clients_) state[name] = client->State();
  return state;
}

std::map<std::string, double> VerifierPool::WaitingSeconds() const {
  std::map<std::string, double> waiting;
  for (const auto& [name, client] : clients_) {
    if (const double seconds = client->WaitingSeconds(); seconds > 0) {
      waiting["verifier " + name] = seconds;
    }
  }
  return waiting;
}

}  // namespace tramontane
