#include "services/verifier/client.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "common/hash.h"
#include "services/verifier/shadow_comparison.h"
#include "services/verifier/verifier_client.h"

namespace tramontane {
namespace {

Verdict NotAsked(const std::string& verifier, const std::string& why) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.verifier = verifier;
  verdict.feedback = why;
  return verdict;
}

constexpr size_t kMostShadowed = 1024;

// Whole groups: group scorers can be compared as well, and a group is judged by one version.
bool InShare(const std::string& of, const std::string& gid, double fraction) {
  constexpr double kRange = 1 << 16;
  return std::stoul(Sha256Hex(of + "/" + gid).substr(0, 4), nullptr, 16) < fraction * kRange;
}

// Waits for both verdicts on one rollout.
class ShadowPair {
 public:
  explicit ShadowPair(std::shared_ptr<ShadowComparison> comparison)
      : comparison_(std::move(comparison)) {}

  void Set(bool primary, const Verdict& verdict) {
    std::lock_guard lock(mutex_);
    (primary ? primary_ : shadow_) = verdict;
    if (primary_ && shadow_) comparison_->Compare(*primary_, *shadow_);
  }

 private:
  const std::shared_ptr<ShadowComparison> comparison_;
  std::mutex mutex_;
  std::optional<Verdict> primary_, shadow_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VerifierPool>> VerifierPool::Create(
    const std::map<std::string, VerifierSection>& verifiers, VerifierPoolOptions options,
    MetricsRegistry& metrics, const Clock& clock) {
  std::unique_ptr<VerifierPool> pool(new VerifierPool());
  pool->sections_ = verifiers;
  for (const auto& [name, section] : verifiers) {
    if (section.address.empty()) {
      return absl::InvalidArgumentError("verifiers." + name + ".address: empty");
    }
    pool->clients_[name] = std::make_unique<VerifierClient>(name, section, options, metrics, clock);
    if (section.shadow.empty()) continue;
    if (!verifiers.contains(section.shadow)) {
      return absl::InvalidArgumentError("verifiers." + name + ".shadow: '" + section.shadow +
                                        "' is not in `verifiers`");
    }
    pool->shadows_[name] = {section.shadow, section.shadow_fraction, section.canary_fraction,
                            std::make_shared<ShadowComparison>(name, section.shadow, metrics)};
  }
  return pool;
}

VerifierPool::~VerifierPool() = default;

absl::Status VerifierPool::WaitUntilReady(double timeout_s) {
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1e3));
  absl::Status worst;
  for (auto& [name, client] : clients_) {
    if (IsShadow(name)) continue;
    const absl::Status status = client->WaitUntilReady(end);
    if (worst.ok() || status.code() == absl::StatusCode::kFailedPrecondition) worst = status;
  }
  return worst;
}

void VerifierPool::Verify(const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
                          Callback callback) {
  const absl::StatusOr<std::string> key = FindVerifier(sections_, row.verifier);
  if (!key.ok()) {
    callback(NotAsked(row.verifier, std::string(key.status().message())));
    return;
  }
  VerifierClient* client = clients_.at(*key).get();
  const bool pinned = *key != row.verifier;
  const auto shadow = pinned ? shadows_.end() : shadows_.find(*key);
  const double canary_fraction = shadow == shadows_.end() ? 0 : shadow->second.canary_fraction;
  const bool canary = InShare("canary", ticket.gid, canary_fraction);
  if (canary_fraction > 0) {
    callback = [comparison = shadow->second.comparison, canary,
                callback = std::move(callback)](Verdict verdict) {
      comparison->Count(canary, verdict);
      callback(std::move(verdict));
    };
  }
  if (canary) {
    client = clients_.at(shadow->second.verifier).get();
  } else if (shadow != shadows_.end() && InShare("shadow", ticket.gid, shadow->second.fraction)) {
    VerifierClient& other = *clients_.at(shadow->second.verifier);
    // A shadow that is slow or away must cost nothing but the comparison.
    if (other.waiting() < kMostShadowed) {
      const auto pair = std::make_shared<ShadowPair>(shadow->second.comparison);
      other.Verify(row, rollout, ticket, [pair](Verdict verdict) { pair->Set(false, verdict); });
      callback = [pair, callback = std::move(callback)](Verdict verdict) {
        pair->Set(true, verdict);
        callback(std::move(verdict));
      };
    }
  }
  client->Verify(row, rollout, ticket, std::move(callback));
}

void VerifierPool::Cancel(const std::string& owner) {
  for (auto& [name, client] : clients_) client->Cancel(owner);
}

bool VerifierPool::IsShadow(const std::string& name) const {
  return std::ranges::any_of(shadows_, [&name](const auto& item) {
    return item.second.verifier == name && item.second.canary_fraction == 0;
  });
}

Json VerifierPool::State() const {
  Json state = Json::object();
  for (const auto& [name, client] : clients_) state[name] = client->State();
  for (const auto& [name, shadow] : shadows_) state[name]["shadow"] = shadow.comparison->State();
  return state;
}

std::map<std::string, double> VerifierPool::WaitingSeconds() const {
  std::map<std::string, double> waiting;
  for (const auto& [name, client] : clients_) {
    if (IsShadow(name)) continue;  // nobody waits for it
    if (const double seconds = client->WaitingSeconds(); seconds > 0) {
      waiting["verifier " + name] = seconds;
    }
  }
  return waiting;
}

}  // namespace tramontane
