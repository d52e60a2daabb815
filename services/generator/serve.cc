#include "services/generator/serve.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>

#include "common/clock.h"
#include "common/config.h"
#include "common/host_port.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "generator/engine_hooks.h"
#include "generator/session_store.h"
#include "model/model_config.h"
#include "model/model_dir.h"
#include "services/generator/announcer.h"
#include "services/generator/corrections.h"
#include "services/generator/environments.h"
#include "services/generator/group_worker.h"
#include "services/generator/http/endpoint.h"
#include "services/generator/search_hooks.h"
#include "services/generator/search_service.h"
#include "services/generator/serve_config.h"
#include "services/generator/service.h"
#include "services/host_id.h"
#include "services/run_files.h"
#include "services/runner.h"
#include "services/verifier/client.h"

namespace tramontane {
namespace {

// Weights of this version are not a policy yet: nothing is claimed before the first commit.
constexpr int64_t kNoVersion = -1;
constexpr int32_t kMostSamplesOfRequest = 4096;

EngineOptions EngineOptionsOf(const RunConfig& config, bool member_of_run) {
  const GeneratorSection& section = config.generator;
  return {.engine = section.engine,
          .weights_dtype = section.weights_dtype,
          .threads = section.threads,
          .max_running_sequences = section.max_running_sequences,
          .max_waiting_sequences = section.max_waiting_sequences,
          .kv_block_tokens = section.kv_block_tokens,
          .kv_blocks = section.kv_blocks,
          .prefill_chunk_tokens = section.prefill_chunk_tokens,
          .prefix_cache = section.prefix_cache,
          .recompute_kv_on_swap = section.recompute_kv_on_swap,
          .segment_tokens = config.rollout.segment_tokens,
          .ngram_draft_tokens = section.ngram_draft_tokens,
          .mtp_draft = section.mtp_draft,
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
    EngineOptions engine = EngineOptionsOf(config_, member);
    ASSIGN_OR_RETURN(thinking_, LoadThinkingProfile(model_dir));
    engine.thinking = thinking_;
    ASSIGN_OR_RETURN(engine.length_predictor, FindLengthPredictor(model_dir));
    ASSIGN_OR_RETURN(engine_, Engine::Create(engine, std::move(model), text_.tokenizer, metrics_));
    service_.emplace(
        GeneratorService::Options{.process = process_,
                                  .identity = identity_,
                                  .default_prepare_timeout_s = config_.weights.prepare_timeout_s},
        *engine_, text_.tokenizer, metrics_);
    runner_.set_identity(identity_);
    runner_.AddService(&*service_, v1::Generator::service_full_name());
    runner_.OnState([this] { return service_->Status(); });
    runner_.OnDrain([this](double deadline_s) { Drain(deadline_s); });
    RETURN_IF_ERROR(BuildServing(model_dir));
    if (member) RETURN_IF_ERROR(BuildWorker());
    return BuildEndpoint(model_dir);
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
    verifier_watch_ =
        std::jthread([this](std::stop_token stop) { WatchVerifiers(std::move(stop)); });
  }

 private:
  // A verifier or environment that is away is waited for; one that speaks another protocol would be
  // waited for in vain, so the run has to hear of it.
  void WatchVerifiers(std::stop_token stop) {
    while (!stop.stop_requested()) {
      const absl::Status ready = verifiers_->WaitUntilReady(/*timeout_s=*/0.5);
      const absl::Status turns = environments_->WaitUntilReady(/*timeout_s=*/0.5);
      if (ready.ok() && turns.ok()) return;
      if (absl::IsFailedPrecondition(ready))
        return runner_.RequestStop("a verifier refused us", ready);
      if (absl::IsFailedPrecondition(turns))
        return runner_.RequestStop("an environment refused us", turns);
    }
  }

  absl::Status BuildEndpoint(const std::string& model_dir) {
    const GeneratorSection& section = config_.generator;
    const int port = options_.http_port.value_or(section.http_port);
    if (port == 0 && !options_.http_port.has_value()) return absl::OkStatus();
    const std::string bind = options_.bind.empty() ? section.bind : options_.bind;
    const std::string host =
        options_.http_host.empty() ? HostOf(bind) : options_.http_host;
    ASSIGN_OR_RETURN(const ModelConfig shape, LoadModelConfig(model_dir));
    EndpointOptions options;
    options.server.bind = host + ":" + std::to_string(port);
    options.server.max_connections = section.http_max_connections;
    options.server.max_body_bytes = static_cast<size_t>(section.http_max_body_mib) << 20;
    options.server.idle_timeout_s = static_cast<int32_t>(section.http_idle_timeout_s);
    options.vllm_metric_aliases = section.vllm_metric_aliases;
    ASSIGN_OR_RETURN(
        endpoint_,
        OpenAiEndpoint::Start(options, Served(model_dir, static_cast<int32_t>(shape.vocab_size)),
                              ServedEngine(), searches_->Desk(), &*sessions_, metrics_));
    runner_.set_http_address(endpoint_->address());
    return absl::OkStatus();
  }

  ServedModel Served(const std::string& model_dir, int32_t vocab_size) const {
    std::string name = options_.model_name.empty() ? config_.run.name : options_.model_name;
    if (name.empty()) name = std::filesystem::weakly_canonical(model_dir).filename().string();
    return {.name = std::move(name),
            .tokenizer = text_.tokenizer,
            .chat_template = text_.chat_template,
            .grammars = std::make_shared<GrammarCompiler>(text_.tokenizer, vocab_size),
            .context_tokens = engine_->size_limit(),
            .vocab_size = vocab_size,
            .think_open = thinking_.open,
            .think_close = thinking_.close,
            .default_timeout_s = config_.generator.http_timeout_s,
            .max_samples = std::min(kMostSamplesOfRequest,
                                    config_.generator.max_waiting_sequences)};
  }

  EngineHooks ServedEngine() {
    return {.submit = [this](SampleRequest request) -> absl::Status {
              if (engine_->stats().version == kNoVersion) {
                return absl::UnavailableError("no weights have arrived yet");
              }
              return engine_->Submit(std::move(request));
            },
            .cancel = [this](const std::string& id) { engine_->Cancel(id); },
            .stats =
                [this] {
                  EngineStats stats = engine_->stats();
                  if (stats.healthy && stats.version == kNoVersion) {
                    stats.healthy = false;
                    stats.unhealthy_reason = "no weights have arrived yet";
                  }
                  return stats;
                }};
  }

  absl::Status BuildServing(const std::string& model_dir) {
    std::map<std::string, VerifierSection> judges = config_.verifiers;
    std::erase_if(judges, [](const auto& entry) { return IsEnvironment(entry.second); });
    ASSIGN_OR_RETURN(
        verifiers_,
        VerifierPool::Create(judges, {.identity = identity_, .circuit = {}}, metrics_, clock_));
    RewardSection reward = config_.reward;
    reward.think_open = thinking_.open;
    reward.think_close = thinking_.close;
    ASSIGN_OR_RETURN(SearchHooks graders, MakeSearchHooks(reward));
    RETURN_IF_ERROR(Annotate(
        AddValueHook(config_.generator.value_model, model_dir, config_.generator.threads, graders),
        "generator.value_model"));
    searches_.emplace(
        SearchService::Options{.pool = {.max_running = config_.generator.max_running_searches,
                                        .max_waiting = config_.generator.max_waiting_searches},
                               .most_paths = config_.generator.max_waiting_sequences},
        ServedEngine(), std::move(graders), verifiers_.get(), std::move(judges), metrics_);
    service_->ServeSearches(searches_->Desk());
    SessionStore::Options sessions;
    sessions.most_sessions = config_.generator.max_sessions;
    sessions.idle_timeout_s = config_.generator.session_idle_timeout_s;
    sessions_.emplace(std::move(sessions), metrics_);
    service_->ServeSessions(*sessions_);
    return absl::OkStatus();
  }

  absl::Status BuildWorker() {
    const GeneratorSection& section = config_.generator;
    ASSIGN_OR_RETURN(environments_,
                     Environments::Create(config_.verifiers,
                                          {.identity = identity_,
                                           .size_limit = engine_->size_limit(),
                                           .most_episodes = section.max_running_sequences +
                                                            section.max_waiting_sequences},
                                          HooksOf(*engine_), text_.tokenizer, metrics_));
    if (config_.rollout.correction.samples > 0) {
      ASSIGN_OR_RETURN(corrections_,
                       CorrectionRunner::Create(config_.rollout.correction.phrases,
                                                HooksOf(*engine_), text_.tokenizer, metrics_));
    }
    // Without it no group could be read or finished: better no generator than one that idles.
    ASSIGN_OR_RETURN(BlobStore blobs, BlobStore::Open(BlobsDir(options_.run_dir)));
    worker_ = std::make_unique<GroupWorker>(
        GroupWorkerOptions{.redis = config_.redis,
                           .run_id = config_.run.name,
                           .worker = process_,
                           .blobs = std::move(blobs),
                           .lease_s = config_.generator.lease_s,
                           .rollout_timeout_s = config_.rollout.timeout_s,
                           .claim_groups = config_.generator.claim_groups,
                           .samples_per_group = SamplesOf(config_.rollout),
                           .max_running_sequences = config_.generator.max_running_sequences},
        Hooks(), metrics_);
    service_->AddWaits([this] { return worker_->WaitingSeconds(); });
    service_->AddWaits([this] { return verifiers_->WaitingSeconds(); });
    service_->AddWaits([this] { return environments_->WaitingSeconds(); });
    service_->AddDetail("verifiers", [this] { return verifiers_->State(); });
    return absl::OkStatus();
  }

  absl::Status Correct(SampleRequest request, const GroupTask& task) {
    if (corrections_ != nullptr) return corrections_->Submit(std::move(request), task);
    return absl::InvalidArgumentError("the task has corrections, and rollout.correction has none");
  }

  GroupWorkerHooks Hooks() {
    return {.submit =
                [this](SampleRequest request, const GroupTask& task) {
                  if (task.answers > 0) return Correct(std::move(request), task);
                  return environments_->Has(task.row)
                             ? environments_->Submit(std::move(request), task.row)
                             : engine_->Submit(std::move(request));
                },
            .cancel =
                [this](const std::string& id) {
                  engine_->Cancel(id);
                  environments_->Cancel(id);
                  if (corrections_ != nullptr) corrections_->Cancel(id);
                },
            .ready =
                [this] {
                  const EngineStats stats = engine_->stats();
                  return stats.healthy && stats.version != kNoVersion;
                },
            .verify =
                [this](const PromptRow& row, const Rollout& rollout, const VerifyTicket& ticket,
                       std::function<void(Verdict)> done) {
                  PromptRow judged = row;
                  judged.verifier = environments_->JudgeOf(row);
                  verifiers_->Verify(judged, rollout, ticket, std::move(done));
                },
            .cancel_verify = [this](const std::string& owner) { verifiers_->Cancel(owner); }};
  }

  void Drain(double deadline_s) {
    const auto start = std::chrono::steady_clock::now();
    if (worker_ != nullptr) worker_->Drain(deadline_s);
    if (endpoint_ != nullptr) endpoint_->Drain(std::max(0.0, deadline_s - SecondsSince(start)));
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
  ThinkingProfile thinking_;
  std::optional<SessionStore> sessions_;  // callbacks of the engine end their turns
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<VerifierPool> verifiers_;
  std::unique_ptr<Environments> environments_;
  std::unique_ptr<CorrectionRunner> corrections_;  // null without a second layer
  std::unique_ptr<GroupWorker> worker_;
  std::optional<GeneratorService> service_;
  std::optional<SearchService> searches_;
  std::unique_ptr<Announcer> announcer_;
  std::jthread verifier_watch_;
  std::unique_ptr<OpenAiEndpoint> endpoint_;  // uses engine and text
};

}  // namespace

int ServeGenerator(const ServeOptions& options) {
  const std::string process = "generator-" + std::to_string(options.index);
  InitLogging(process);
  absl::StatusOr<RunConfig> config = ServeConfig(options);
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
