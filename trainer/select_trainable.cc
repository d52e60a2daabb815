#include "trainer/select_trainable.h"

#include <set>
#include <sstream>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/status.h"
#include "model/transformer.h"
#include "trainer/learner/checkpoint_dir.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/weight_snapshot.h"
#include "trainer/ledger/rollout_log.h"
#include "trainer/ledger/selection.h"

namespace tramontane {

SelectTrainable::SelectTrainable(Options options, std::shared_ptr<Transformer> model,
                                 MetricsRegistry& metrics)
    : options_(std::move(options)),
      model_(std::move(model)),
      rows_(metrics.MakeCounter("tramontane_selected_rows_total")) {}

std::string SelectTrainable::StepPath(int64_t step) const {
  return options_.run_dir + "/selected/step_" + std::to_string(step) + ".jsonl";
}

absl::StatusOr<StepReport> SelectTrainable::Step(const std::vector<Group>& groups, int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  report.step = step;
  JsonLines lines;
  double rows = 0, prompts = 0;
  for (const Group& group : groups) {
    const std::vector<Json> selected =
        SelectRows(group, options_.reject, options_.tokenizer);
    for (const Json& row : selected) lines.Add(row);
    rows += static_cast<double>(selected.size());
    prompts += !selected.empty();
    report.sequences += static_cast<int64_t>(group.rollouts.size());
  }
  RETURN_IF_ERROR(lines.Write(StepPath(step)));
  rows_.Add(rows);
  report.metrics = {{"selected_rows", rows}, {"prompts_with_rows", prompts}};
  report.seconds = SecondsSince(start);
  return report;
}

absl::Status SelectTrainable::Check(const Group& group) const {
  return CheckGroup(group, {.vocab_size = model_->config().vocab_size});
}

WeightManifest SelectTrainable::Snapshot(int64_t version, std::vector<char>& payload) const {
  return SnapshotWeights(*model_, version, options_.probe_tolerance, payload);
}

absl::StatusOr<int64_t> SelectTrainable::SaveCheckpoint(const CheckpointState& state) {
  const auto nothing = [](const std::string&) { return absl::OkStatus(); };
  RETURN_IF_ERROR(WriteCheckpoint(options_.checkpoints_dir, state, options_.keep_last, nothing));
  return int64_t{0};
}

absl::StatusOr<int64_t> SelectTrainable::Gather(int64_t steps) const {
  std::set<std::string> known;
  JsonLines all;
  int64_t rows = 0;
  for (int64_t step = 1; step <= steps; ++step) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(StepPath(step)));
    std::set<std::string> given;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!row.is_object()) return absl::DataLossError(StepPath(step) + ": not JSON lines");
      const std::string id = row.value("id", "");
      if (known.contains(id)) continue;
      given.insert(id);
      all.Add(row);
      ++rows;
    }
    known.merge(given);
  }
  if (rows == 0) {
    return absl::FailedPreconditionError(
        "reject.keep: no sample of any prompt was kept, so there is nothing to learn from");
  }
  RETURN_IF_ERROR(all.Write(rows_path()));
  return rows;
}

}  // namespace tramontane
