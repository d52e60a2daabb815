#include "trainer/learner/learner.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "common/algorithm_rules.h"
#include "common/files.h"
#include "common/status.h"
#include "model/guard_torch.h"
#include "model/model_dir.h"
#include "model/transformer.h"
#include "trainer/learner/learner_impl.h"
#include "trainer/learner/model_flop.h"
#include "trainer/learner/rank_command.h"
#include "trainer/learner/supervised.h"
#include "trainer/learner/train_rows.h"
#include "trainer/learner/weight_snapshot.h"

namespace tramontane {
namespace {

// Large enough for the matrix kernel's full speed, done in some milliseconds.
constexpr int64_t kPeakSide = 512;
const char* const kAdapterFolder = "/adapter";

absl::Status CheckRanks(int32_t configured, const RankGroup* ranks) {
  const int present = ranks == nullptr ? 1 : ranks->size();
  if (present == configured) return absl::OkStatus();
  return absl::FailedPreconditionError("trainer.ranks is " + std::to_string(configured) + ", but " +
                                       std::to_string(present) + " are connected");
}

absl::StatusOr<std::shared_ptr<Transformer>> LoadTeacher(const std::string& dir,
                                                         const Transformer& student) {
  absl::StatusOr<std::shared_ptr<Transformer>> teacher = LoadModelDir(dir);
  if (!teacher.ok()) return Annotate(teacher.status(), "distill.teacher");
  const int64_t of_teacher = (*teacher)->config().vocab_size, ours = student.config().vocab_size;
  if (of_teacher != ours) {
    return absl::InvalidArgumentError("distill.teacher: has a vocabulary of " +
                                      std::to_string(of_teacher) + ", the student " +
                                      std::to_string(ours) +
                                      " (rule teacher_and_student_share_a_vocabulary)");
  }
  return teacher;
}

// What all ranks do: the others by `command` (a function that makes one), this one by `act`.
template <class Command, class Act>
auto Together(RankGroup* ranks, const Command& command, const Act& act) -> decltype(act()) {
  RETURN_IF_ERROR(Tell(ranks, command));
  auto done = act();
  GiveUpAfter(done.status(), ranks);
  return done;
}

RankCommand WithOp(RankOp op, RankCommand command) {
  command.op = op;
  return command;
}

}  // namespace

Learner::Impl::Impl(const RunConfig& config, std::shared_ptr<Transformer> model,
                    PolicyWeights policy, std::shared_ptr<Transformer> teacher,
                    MetricsRegistry& metrics, RankGroup* ranks)
    : config_(config),
      model_(std::move(model)),
      compute_(std::move(policy.compute)),
      lora_(policy.lora),
      crew_(config.trainer.threads, ranks),
      optimiser_(std::move(policy.trained), config.trainer, crew_),
      update_(*compute_, optimiser_, crew_, config_.trainer),
      metrics_(metrics) {
  state_.entropy = EntropyControl::Start(config.algorithm.entropy);
  compute_->set_recompute_layers(config.trainer.activation_checkpointing);
  if (teacher != nullptr) {
    reference_ = std::make_unique<ReferenceModel>(std::move(teacher));
  } else if (NeedsReferenceModel(config.algorithm)) {
    reference_ = std::make_unique<ReferenceModel>(*compute_);
  }
  if (NeedsCritic(config.algorithm)) critic_ = std::make_unique<Critic>(*model_, config, crew_);
  const int size = ranks != nullptr ? ranks->size() : 1;
  peak_flops_ = size * MultiplyPeakFlops(crew_.workers(), kPeakSide);
  metrics_.SetReferenceBytes(reference_ != nullptr ? reference_->bytes() : 0);
  metrics_.SetCriticBytes(critic_ != nullptr ? critic_->bytes() : 0);
  metrics_.SetOptimiserBytes(optimiser_.state_bytes(), optimiser_.gradient_bytes());
  metrics_.SetRanks(size);
}

RowLimits Learner::Impl::Limits() const {
  const ModelConfig& model = model_->config();
  RowLimits limits{.vocab_size = model.vocab_size};
  if (!config_.trainer.router_replay) return limits;
  limits.route_size = model.route_size();
  limits.experts_per_token = model.experts_per_token;
  for (const LayerShape& layer : model.layers)
    limits.experts = std::max(limits.experts, layer.experts);
  return limits;
}

absl::Status Learner::Impl::SaveState(const std::string& dir) const {
  RETURN_IF_ERROR(optimiser_.Save(dir));
  if (critic_ != nullptr) RETURN_IF_ERROR(critic_->Save(dir));
  return crew_.Lead([&]() -> absl::Status {
    if (lora_ != nullptr) {
      RETURN_IF_ERROR(MakeDirs(dir + kAdapterFolder));
      RETURN_IF_ERROR(lora_->Save(dir + kAdapterFolder, config_.model.path));
    }
    if (reference_ != nullptr) RETURN_IF_ERROR(reference_->Save(dir));
    return SaveLearnerState(dir, state_);
  });
}

absl::Status Learner::Impl::LoadAdapters(const std::string& dir) {
  if (lora_ == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(crew_.Lead([&] { return lora_->Load(dir + kAdapterFolder); }));
  RETURN_IF_ERROR(Spread(crew_.ranks(), TensorsOf(lora_->masters())));
  return GuardTorch([&] { lora_->Publish(); });
}

absl::Status Learner::Impl::LoadState(const std::string& dir) {
  RETURN_IF_ERROR(LoadAdapters(dir));
  RETURN_IF_ERROR(optimiser_.Load(dir));
  if (reference_ != nullptr) {
    RETURN_IF_ERROR(crew_.Lead([&] { return reference_->Load(dir); }));
    RETURN_IF_ERROR(Spread(crew_.ranks(), TensorsOf(reference_->model().NamedWeights())));
  }
  if (critic_ != nullptr) RETURN_IF_ERROR(critic_->Load(dir));
  RETURN_IF_ERROR(crew_.Lead([&]() -> absl::Status {
    absl::StatusOr<LearnerState> state = LoadLearnerState(dir);
    if (absl::IsNotFound(state.status()))
      return absl::OkStatus();  // saved before there was such a state
    if (state.ok()) state_ = *state;
    return state.status();
  }));
  static_assert(std::is_trivially_copyable_v<LearnerState>);
  return ranks() == nullptr ? absl::OkStatus() : ranks()->Broadcast(&state_, sizeof(state_));
}

absl::StatusOr<std::unique_ptr<Learner>> Learner::Create(const RunConfig& config,
                                                         std::shared_ptr<Transformer> model,
                                                         MetricsRegistry& metrics,
                                                         RankGroup* ranks) {
  RETURN_IF_ERROR(ValidateAlgorithm(config.algorithm));
  RETURN_IF_ERROR(CheckRunnable(config.algorithm));
  if (config.trainer.router_replay && model->config().expert_layers() == 0)
    return absl::InvalidArgumentError("trainer.router_replay: the model (" +
                                      model->config().family + ") has no experts");
  if (config.trainer.mtp_weight > 0 && !model->config().mtp)
    return absl::InvalidArgumentError("trainer.mtp_weight: the model (" + model->config().family +
                                      ") has no multi-token-prediction head");
  RETURN_IF_ERROR(CheckRanks(config.trainer.ranks, ranks));
  std::shared_ptr<Transformer> teacher;
  if (config.algorithm.kl.kind != "none" && config.algorithm.kl.reference == "teacher") {
    ASSIGN_OR_RETURN(teacher, LoadTeacher(config.distill.teacher, *model));
  }
  RETURN_IF_ERROR(Tell(ranks, [&] {
    return RankCommand{.op = RankOp::kCreate,
                       .config = ToJson(config),
                       .model = model->config().source,
                       .dtype = c10::toString(model->parameters().front().scalar_type())};
  }));
  RETURN_IF_ERROR(Spread(ranks, TensorsOf(model->NamedWeights())));
  ASSIGN_OR_RETURN(PolicyWeights policy, MakePolicyWeights(config, model));
  std::unique_ptr<Learner> learner;
  RETURN_IF_ERROR(GuardTorch([&] {
    at::set_num_threads(1);
    learner.reset(new Learner(std::make_unique<Impl>(config, std::move(model), std::move(policy),
                                                     std::move(teacher), metrics, ranks)));
  }));
  return learner;
}

absl::StatusOr<std::unique_ptr<Learner>> Learner::CreateForSft(const RunConfig& config,
                                                               std::shared_ptr<Transformer> model,
                                                               MetricsRegistry& metrics,
                                                               RankGroup* ranks) {
  RunConfig sft = config;
  sft.algorithm = SupervisedAlgorithm(config);
  sft.trainer.router_replay = false;  // its texts were not generated here
  sft.schedules.clear();
  return Create(sft, std::move(model), metrics, ranks);
}

Learner::Learner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Learner::~Learner() = default;

absl::StatusOr<StepReport> Learner::Step(const std::vector<Group>& groups, int64_t step) {
  return Together(
      impl_->ranks(), [&] { return StepCommand(groups, step); },
      [&] { return impl_->Step(groups, step); });
}

absl::Status Learner::Check(const Group& group) const { return impl_->Check(group); }

absl::StatusOr<StepReport> Learner::SftStep(const std::vector<SftExample>& examples, int64_t step) {
  return Together(
      impl_->ranks(), [&] { return SftStepCommand(examples, step); },
      [&] { return impl_->SftStep(examples, step); });
}

absl::StatusOr<StepReport> Learner::DpoStep(const std::vector<PreferencePair>& pairs,
                                            int64_t step) {
  return Together(
      impl_->ranks(), [&] { return DpoStepCommand(pairs, step); },
      [&] { return impl_->DpoStep(pairs, step); });
}

absl::StatusOr<double> Learner::HeldOutLoss(const std::vector<SftExample>& examples) {
  return Together(
      impl_->ranks(), [&] { return WithOp(RankOp::kSftLoss, SftStepCommand(examples, 0)); },
      [&] { return impl_->HeldOutLoss(examples); });
}

absl::StatusOr<double> Learner::HeldOutLoss(const std::vector<PreferencePair>& pairs) {
  return Together(
      impl_->ranks(), [&] { return WithOp(RankOp::kDpoLoss, DpoStepCommand(pairs, 0)); },
      [&] { return impl_->HeldOutLoss(pairs); });
}

absl::Status Learner::SaveState(const std::string& dir) const {
  RETURN_IF_ERROR(
      Tell(impl_->ranks(), [&] { return RankCommand{.op = RankOp::kSave, .text = dir}; }));
  return impl_->SaveState(dir);
}

absl::Status Learner::LoadState(const std::string& dir) {
  RETURN_IF_ERROR(
      Tell(impl_->ranks(), [&] { return RankCommand{.op = RankOp::kLoad, .text = dir}; }));
  return impl_->LoadState(dir);
}

WeightManifest Learner::Snapshot(int64_t version, std::vector<char>& payload) const {
  return SnapshotWeights(impl_->model(), version, impl_->config().weights.probe_tolerance, payload);
}

Transformer& Learner::model() { return impl_->model(); }
const Transformer& Learner::model() const { return impl_->model(); }

}  // namespace tramontane
