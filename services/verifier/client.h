// The verifiers of a run as seen by a generator: each named in the configuration, each asked over
// gRPC, none trusted.
//
// A verdict comes back for every rollout. What the verifier did wrong is tried again up to
// `max_attempts` times and then is VerdictStatus::kInfraFailure, never a reward. A verifier that is
// not there is waited for: rollouts wait with it, and nothing is lost.
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

namespace tramontane {

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

  // Until every verifier has answered Describe. FailedPrecondition on version skew; Unavailable
  // names those that did not answer.
  absl::Status WaitUntilReady(double timeout_s);

  using Callback = std::function<void(Verdict)>;
  // Scores one rollout of group `gid` with the verifier that the row names. The callback comes
  // once, from another thread or before Verify returns, and must not block. There is no overall
  // deadline: attempts have one each, and an absent verifier is waited for.
  void Verify(const PromptRow& row, const Rollout& rollout, const std::string& gid,
              Callback callback);

  // One entry a verifier: address, state, in flight, waiting, last error, version, digest, …
  Json State() const;
  // Verifiers that are waited for now, and for how long: {"verifier math": 3.2}.
  std::map<std::string, double> WaitingSeconds() const;

 private:
  VerifierPool() = default;

  std::map<std::string, std::unique_ptr<VerifierClient>> clients_;
};

}  // namespace tramontane
