#include "services/generator/serve.h"

#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/config.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "generator/engine.h"
#include "model/model_dir.h"
#include "services/generator/announcer.h"
#include "services/generator/group_worker.h"
#include "services/generator/service.h"
#include "services/host_id.h"
#include "services/run_files.h"
#include "services/runner.h"
#include "services/verifier/client.h"

namespace tramontane {
namespace {

// Weights of this version are not a policy yet: nothing is claimed before the first commit.
constexpr int64_t kNoVersion = -1;

EngineOptions EngineOptionsOf(const GeneratorSection& section, bool member_of_run) {
  return {.threads = section.threads,
          .max_running_sequences = section.max_running_sequences,
          .max_waiting_sequences = section.max_waiting_sequences,
          .kv_block_tokens = section.kv_block_tokens,
          .kv_blocks = section.kv_blocks,
          .prefill_chunk_tokens = section.prefill_chunk_tokens,
          .initial_version = member_of_run ? kNoVersion : 0};
}

// Everything but signals, metrics and server. Members are made in this order and end in the
// opposite one, so that whoever calls back into another ends before it.
class GeneratorProcess {
 public:
  GeneratorProcess(const ServeOptions& options, RunConfig config, std::string process,
                   ServiceRunner& runner, MetricsRegistry& metrics)
      : options_(options),
        config_(std::move(config)),
        process_(std::move(process)),
        runner_(runner),
        metrics_(metrics) {}

  absl::Status Build() {
    const bool member = !options_.config_path.empty();
    const std::string model_dir =
        member ? BaseModelDir(config_, options_.run_dir) : options_.model_dir;
    ASSIGN_OR_RETURN(text_, LoadTextTools(model_dir));
    identity_ = MakeIdentity(member ? config_.run.name : "", text_);
    std::shared_ptr<Transformer> model;
    ASSIGN_OR_RETURN(model, LoadModelDir(model_dir));
    ASSIGN_OR_RETURN(engine_, Engine::Create(EngineOptionsOf(config_.generator, member),
                                             std::move(model), text_.tokenizer, metrics_));
    service_.emplace(
        GeneratorService::Options{.process = process_,
                                  .identity = identity_,
                                  .default_prepare_timeout_s = config_.weights.prepare_timeout_s},
        *engine_, text_.tokenizer, metrics_);
    runner_.set_identity(identity_);
    runner_.AddService(&*service_, v1::Generator::service_full_name());
    runner_.OnState([this] { return service_->Status(); });
    runner_.OnDrain([this](double deadline_s) { Drain(deadline_s); });
    return member ? BuildWorker() : absl::OkStatus();
  }

  // Once the server listens: announces its address and takes work.
  void Begin() {
    if (worker_ == nullptr) return;
    announcer_ = std::make_unique<Announcer>(
        Announcer::Options{.trainer_address = options_.trainer_address,
                           .generator_id = process_,
                           .incarnation = MakeIncarnation(),
                           .own_address = runner_.address(),
                           .host_id = HostId(),
                           .identity = identity_},
        [this] { return engine_->stats().version; },
        [this](const absl::Status& skew) { runner_.RequestStop("the trainer refused us", skew); });
    worker_->Start();
    verifier_watch_ = std::jthread([this](std::stop_token stop) { WatchVerifiers(std::move(stop)); });
  }

 private:
  // A verifier that is away is waited for; one that speaks another protocol would be waited for in
  // vain, so the run has to hear of it.
  void WatchVerifiers(std::stop_token stop) {
    while (!stop.stop_requested()) {
      const absl::Status ready = verifiers_->WaitUntilReady(/*timeout_s=*/0.5);
      if (ready.ok()) return;
      if (absl::IsFailedPrecondition(ready)) return runner_.RequestStop("a verifier refused us", ready);
    }
  }

  absl::Status BuildWorker() {
    ASSIGN_OR_RETURN(verifiers_, VerifierPool::Create(config_.verifiers, {.identity = identity_, .circuit = {}},
                                                      metrics_, clock_));
    worker_ = std::make_unique<GroupWorker>(
        GroupWorkerOptions{.redis = config_.redis,
                           .run_id = config_.run.name,
                           .worker = process_,
                           .blob_root = BlobsDir(options_.run_dir),
                           .lease_s = config_.generator.lease_s,
                           .claim_groups = config_.generator.claim_groups,
                           .samples_per_group = config_.rollout.samples_per_group,
                           .max_running_sequences = config_.generator.max_running_sequences},
        Hooks(), metrics_);
    service_->AddWaits([this] { return worker_->WaitingSeconds(); });
    service_->AddWaits([this] { return verifiers_->WaitingSeconds(); });
    service_->AddDetail("verifiers", [this] { return verifiers_->State(); });
    return absl::OkStatus();
  }

  GroupWorkerHooks Hooks() {
    return {.submit = [this](SampleRequest request) { return engine_->Submit(std::move(request)); },
            .cancel = [this](const std::string& id) { engine_->Cancel(id); },
            .ready =
                [this] {
                  const EngineStats stats = engine_->stats();
                  return stats.healthy && stats.version != kNoVersion;
                },
            .verify =
                [this](const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
                       std::function<void(Verdict)> done) {
                  verifiers_->Verify(row, rollout, ticket, std::move(done));
                },
            .cancel_verify = [this](const std::string& owner) { verifiers_->Cancel(owner); }};
  }

  void Drain(double deadline_s) {
    if (worker_ != nullptr) worker_->Drain(deadline_s);
    announcer_.reset();  // says goodbye to the trainer
  }

  const ServeOptions& options_;
  const RunConfig config_;
  const std::string process_;
  ServiceRunner& runner_;
  MetricsRegistry& metrics_;
  const SystemClock clock_;
  Identity identity_;
  TextTools text_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<VerifierPool> verifiers_;
  std::unique_ptr<GroupWorker> worker_;
  std::optional<GeneratorService> service_;
  std::unique_ptr<Announcer> announcer_;
  std::jthread verifier_watch_;
};

absl::StatusOr<RunConfig> ConfigOf(const ServeOptions& options) {
  if (options.config_path.empty() == options.model_dir.empty()) {
    return absl::InvalidArgumentError("give either --config or --model");
  }
  if (options.config_path.empty()) return RunConfig{};
  if (options.run_dir.empty()) return absl::InvalidArgumentError("--config needs --run-dir");
  if (options.trainer_address.empty()) return absl::InvalidArgumentError("--config needs --trainer");
  return LoadRunConfig(options.config_path);
}

}  // namespace

int ServeGenerator(const ServeOptions& options) {
  const std::string process = "generator-" + std::to_string(options.index);
  InitLogging(process);
  absl::StatusOr<RunConfig> config = ConfigOf(options);
  const GeneratorSection section = config.ok() ? config->generator : GeneratorSection{};
  MetricsRegistry metrics;
  ServiceRunner runner({.process = process,
                        .bind = options.bind.empty() ? section.bind : options.bind,
                        .advertise_host = options.advertise_host,
                        .metrics_bind = config.ok() ? config->metrics.bind : "",
                        .ready_file = options.ready_file,
                        .exit_with_parent = options.exit_with_parent},
                       metrics);
  if (!config.ok()) return runner.Fail(config.status());
  GeneratorProcess generator(options, *std::move(config), process, runner, metrics);
  if (absl::Status status = generator.Build(); !status.ok()) return runner.Fail(status);
  if (absl::Status status = runner.Start(); !status.ok()) return runner.Fail(status);
  generator.Begin();
  runner.WaitForStop();
  return runner.Shutdown();
}

}  // namespace tramontane
