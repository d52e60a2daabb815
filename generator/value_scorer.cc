#include "generator/value_scorer.h"

#include <utility>

#include "common/status.h"
#include "generator/intra_op_threads.h"
#include "model/model_config.h"
#include "model/value_model.h"

namespace tramontane {
namespace {

absl::Status CheckFit(const std::string& folder, const ModelConfig& critic,
                      const ModelConfig& model) {
  const auto misfit = [&folder](const char* what, int64_t has, int64_t wants) {
    return absl::InvalidArgumentError(folder + ": " + what + " of the critic is " +
                                      std::to_string(has) + ", that of the model " +
                                      std::to_string(wants));
  };
  if (critic.vocab_size != model.vocab_size)
    return misfit("vocab_size", critic.vocab_size, model.vocab_size);
  if (critic.max_position_embeddings < model.max_position_embeddings)
    return misfit("max_position_embeddings", critic.max_position_embeddings,
                  model.max_position_embeddings);
  return absl::OkStatus();
}

}  // namespace

ValueScorer::ValueScorer(std::unique_ptr<ValueModel> model, std::set<int32_t> end_tokens,
                         int threads)
    : model_(std::move(model)), end_tokens_(std::move(end_tokens)), threads_(threads) {}
ValueScorer::~ValueScorer() = default;

absl::StatusOr<std::unique_ptr<ValueScorer>> ValueScorer::Load(const std::string& folder,
                                                               const std::string& model_dir,
                                                               int threads) {
  ASSIGN_OR_RETURN(const ModelConfig judged, LoadModelConfig(model_dir));
  ASSIGN_OR_RETURN(std::unique_ptr<ValueModel> model, ValueModel::Load(folder));
  RETURN_IF_ERROR(CheckFit(folder, model->config(), judged));
  return std::unique_ptr<ValueScorer>(new ValueScorer(
      std::move(model), {judged.eos_token_ids.begin(), judged.eos_token_ids.end()}, threads));
}

absl::StatusOr<std::vector<double>> ValueScorer::Score(
    const std::vector<int32_t>& prompt, const std::vector<const SearchPath*>& paths) {
  std::vector<std::vector<int32_t>> rows;
  for (const SearchPath* path : paths) {
    const Rollout& rollout = path->rollout;
    std::vector<int32_t>& row = rows.emplace_back(prompt);
    row.insert(row.end(), rollout.tokens.begin(), rollout.tokens.end());
    const bool by_token = rollout.finish_reason == FinishReason::kStop && !rollout.tokens.empty() &&
                          end_tokens_.contains(rollout.tokens.back());
    if (by_token) row.pop_back();
  }
  std::lock_guard lock(mutex_);
  SetIntraOpThreadsHere(threads_);
  return model_->LastValues(rows);
}

}  // namespace tramontane
