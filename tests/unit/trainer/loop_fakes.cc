#include "tests/unit/trainer/loop_fakes.h"

#include <chrono>
#include <fstream>
#include <random>
#include <thread>
#include <utility>

#include "common/files.h"
#include "common/hash.h"
#include "common/record_io.h"
#include "common/status.h"
#include "queue/blob_store.h"

namespace tramontane {
namespace {

int64_t ServedVersion(const std::string& run_dir) {
  const absl::StatusOr<std::string> text = ReadFile(run_dir + "/served_version");
  return text.ok() ? std::stoll(*text) : -1;
}

Rollout MakeRollout(int32_t index, int64_t version, double score, bool infra_failure,
                    std::mt19937_64& rng) {
  Rollout rollout;
  rollout.sample_index = index;
  const int length = 1 + static_cast<int>(rng() % 6);
  for (int i = 0; i < length; ++i) {
    rollout.tokens.push_back(static_cast<int32_t>(rng() % 100));
    rollout.logprobs.push_back(-1.0f);
  }
  rollout.spans = {{version, length}};
  rollout.finish_reason = FinishReason::kStop;
  rollout.text = "answer";
  rollout.verdict.status = infra_failure ? VerdictStatus::kInfraFailure : VerdictStatus::kScored;
  if (!infra_failure) rollout.verdict.score = score;
  rollout.verdict.correct = !infra_failure && score > 0.5;
  return rollout;
}

}  // namespace

FakeTrainable::FakeTrainable(std::string run_dir, int64_t max_staleness_versions, int step_ms)
    : run_dir_(std::move(run_dir)),
      max_staleness_(max_staleness_versions),
      step_ms_(step_ms),
      weights_(Sha256Hex("initial")) {}

absl::StatusOr<FakeCheckpoint> ReadFakeCheckpoint(const std::string& run_dir) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(run_dir + "/fake_checkpoint.json"));
  const Json json = Json::parse(text);
  return FakeCheckpoint{{json["step"], json["epoch"], json["ledger"]}, json["weights"]};
}

std::optional<CheckpointState> FakeTrainable::Restore() {
  const absl::StatusOr<FakeCheckpoint> checkpoint = ReadFakeCheckpoint(run_dir_);
  if (!checkpoint.ok()) return std::nullopt;
  weights_ = checkpoint->weights;
  step_ = checkpoint->state.step;
  return checkpoint->state;
}

std::string FakeTrainable::Next(const std::string& weights, int64_t step,
                                const std::vector<std::string>& gids) {
  std::string all = weights + "\n" + std::to_string(step);
  for (const std::string& gid : gids) all += "\n" + gid;
  return Sha256Hex(all);
}

absl::StatusOr<StepReport> FakeTrainable::Step(const std::vector<Group>& groups, int64_t step) {
  if (step != step_ + 1)
    return absl::InternalError("step " + std::to_string(step) + " after " + std::to_string(step_));
  if (refuse_step) RETURN_IF_ERROR(refuse_step(step));
  std::vector<std::string> gids;
  StepReport report;
  for (const Group& group : groups) {
    gids.push_back(group.task.gid);
    if (group.rollouts.size() < 2)
      return absl::InternalError("a group with fewer than two samples");
    for (const Rollout& rollout : group.rollouts) {
      if (!rollout.verdict.score)
        return absl::InternalError("a sample without a score was trained on");
      if (step_ - MinVersion(rollout) > max_staleness_ || MaxVersion(rollout) > step_) {
        return absl::InternalError("version " + std::to_string(MinVersion(rollout)) + " in step " +
                                   std::to_string(step));
      }
      ++report.sequences;
    }
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(step_ms_));
  weights_ = Next(weights_, step, gids);
  step_ = step;
  ++steps_taken_;
  report.step = step;
  report.skipped = report.nonfinite = skip && skip(step);
  if (report.skipped) report.skip_reason = "loss is not finite";
  report.seconds = step_ms_ / 1e3;
  return report;
}

WeightManifest FakeTrainable::Snapshot(int64_t version, std::vector<char>& payload) const {
  payload.assign(weights_.begin(), weights_.end());
  WeightManifest manifest;
  manifest.version = version;
  return manifest;
}

absl::StatusOr<int64_t> FakeTrainable::SaveCheckpoint(const CheckpointState& state) {
  const Json json = {{"step", state.step},
                     {"epoch", state.trainer_epoch},
                     {"ledger", state.ledger},
                     {"weights", weights_}};
  const std::string bytes = json.dump();
  RETURN_IF_ERROR(WriteFileAtomic(run_dir_ + "/fake_checkpoint.json", bytes));
  return static_cast<int64_t>(bytes.size());
}

absl::Status FilePublisher::Publish(const WeightManifest& manifest, const std::vector<char>&) {
  return WriteFileAtomic(run_dir_ + "/served_version", std::to_string(manifest.version));
}

absl::Status FilePublisher::WaitForReceiver(int64_t version, double timeout_s) {
  for (double waited = 0; waited <= timeout_s; waited += 0.005) {
    if (ServedVersion(run_dir_) >= version) return absl::OkStatus();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return absl::DeadlineExceededError("not published");
}

void RunFakeGenerator(const FakeGeneratorOptions& options, const std::function<bool()>& stop) {
  std::mt19937_64 rng(options.seed);
  const auto chance = [&rng](int percent) { return static_cast<int>(rng() % 100) < percent; };
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  const BlobStore blobs = BlobStore::Open(options.run_dir + "/blobs").value();
  std::unique_ptr<WorkQueue> queue;
  while (!stop() && !queue) {
    absl::StatusOr<std::unique_ptr<WorkQueue>> connected =
        WorkQueue::Connect(options.redis, options.run_id);
    if (connected.ok()) queue = std::move(*connected);
    if (!queue) pause();
  }
  std::ofstream claimed(options.run_dir + "/claimed." + options.worker, std::ios::app);
  while (!stop()) {
    absl::StatusOr<std::optional<Lease>> lease = queue->Claim(options.worker, 50);
    if (!lease.ok()) pause();
    if (!lease.ok() || !lease->has_value()) continue;
    const absl::StatusOr<std::string> bytes = blobs.Get((*lease)->blob);
    if (!bytes.ok()) {
      (void)queue->Fail(**lease, std::string(bytes.status().message()), 3);
      continue;
    }
    Group group;
    group.task = DecodeTask(*bytes).value();
    if (group.task.purpose == Purpose::kTrain) claimed << group.task.gid << std::endl;
    if (chance(options.abandon)) continue;
    if (chance(options.release)) {
      (void)queue->Release(**lease);
      continue;
    }
    const int64_t version = std::max<int64_t>(ServedVersion(options.run_dir), 0);
    const bool alike = chance(options.same_reward);
    for (int32_t i = 0; i < group.task.samples; ++i) {
      const double score = group.task.purpose == Purpose::kEval || alike ? 1 : (i % 2);
      group.rollouts.push_back(MakeRollout(i, version, score, chance(options.infra), rng));
    }
    if (options.work_ms > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(options.work_ms));
    if (chance(options.fail)) {
      (void)queue->Fail(**lease, "made to fail", 3);
      continue;
    }
    const absl::StatusOr<std::string> address = blobs.Put(EncodeGroup(group));
    if (!address.ok()) continue;
    while (!stop() && absl::IsUnavailable(queue->Complete(**lease, *address))) pause();
  }
}

RunConfig LoopConfig(const RedisSection& redis, int64_t max_steps) {
  RunConfig config;
  config.redis = redis;
  config.run.max_steps = max_steps;
  config.rollout.samples_per_group = 4;
  config.rollout.max_new_tokens = 8;
  config.trainer.groups_per_step = 4;
  config.trainer.max_staleness_versions = 2;
  config.trainer.checkpoint_interval_steps = 5;
  config.trainer.eval_interval_steps = 6;
  config.generator.lease_s = 1.5;
  config.model.path = "/m";  // schedules are applied to a whole, valid configuration
  config.data.train = "/t";
  config.verifiers["math"].builtin = "math";
  return config;
}

std::vector<PromptRow> LoopRows(int count) {
  std::vector<PromptRow> rows;
  for (int i = 0; i < count; ++i) {
    PromptRow row;
    row.row_id = "row" + std::to_string(i);
    row.prompt = std::to_string(i) + "+1=";
    row.prompt_tokens = {1, 2, i};
    row.answer = std::to_string(i + 1);
    row.verifier = "math";
    rows.push_back(row);
  }
  return rows;
}

}  // namespace tramontane
