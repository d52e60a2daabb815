#include "services/generator/service.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "services/convert.h"
#include "services/generator/generate_stream.h"
#include "services/generator/search_convert.h"
#include "services/rpc.h"

namespace tramontane {
namespace {

// One trainer sends one version at a time; more than this is a mistake and refused.
constexpr size_t kTransferBacklog = 8;
constexpr uint32_t kMostSamples = 4096;
// No tokenizer's token is longer. Text beyond that many bytes a token is not worth tokenising.
constexpr int64_t kMostBytesPerToken = 512;
constexpr double kNoDeadlineS = 1e8;  // a call that sets none has one that is farther away

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context,
                                    const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

double SecondsLeft(const grpc::CallbackServerContext& context, double fallback_s) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  const double seconds = std::chrono::duration<double>(left).count();
  return seconds < fallback_s ? seconds : fallback_s;
}

}  // namespace

GeneratorService::GeneratorService(Options options, Engine& engine,
                                   std::shared_ptr<const Tokenizer> tokenizer,
                                   MetricsRegistry& metrics)
    : options_(std::move(options)),
      engine_(engine),
      tokenizer_(std::move(tokenizer)),
      transfer_seconds_(
          metrics.MakeHistogram("tramontane_generator_weight_fetch_seconds", {{"phase", "transfer"}})),
      verify_seconds_(
          metrics.MakeHistogram("tramontane_generator_weight_fetch_seconds", {{"phase", "verify"}})),
      shared_memory_(MakeSharedMemoryFetcher()),
      tcp_(MakeTcpFetcher()),
      transfers_(kTransferBacklog),
      transfer_thread_([this] { TransferLoop(); }) {}

GeneratorService::~GeneratorService() {
  transfers_.Close();
  transfer_thread_.join();
}

void GeneratorService::AddWaits(std::function<std::map<std::string, double>()> waits) {
  waits_.push_back(std::move(waits));
}

void GeneratorService::ServeSessions(SessionStore& store) { sessions_ = &store; }

void GeneratorService::ServeSearches(SearchDesk desk) { searches_ = std::move(desk); }

void GeneratorService::AddDetail(const std::string& key, std::function<Json()> detail) {
  details_[key] = std::move(detail);
}

ProcessStatus GeneratorService::Status() const {
  const EngineStats stats = engine_.stats();
  ProcessStatus status;
  status.weight_version = stats.version;
  for (const auto& waits : waits_) status.waiting_seconds.merge(waits());
  status.phase = !stats.healthy                     ? "unhealthy"
                 : stats.running_sequences > 0      ? "generating"
                 : status.waiting_seconds.empty()   ? "serving"
                                                    : "waiting";
  for (const auto& [key, detail] : details_) status.detail[key] = detail();
  if (!stats.healthy) status.detail["unhealthy_reason"] = stats.unhealthy_reason;
  return status;
}

absl::StatusOr<SampleRequest> GeneratorService::ToSampleRequest(
    const v1::GenerateRequest& request) const {
  SampleRequest sample;
  sample.id = request.request_id();
  if (sample.id.empty()) return absl::InvalidArgumentError("request_id is empty");
  ASSIGN_OR_RETURN(sample.sampling, FromProto(request.sampling()));
  if (request.n() > kMostSamples) return absl::InvalidArgumentError("n is above 4096");
  sample.n = request.n() == 0 ? 1 : static_cast<int32_t>(request.n());
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kPromptTokens:
      sample.prompt_tokens.assign(request.prompt_tokens().tokens().begin(),
                                  request.prompt_tokens().tokens().end());
      break;
    case v1::GenerateRequest::kPromptText: {
      const auto bytes = static_cast<int64_t>(request.prompt_text().size());
      if (bytes > engine_.size_limit() * kMostBytesPerToken)
        return absl::InvalidArgumentError(
            "prompt_text: " + std::to_string(bytes) +
            " bytes leave no room to generate; model and cache hold " +
            std::to_string(engine_.size_limit()) + " tokens");
      ASSIGN_OR_RETURN(sample.prompt_tokens,
                       tokenizer_->Encode(request.prompt_text(), /*add_special_tokens=*/false));
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return absl::InvalidArgumentError("neither prompt_tokens nor prompt_text is set");
  }
  return sample;
}

absl::StatusOr<std::shared_ptr<SessionTurn>> GeneratorService::TurnOf(
    const v1::GenerateRequest& request) const {
  if (request.session().empty()) return std::shared_ptr<SessionTurn>();
  if (sessions_ == nullptr) return absl::UnimplementedError("session: is not served here");
  if (request.n() > 1) return absl::InvalidArgumentError("n: a session goes on in one way");
  if (request.has_search()) return absl::InvalidArgumentError("search: not in a session");
  return SessionTurn::Take(*sessions_, request.session());
}

absl::Status GeneratorService::Submit(SampleRequest sample, std::shared_ptr<SessionTurn> turn,
                                      const std::shared_ptr<GenerateStream>& stream) {
  if (turn != nullptr)
    sample.prompt_tokens.insert(sample.prompt_tokens.begin(), turn->before().begin(),
                                turn->before().end());
  sample.on_chunk = [stream](TokenChunk chunk) { stream->OnChunk(std::move(chunk)); };
  sample.on_finished = [stream, turn = std::move(turn),
                        prompt = sample.prompt_tokens](const Rollout& rollout) {
    const bool whole = rollout.finish_reason == FinishReason::kStop ||
                       rollout.finish_reason == FinishReason::kLength;
    if (turn != nullptr) whole ? turn->Commit(prompt, rollout.tokens) : turn->GiveUp();
    stream->OnFinished(rollout, turn == nullptr ? "" : turn->id());
  };
  return engine_.Submit(std::move(sample));
}

absl::Status GeneratorService::StartSearch(const v1::Search& search, SampleRequest sample,
                                           const std::shared_ptr<GenerateStream>& stream) {
  if (!searches_.start) return absl::UnimplementedError("search: is not served here");
  if (sample.n != 1) return absl::InvalidArgumentError("n: a search has search.n instead");
  SearchOrder order;
  ASSIGN_OR_RETURN(order.ask, FromProto(search));
  ASSIGN_OR_RETURN(order.row.prompt, tokenizer_->Decode(sample.prompt_tokens, false));
  order.row.row_id = sample.id;
  order.row.prompt_tokens = sample.prompt_tokens;
  if (!order.ask.answers.empty()) order.row.answer = order.ask.answers[0];
  order.sample = std::move(sample);
  order.done = [stream, params = order.ask.params](const absl::StatusOr<SearchResult>& found) {
    stream->OnFound(params, found);
  };
  return searches_.start(std::move(order));
}

grpc::ServerWriteReactor<v1::GenerateEvent>* GeneratorService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  absl::StatusOr<SampleRequest> sample = [&]() -> absl::StatusOr<SampleRequest> {
    RETURN_IF_ERROR(CheckHandshake(request->handshake(), options_.identity, context->peer()));
    return ToSampleRequest(*request);
  }();
  const int32_t streams = ++*open_streams_;
  auto stream = std::make_shared<GenerateStream>(
      sample.ok() ? sample->n : 0,
      [this, id = request->request_id(), search = request->has_search()] {
        search ? searches_.cancel(id) : engine_.Cancel(id);
      },
      [count = open_streams_] { --*count; });
  auto* reactor = stream->MakeReactor();
  absl::Status status = sample.status();
  if (status.ok() && streams > options_.max_open_streams) {
    status = absl::ResourceExhaustedError("too many open streams: " + std::to_string(streams));
  }
  absl::StatusOr<std::shared_ptr<SessionTurn>> turn = std::shared_ptr<SessionTurn>();
  if (status.ok()) {
    turn = TurnOf(*request);
    status = turn.status();
  }
  if (status.ok()) {
    const double left_s = SecondsLeft(*context, kNoDeadlineS);
    if (left_s < kNoDeadlineS) {
      sample->deadline =
          std::chrono::steady_clock::now() +
          std::chrono::milliseconds(static_cast<int64_t>(std::max(0.0, left_s) * 1e3));
    }
    status = request->has_search() ? StartSearch(request->search(), *std::move(sample), stream)
                                   : Submit(*std::move(sample), *std::move(turn), stream);
  }
  stream->Submitted(status);
  return reactor;
}

grpc::ServerUnaryReactor* GeneratorService::RunOnTransferThread(grpc::CallbackServerContext* context,
                                                                std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool queued = transfers_.TryPush([context, reactor, work = std::move(work)] {
    reactor->Finish(context->IsCancelled()
                        ? grpc::Status(grpc::StatusCode::CANCELLED, "the caller went away")
                        : ToGrpc(work()));
  });
  if (!queued) {
    reactor->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                 "too many weight transfers are waiting, or the server is stopping"));
  }
  return reactor;
}

void GeneratorService::TransferLoop() {
  while (true) {
    std::optional<std::function<void()>> transfer = transfers_.Pop(std::chrono::seconds(1));
    if (transfer.has_value()) {
      (*transfer)();
    } else if (transfers_.closed()) {
      return;
    }
  }
}

grpc::ServerUnaryReactor* GeneratorService::PrepareWeights(grpc::CallbackServerContext* context,
                                                           const v1::PrepareWeightsRequest* request,
                                                           v1::PrepareWeightsReply* reply) {
  const absl::Status status =
      CheckHandshake(request->handshake(), options_.identity, context->peer());
  if (!status.ok()) return FinishNow(context, status);
  return RunOnTransferThread(context, [this, context, request, reply] {
    return Prepare(*request, SecondsLeft(*context, options_.default_prepare_timeout_s), *reply);
  });
}

absl::Status GeneratorService::Prepare(const v1::PrepareWeightsRequest& request, double timeout_s,
                                       v1::PrepareWeightsReply& reply) {
  WeightManifest manifest = FromProto(request.manifest());
  const VersionKey key{manifest.trainer_epoch, manifest.version};
  if (staged_ == key || committed_ == key || committing_ == key) return absl::OkStatus();
  RETURN_IF_ERROR(CheckManifest(manifest));
  std::vector<char> payload;
  const auto start = std::chrono::steady_clock::now();
  switch (request.source_case()) {
    case v1::PrepareWeightsRequest::kSharedMemoryName:
      RETURN_IF_ERROR(
          shared_memory_->Fetch(manifest, request.shared_memory_name(), timeout_s, payload));
      break;
    case v1::PrepareWeightsRequest::kTcpAddress:
      RETURN_IF_ERROR(tcp_->Fetch(manifest, request.tcp_address(), timeout_s, payload));
      break;
    case v1::PrepareWeightsRequest::SOURCE_NOT_SET:
      return absl::InvalidArgumentError("neither shared_memory_name nor tcp_address is set");
  }
  reply.set_transfer_seconds(SecondsSince(start));
  const auto fetched = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(engine_.StageWeights(std::move(manifest), std::move(payload)));
  reply.set_verify_seconds(SecondsSince(fetched));
  transfer_seconds_.Observe(reply.transfer_seconds());
  verify_seconds_.Observe(reply.verify_seconds());
  staged_ = key;
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GeneratorService::CommitWeights(grpc::CallbackServerContext* context,
                                                          const v1::CommitWeightsRequest* request,
                                                          v1::CommitWeightsReply* reply) {
  return RunOnTransferThread(context,
                             [this, request, reply] { return Commit(*request, *reply); });
}

absl::Status GeneratorService::Commit(const v1::CommitWeightsRequest& request,
                                      v1::CommitWeightsReply& reply) {
  const VersionKey key{request.trainer_epoch(), request.version()};
  if (committed_ == key) {  // a repeated call
    reply = last_commit_;
    return absl::OkStatus();
  }
  staged_.reset();  // whatever comes of it, the staged payload is used up
  committing_.reset();
  absl::StatusOr<CommitResult> result =
      engine_.CommitWeights(request.version(), request.trainer_epoch());
  if (!result.ok()) {
    if (absl::IsDeadlineExceeded(result.status())) committing_ = key;
    LogError("weights_refused", {{"version", request.version()}, {"error", result.status()}});
    return result.status();
  }
  reply.set_version(result->version);
  reply.set_pause_seconds(result->pause_seconds);
  reply.set_probe_gap(result->probe_gap);
  committed_ = key;
  last_commit_ = reply;
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GeneratorService::CloseSession(grpc::CallbackServerContext* context,
                                                         const v1::CloseSessionRequest* request,
                                                         v1::CloseSessionReply*) {
  return FinishNow(context, sessions_ == nullptr
                                ? absl::UnimplementedError("session: is not served here")
                                : sessions_->Close(request->session()));
}

grpc::ServerUnaryReactor* GeneratorService::GetState(grpc::CallbackServerContext* context,
                                                     const v1::GetGeneratorStateRequest*,
                                                     v1::GeneratorState* reply) {
  const EngineStats stats = engine_.stats();
  *reply->mutable_process() = ToProto(options_.process, Status());
  reply->set_running_sequences(static_cast<uint32_t>(stats.running_sequences));
  reply->set_waiting_sequences(static_cast<uint32_t>(stats.waiting_sequences));
  reply->set_kv_blocks_used(static_cast<uint32_t>(stats.kv_blocks_used));
  reply->set_kv_blocks_total(static_cast<uint32_t>(stats.kv_blocks_total));
  reply->set_generated_tokens(stats.generated_tokens);
  reply->set_busy_seconds(stats.busy_seconds);
  reply->set_uptime_seconds(stats.uptime_seconds);
  return FinishNow(context, absl::OkStatus());
}

}  // namespace tramontane
