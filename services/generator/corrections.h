// The second layer of groups (common/layers.h): as an answer is finished, its corrections are
// sampled from prompt, answer and a phrase, each answer's at once; whoever asked gets answers and
// corrections alike, one rollout a sample.
//
// One thread hands requests to the engine, whose callbacks do not block. Neither torch nor gRPC.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/engine_hooks.h"
#include "text/tokenizer.h"

namespace tramontane {

class CorrectionRunner {
 public:
  // What the hooks reach outlives the last callback. InvalidArgument: a phrase gives no tokens.
  static absl::StatusOr<std::unique_ptr<CorrectionRunner>> Create(
      const std::vector<std::string>& phrases, EngineHooks engine,
      const std::shared_ptr<const Tokenizer>& tokenizer, MetricsRegistry& metrics);
  ~CorrectionRunner();  // corrections that are not with the engine yet end with kAborted

  // As Engine::Submit, for request.n = task.samples of a task with two layers: on_finished once for
  // each. Chunks are not streamed. Corrections of an answer that was cut short by its engine or its
  // deadline end as it did; those that have no room left end by length, without tokens.
  absl::Status Submit(SampleRequest request, const GroupTask& task);
  void Cancel(const std::string& id);  // its samples end with kAborted

 private:
  class Impl;
  explicit CorrectionRunner(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tramontane
