#include "services/runner.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <mutex>
#include <vector>

#include "common/clock.h"
#include "common/files.h"
#include "common/host_port.h"
#include "common/log.h"
#include "common/status.h"
#include "model/weights/socket_io.h"
#include "services/control_service.h"
#include "services/convert.h"
#include "services/rpc.h"
#include "services/stop_watcher.h"

namespace tramontane {
namespace {

constexpr size_t kServerMemoryBytes = size_t{1} << 30;  // of buffers; calls beyond it are refused
constexpr int kMaxConcurrentStreams = 4096;
constexpr double kOverdueGraceS = 10;
constexpr double kLastCallsS = 2;  // for calls still in flight after the drain callback

void ConfigureLimits(grpc::ServerBuilder& builder, const std::string& process) {
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.SetResourceQuota(grpc::ResourceQuota(process).Resize(kServerMemoryBytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveTimeMs / 2);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Otherwise two processes could share a port, and each would get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

// gRPC reports only that it failed; binding once more tells why.
absl::Status WhyNotListening(const std::string& bind) {
  absl::StatusOr<UniqueFd> probe = ListenTcp(bind, 1);
  if (!probe.ok()) return Annotate(probe.status(), "cannot listen");
  return absl::UnavailableError("cannot listen: " + bind + " was not accepted by gRPC");
}

}  // namespace

class ServiceRunner::Impl {
 public:
  Impl(RunnerOptions options, MetricsRegistry& metrics)
      : options_(std::move(options)),
        metrics_(metrics),
        watcher_(options_.exit_with_parent, options_.drain_deadline_s + kOverdueGraceS) {}

  absl::Status Start() {
    if (!options_.metrics_bind.empty()) {
      ASSIGN_OR_RETURN(metrics_address_, metrics_.Serve(options_.metrics_bind));
    }
    control_ = std::make_unique<ControlService>(ControlService::Hooks{
        .process = options_.process,
        .metrics_address = metrics_address_,
        .identity = identity_,
        .state =
            [this] { return ToProto(options_.process, on_state_ ? on_state_() : ProcessStatus{}); },
        .drain = [this](double deadline_s) { Drain(deadline_s); }});
    RETURN_IF_ERROR(StartServer());
    return Announce();
  }

  void RequestStop(const std::string& reason, const absl::Status& status) {
    {
      std::lock_guard lock(mutex_);
      if (status_.ok()) status_ = status;
    }
    watcher_.Request(reason);
  }

  int Shutdown() {
    const auto start = std::chrono::steady_clock::now();
    double deadline_s;
    {
      std::lock_guard lock(mutex_);
      deadline_s = drain_deadline_s_.value_or(options_.drain_deadline_s);
    }
    SetServing("", false);
    for (const auto& [name, service] : services_) SetServing(name, false);
    if (on_drain_) on_drain_(deadline_s);
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(kLastCallsS * 1e3)));
      server_->Wait();
    }
    absl::Status status;
    {
      std::lock_guard lock(mutex_);
      status = status_;
    }
    if (!status.ok()) return Fail(status);
    LogInfo("stopped", {{"drain_seconds", SecondsSince(start)}});
    return 0;
  }

  // Standard output as well: the log may lie on the disk that is full.
  int Fail(const absl::Status& status) {
    LogError("fatal", {{"process", options_.process}, {"error", status}});
    const Json line = {{"event", "failed"},
                       {"process", options_.process},
                       {"code", absl::StatusCodeToString(status.code())},
                       {"message", std::string(status.message())}};
    std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
    return 1;
  }

  void SetServing(const std::string& name, bool serving) {
    if (server_ == nullptr) return;
    auto* health = server_->GetHealthCheckService();
    if (health == nullptr) return;
    if (name.empty()) {
      health->SetServingStatus(serving);
    } else {
      health->SetServingStatus(name, serving);
    }
  }

  const RunnerOptions options_;
  MetricsRegistry& metrics_;
  StopWatcher watcher_;
  Identity identity_;
  std::string http_address_;
  std::vector<std::pair<std::string, grpc::Service*>> services_;
  std::function<void(double)> on_drain_;
  std::function<ProcessStatus()> on_state_;
  std::string address_, metrics_address_;

 private:
  void Drain(double deadline_s) {
    if (deadline_s <= 0) return watcher_.Request("Drain was called");
    {
      std::lock_guard lock(mutex_);
      drain_deadline_s_ = deadline_s;
    }
    watcher_.Request("Drain was called", deadline_s + kOverdueGraceS);
  }

  absl::Status StartServer() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    ConfigureLimits(builder, options_.process);
    int port = 0;
    builder.AddListeningPort(options_.bind, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(control_.get());
    for (const auto& [name, service] : services_) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      server_ = nullptr;
      return WhyNotListening(options_.bind);
    }
    const std::string host =
        options_.advertise_host.empty() ? HostOf(options_.bind) : options_.advertise_host;
    address_ = host + ":" + std::to_string(port);
    SetServing(v1::Control::service_full_name(), true);
    for (const auto& [name, service] : services_) SetServing(name, true);
    return absl::OkStatus();
  }

  // The supervisor reads this line to learn the ports.
  absl::Status Announce() {
    Json event = {{"event", "listening"},
                  {"process", options_.process},
                  {"address", address_},
                  {"metrics_address", metrics_address_}};
    if (!http_address_.empty()) event["http_address"] = http_address_;
    const std::string line = event.dump();
    LogInfo("listening", {{"address", address_},
                          {"metrics_address", metrics_address_},
                          {"http_address", http_address_}});
    std::cout << line << std::endl;
    if (options_.ready_file.empty()) return absl::OkStatus();
    return WriteFileAtomic(options_.ready_file, line + "\n");
  }

  std::mutex mutex_;
  absl::Status status_;                     // guarded by mutex_: why the process ends
  std::optional<double> drain_deadline_s_;  // guarded by mutex_
  std::unique_ptr<ControlService> control_;
  std::unique_ptr<grpc::Server> server_;
};

ServiceRunner::ServiceRunner(RunnerOptions options, MetricsRegistry& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), metrics)) {}
ServiceRunner::~ServiceRunner() = default;

void ServiceRunner::set_identity(Identity identity) { impl_->identity_ = std::move(identity); }
void ServiceRunner::set_http_address(std::string address) {
  impl_->http_address_ = std::move(address);
}
void ServiceRunner::AddService(grpc::Service* service, const std::string& full_name) {
  impl_->services_.emplace_back(full_name, service);
}
void ServiceRunner::OnDrain(std::function<void(double)> callback) {
  impl_->on_drain_ = std::move(callback);
}
void ServiceRunner::OnState(std::function<ProcessStatus()> callback) {
  impl_->on_state_ = std::move(callback);
}
absl::Status ServiceRunner::Start() { return impl_->Start(); }
std::string ServiceRunner::address() const { return impl_->address_; }
std::string ServiceRunner::metrics_address() const { return impl_->metrics_address_; }
void ServiceRunner::SetServing(const std::string& full_name, bool serving) {
  impl_->SetServing(full_name, serving);
}
const std::atomic<bool>& ServiceRunner::stop() const { return impl_->watcher_.requested(); }
void ServiceRunner::RequestStop(const std::string& reason, const absl::Status& status) {
  impl_->RequestStop(reason, status);
}
void ServiceRunner::WaitForStop() { impl_->watcher_.Wait(); }
int ServiceRunner::Shutdown() { return impl_->Shutdown(); }
int ServiceRunner::Fail(const absl::Status& status) { return impl_->Fail(status); }

}  // namespace tramontane
