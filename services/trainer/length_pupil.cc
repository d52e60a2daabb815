#include "services/trainer/length_pupil.h"

#include <utility>

#include "common/log.h"
#include "common/status.h"
#include "data/dataset.h"
#include "generator/core/thinking_plan.h"
#include "model/model_config.h"
#include "model/model_dir.h"
#include "services/trainer/stage_rows.h"
#include "text/thoughts.h"
#include "trainer/learner/checkpoint_dir.h"
#include "trainer/learner/length_learner.h"

namespace tramontane {
namespace {

// Where the row thinks, up to the token that ends it; empty when it never does, or never stops.
absl::StatusOr<std::optional<LengthExample>> LengthsOf(SftExample row, const TextTools& text,
                                                       const ThinkingProfile& profile,
                                                       const std::vector<int32_t>& end_tokens) {
  ASSIGN_OR_RETURN(const std::string opening,
                   AnswerOpening(row.prompt_tokens, end_tokens, *text.tokenizer));
  ASSIGN_OR_RETURN(const ThinkingPlan plan,
                   PlanThinking(std::nullopt, profile, /*prompt_text=*/"", opening, /*room=*/1,
                                /*encode=*/nullptr));
  if (plan.start == ThinkPhase::kAfter) return std::nullopt;
  const ThoughtSpan thoughts =
      FindThoughts(row.completion_tokens, plan.start == ThinkPhase::kInside,
                   {profile.open, profile.close}, text.tokenizer);
  const bool ends = thoughts.closed && thoughts.end < row.completion_tokens.size();
  if (!ends || thoughts.size() == 0) return std::nullopt;
  row.completion_tokens.resize(thoughts.end + 1);
  return LengthExample{.prompt_tokens = std::move(row.prompt_tokens),
                       .response_tokens = std::move(row.completion_tokens),
                       .first_thought = static_cast<int32_t>(thoughts.begin)};
}

absl::StatusOr<std::vector<LengthExample>> LoadLengths(const SupervisedStage& stage,
                                                       const std::string& path) {
  ModelConfig model;
  ASSIGN_OR_RETURN(model, ModelForRows(stage));
  ThinkingProfile profile;
  ASSIGN_OR_RETURN(profile, LoadThinkingProfile(stage.base_dir));
  ASSIGN_OR_RETURN(std::vector<SftExample> rows,
                   LoadSftExamples(path, *stage.text.tokenizer, stage.text.chat_template.get(),
                                   model.eos_token_ids.front()));
  RETURN_IF_ERROR(CheckIds(rows, path, model.vocab_size));
  std::vector<LengthExample> examples;
  const size_t count = rows.size();
  for (SftExample& row : rows) {
    ASSIGN_OR_RETURN(std::optional<LengthExample> lengths,
                     LengthsOf(std::move(row), stage.text, profile, model.eos_token_ids));
    if (lengths) examples.push_back(*std::move(lengths));
  }
  if (examples.empty()) {
    return absl::InvalidArgumentError(path + ": no completion has thoughts that " + profile.close +
                                      " closes, so there are no lengths to learn");
  }
  LogInfo("length_rows", {{"file", path}, {"rows", count}, {"with_thoughts", examples.size()}});
  return examples;
}

class LengthPupil final : public Pupil {
 public:
  LengthPupil(std::vector<LengthExample> examples, std::vector<LengthExample> held_out,
              std::unique_ptr<LengthLearner> learner, std::string base_dir)
      : examples_(std::move(examples)),
        held_out_(std::move(held_out)),
        learner_(std::move(learner)),
        base_dir_(std::move(base_dir)) {}

  size_t rows() const override { return examples_.size(); }
  absl::StatusOr<StepReport> Step(const std::vector<size_t>& drawn, int64_t step) override {
    return learner_->Step(Those(examples_, drawn), step);
  }
  size_t held_out_rows() const override { return held_out_.size(); }
  absl::StatusOr<double> HeldOutLoss() override { return learner_->HeldOutLoss(held_out_); }

  absl::Status SaveCheckpoint(const std::string& checkpoints_dir,
                              const CheckpointState& state) const override {
    return WriteCheckpoint(checkpoints_dir, state, kStageCheckpoints,
                           [this](const std::string& dir) { return learner_->Save(dir); });
  }

  absl::Status SaveResult(const std::string& out_dir) const override {
    return SaveModelDir(learner_->model(), base_dir_, out_dir,
                        [this](const std::string& dir) { return learner_->SavePredictor(dir); });
  }

 private:
  const std::vector<LengthExample> examples_, held_out_;
  const std::unique_ptr<LengthLearner> learner_;
  const std::string base_dir_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Pupil>> MakeLengthPupil(const SupervisedStage& stage,
                                                       const std::optional<LoadedCheckpoint>& from,
                                                       MetricsRegistry& metrics) {
  ASSIGN_OR_RETURN(std::vector<LengthExample> examples, LoadLengths(stage, stage.config.sft.data));
  std::vector<LengthExample> held_out;
  if (const std::string& path = stage.config.sft.eval_data; !path.empty()) {
    ASSIGN_OR_RETURN(held_out, LoadLengths(stage, path));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Transformer> model, LoadModelDir(stage.base_dir));
  ASSIGN_OR_RETURN(std::unique_ptr<LengthLearner> learner,
                   LengthLearner::Create(stage.config, std::move(model), metrics));
  if (from) RETURN_IF_ERROR(learner->Load(from->dir));
  return std::unique_ptr<Pupil>(std::make_unique<LengthPupil>(
      std::move(examples), std::move(held_out), std::move(learner), stage.base_dir));
}

}  // namespace tramontane
