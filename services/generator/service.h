// The Generator service over an Engine. Reactions never block: streams write from an outbox
// (generate_stream.h), weight transfers and swaps run on one thread of their own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "common/mailbox.h"
#include "common/metrics.h"
#include "generator/engine.h"
#include "generator/search/search_pool.h"
#include "generator/session_store.h"
#include "model/weights/transport.h"
#include "services/handshake.h"
#include "services/runner.h"
#include "text/tokenizer.h"
#include "tramontane/v1/generator.grpc.pb.h"

namespace tramontane {

class GenerateStream;

class GeneratorService final : public v1::Generator::CallbackService {
 public:
  struct Options {
    std::string process;  // "generator-0"
    Identity identity;
    double default_prepare_timeout_s = 60;  // when the caller sets no deadline
    int32_t max_open_streams = 4096;
  };
  // Collaborators outlive the service; the server is shut down before the service dies.
  GeneratorService(Options options, Engine& engine, std::shared_ptr<const Tokenizer> tokenizer,
                   MetricsRegistry& metrics);
  ~GeneratorService() override;

  // For GetState and Control; what the queue worker and announcer wait for, and how the verifiers
  // are, is added by main.
  ProcessStatus Status() const;
  void AddWaits(std::function<std::map<std::string, double>()> waits);       // before serving
  void ServeSearches(SearchDesk desk);                                       // before serving
  void ServeSessions(SessionStore& store);                                   // before serving
  void AddDetail(const std::string& key, std::function<Json()> detail);     // before serving

  grpc::ServerWriteReactor<v1::GenerateEvent>* Generate(grpc::CallbackServerContext* context,
                                                        const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* PrepareWeights(grpc::CallbackServerContext* context,
                                           const v1::PrepareWeightsRequest* request,
                                           v1::PrepareWeightsReply* reply) override;
  grpc::ServerUnaryReactor* CommitWeights(grpc::CallbackServerContext* context,
                                          const v1::CommitWeightsRequest* request,
                                          v1::CommitWeightsReply* reply) override;
  grpc::ServerUnaryReactor* CloseSession(grpc::CallbackServerContext* context,
                                         const v1::CloseSessionRequest* request,
                                         v1::CloseSessionReply* reply) override;
  grpc::ServerUnaryReactor* GetState(grpc::CallbackServerContext* context,
                                     const v1::GetGeneratorStateRequest* request,
                                     v1::GeneratorState* reply) override;

 private:
  struct VersionKey {
    int64_t trainer_epoch = 0;
    int64_t version = 0;
    bool operator==(const VersionKey&) const = default;
  };

  absl::StatusOr<SampleRequest> ToSampleRequest(const v1::GenerateRequest& request) const;
  // Empty where the request names no session.
  absl::StatusOr<std::shared_ptr<SessionTurn>> TurnOf(const v1::GenerateRequest& request) const;
  absl::Status Submit(SampleRequest sample, std::shared_ptr<SessionTurn> turn,
                      const std::shared_ptr<GenerateStream>& stream);
  absl::Status StartSearch(const v1::Search& search, SampleRequest sample,
                           const std::shared_ptr<GenerateStream>& stream);
  grpc::ServerUnaryReactor* RunOnTransferThread(grpc::CallbackServerContext* context,
                                                std::function<absl::Status()> work);
  void TransferLoop();
  absl::Status Prepare(const v1::PrepareWeightsRequest& request, double timeout_s,
                       v1::PrepareWeightsReply& reply);
  absl::Status Commit(const v1::CommitWeightsRequest& request, v1::CommitWeightsReply& reply);

  const Options options_;
  Engine& engine_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  Histogram transfer_seconds_, verify_seconds_;
  std::vector<std::function<std::map<std::string, double>()>> waits_;
  std::map<std::string, std::function<Json()>> details_;
  SearchDesk searches_;
  SessionStore* sessions_ = nullptr;
  const std::unique_ptr<WeightFetcher> shared_memory_, tcp_;
  std::shared_ptr<std::atomic<int32_t>> open_streams_ = std::make_shared<std::atomic<int32_t>>(0);
  // Transfer thread only.
  std::optional<VersionKey> staged_, committed_;
  std::optional<VersionKey> committing_;  // nobody has seen the end of its commit yet
  v1::CommitWeightsReply last_commit_;
  Mailbox<std::function<void()>> transfers_;
  std::thread transfer_thread_;
};

}  // namespace tramontane
