#include "trainer/learner/rank_worker.h"

#include <c10/core/ScalarType.h>

#include <memory>
#include <utility>

#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/transformer.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/rank_command.h"

namespace tramontane {
namespace {

class RankWorker {
 public:
  explicit RankWorker(RankGroup& ranks) : ranks_(ranks) {}

  absl::Status Do(const RankCommand& command) {
    if (command.op == RankOp::kCreate) return Create(command);
    if (learner_ == nullptr) return absl::InternalError("rank 0 asks before it creates");
    switch (command.op) {
      case RankOp::kStep: {
        ASSIGN_OR_RETURN(const std::vector<Group> groups, GroupsOf(command));
        return learner_->Step(groups, command.step).status();
      }
      case RankOp::kSftStep: {
        ASSIGN_OR_RETURN(const std::vector<SftExample> examples, ExamplesOf(command));
        return learner_->SftStep(examples, command.step).status();
      }
      case RankOp::kDpoStep: {
        ASSIGN_OR_RETURN(const std::vector<PreferencePair> pairs, PairsOf(command));
        return learner_->DpoStep(pairs, command.step).status();
      }
      case RankOp::kSftLoss: {
        ASSIGN_OR_RETURN(const std::vector<SftExample> examples, ExamplesOf(command));
        return learner_->HeldOutLoss(examples).status();
      }
      case RankOp::kDpoLoss: {
        ASSIGN_OR_RETURN(const std::vector<PreferencePair> pairs, PairsOf(command));
        return learner_->HeldOutLoss(pairs).status();
      }
      case RankOp::kSave:
        return learner_->SaveState(command.text);
      case RankOp::kLoad:
        return learner_->LoadState(command.text);
      default:
        return absl::DataLossError("rank 0 asks for what this rank does not know");
    }
  }

 private:
  // The weights come from rank 0, when the learner starts.
  absl::Status Create(const RankCommand& command) {
    learner_.reset();
    absl::StatusOr<RunConfig> config = ConfigFromJson(command.config);
    absl::StatusOr<ModelConfig> model_config = ParseModelConfig(command.model);
    // Rank 0 took them: it does not know that this rank cannot.
    if (!config.ok()) return absl::InternalError(config.status().message());
    if (!model_config.ok()) return absl::InternalError(model_config.status().message());
    const auto dtype = command.dtype == c10::toString(at::kDouble) ? at::kDouble : at::kFloat;
    std::shared_ptr<Transformer> model;
    RETURN_IF_ERROR(GuardTorch(
        [&] { model = std::make_shared<Transformer>(*std::move(model_config), at::kCPU, dtype); }));
    ASSIGN_OR_RETURN(learner_, Learner::Create(*config, std::move(model), metrics_, &ranks_));
    return absl::OkStatus();
  }

  RankGroup& ranks_;
  MetricsRegistry metrics_;  // nobody reads them: rank 0 exports what concerns all
  std::unique_ptr<Learner> learner_;
};

}  // namespace

absl::Status ServeRank(RankGroup& ranks) {
  RankWorker worker(ranks);
  while (true) {
    std::string bytes;
    const absl::Status heard = ranks.Broadcast(bytes, /*patient=*/true);
    if (absl::IsCancelled(heard)) return absl::OkStatus();
    RETURN_IF_ERROR(heard);
    ASSIGN_OR_RETURN(const RankCommand command, DecodeRankCommand(bytes));
    const absl::Status done = worker.Do(command);
    if (done.ok()) continue;
    if (absl::IsCancelled(done)) return absl::OkStatus();  // it ended while this rank was finishing
    LogWarn("rank_command_failed", {{"rank", ranks.rank()}, {"status", done}});
    GiveUpAfter(done, &ranks);
    if (!absl::IsInvalidArgument(done)) return done;
  }
}

}  // namespace tramontane
