// The verifiers of a run as seen by a generator: each named in the configuration, each asked over
// gRPC, none trusted.
//
// A verdict comes back for every rollout. What the verifier did wrong is tried again up to
// `max_attempts` times and then is VerdictStatus::kInfraFailure, never a reward: a dead letter,
// kept in State() and counted. A verifier that is not there is waited for: rollouts wait with it,
// and nothing is lost.
//
// `verifiers.<name>.shadow` names another entry that is shown a share of the same rollouts. Its
// verdicts are compared and thrown away; but those on `canary_fraction` of the groups count, and
// the entry itself is not asked for these. A row that pins a version is judged by that one alone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "services/handshake.h"
#include "services/verifier/circuit_breaker.h"
#include "services/verifier/verify_ticket.h"

namespace tramontane {

class ShadowComparison;
class VerifierClient;

struct VerifierPoolOptions {
  Identity identity{};     // shown to every verifier
  CircuitOptions circuit;  // the defaults suit a run; tests shorten them
};

// All members may be called from any thread.
class VerifierPool {
 public:
  // Every entry of `verifiers` has an address by now: `tramontane run` fills it in for those it
  // started. Connects in the background. `metrics` and `clock` outlive the pool.
  static absl::StatusOr<std::unique_ptr<VerifierPool>> Create(
      const std::map<std::string, VerifierSection>& verifiers, VerifierPoolOptions options,
      MetricsRegistry& metrics, const Clock& clock);
  // Ends every outstanding call with kInfraFailure, and returns once all callbacks have.
  ~VerifierPool();

  // Until every verifier but the shadows has answered Describe. FailedPrecondition on version skew;
  // Unavailable names those that did not answer.
  absl::Status WaitUntilReady(double timeout_s);

  using Callback = std::function<void(Verdict)>;
  // Scores one rollout with the verifier that the row names. The callback comes once, from another
  // thread or before Verify returns, and must not block. There is no overall deadline: attempts
  // have one each, and an absent verifier is waited for.
  void Verify(const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
              Callback callback);
  // Nobody wants this group's verdicts any more: what is outstanding becomes kInfraFailure, and the
  // services are told.
  void Cancel(const std::string& owner);

  // One entry a verifier: address, circuit, in flight, waiting, last error, version, digest, dead
  // letters, comparison with its shadow.
  Json State() const;
  // Verifiers that are waited for now, and for how long: {"verifier math": 3.2}.
  std::map<std::string, double> WaitingSeconds() const;

 private:
  VerifierPool() = default;
  bool IsShadow(const std::string& name) const;  // and nobody waits for its verdicts

  struct Shadow {
    std::string verifier;  // key of clients_
    double fraction = 0, canary_fraction = 0;
    std::shared_ptr<ShadowComparison> comparison;
  };

  std::map<std::string, VerifierSection> sections_;
  std::map<std::string, std::unique_ptr<VerifierClient>> clients_;
  std::map<std::string, Shadow> shadows_;  // by the verifier they are compared with
};

}  // namespace tramontane
