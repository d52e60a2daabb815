#include "services/trainer/publisher.h"

#include <algorithm>
#include <chrono>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "services/convert.h"

namespace tramontane {
namespace {

std::string ReplaceHost(const std::string& address, const std::string& host) {
  return host.empty() ? address : host + address.substr(address.rfind(':'));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Publisher>> Publisher::Create(Options options,
                                                             MetricsRegistry& metrics) {
  std::unique_ptr<Publisher> publisher(new Publisher(std::move(options), metrics));
  const Options& chosen = publisher->options_;
  if (chosen.weights.transport != "tcp") {
    ASSIGN_OR_RETURN(publisher->shared_memory_,
                     MakeSharedMemorySource(chosen.shared_memory_prefix));
  }
  if (chosen.weights.transport != "shared_memory") {
    ASSIGN_OR_RETURN(publisher->tcp_, MakeTcpSource(chosen.tcp_bind));
  }
  return publisher;
}

Publisher::Publisher(Options options, MetricsRegistry& metrics)
    : options_(std::move(options)),
      publish_metrics_(metrics),
      announced_(metrics.MakeGauge("tramontane_generators_announced")),
      lag_(metrics.MakeGauge("tramontane_policy_publish_lag_versions")) {}

Publisher::~Publisher() {
  std::map<std::string, Entry> receivers;
  {
    std::lock_guard lock(mutex_);
    receivers.swap(receivers_);
  }
  receivers.clear();  // joins their threads while the rest still stands
}

absl::Status Publisher::Publish(const WeightManifest& manifest, const std::vector<char>& payload) {
  if (payload.size() != manifest.payload_bytes) {
    return absl::InvalidArgumentError("payload and manifest differ in size");
  }
  auto offer = std::make_shared<Offer>();
  offer->version = manifest.version;
  offer->trainer_epoch = manifest.trainer_epoch;
  offer->payload_bytes = manifest.payload_bytes;
  v1::PrepareWeightsRequest request;
  *request.mutable_handshake() = MakeHandshake(options_.identity);
  *request.mutable_manifest() = ToProto(manifest);
  if (shared_memory_ != nullptr) {
    RETURN_IF_ERROR(shared_memory_->Publish(manifest, payload.data()));
    offer->shared_memory = request;
    offer->shared_memory.set_shared_memory_name(shared_memory_->Address());
  }
  if (tcp_ != nullptr) {
    RETURN_IF_ERROR(tcp_->Publish(manifest, payload.data()));
    offer->tcp = std::move(request);
    offer->tcp.set_tcp_address(ReplaceHost(tcp_->Address(), options_.advertise_host));
  }
  {
    std::lock_guard lock(offer_mutex_);
    offer->sequence = offer_ == nullptr ? 1 : offer_->sequence + 1;
    offer_ = std::move(offer);
  }
  std::vector<std::shared_ptr<Receiver>> expired;
  std::lock_guard lock(mutex_);
  expired = TakeExpired();
  for (const auto& [id, entry] : receivers_) entry.receiver->Wake();
  UpdateGauges();
  return absl::OkStatus();
}

absl::Status Publisher::WaitForReceiver(int64_t version, double timeout_s) {
  std::unique_lock lock(mutex_);
  const bool served = served_.wait_for(lock, std::chrono::duration<double>(timeout_s), [&] {
    return std::any_of(receivers_.begin(), receivers_.end(), [&](const auto& item) {
      return item.second.receiver->served_version() >= version;
    });
  });
  if (served) return absl::OkStatus();
  std::string why;
  for (const auto& [id, entry] : receivers_) {
    why += "; " + id + ": " + entry.receiver->last_error().ToString();
  }
  return absl::DeadlineExceededError("no generator serves weight version " +
                                     std::to_string(version) +
                                     (why.empty() ? "; none has announced itself" : why));
}

void Publisher::Announced(const ReceiverInfo& info) {
  std::vector<std::shared_ptr<Receiver>> gone;  // destroyed after the lock is released
  std::lock_guard lock(mutex_);
  gone = TakeExpired();
  Entry& entry = receivers_[info.generator_id];
  entry.seen = std::chrono::steady_clock::now();
  if (entry.receiver != nullptr && entry.receiver->info().incarnation == info.incarnation &&
      entry.receiver->info().address == info.address) {
    return;
  }
  if (entry.receiver != nullptr) gone.push_back(std::move(entry.receiver));
  const bool shares_memory =
      shared_memory_ != nullptr && (tcp_ == nullptr || info.host_id == options_.host_id);
  LogInfo("generator_joined", {{"generator", info.generator_id},
                               {"address", info.address},
                               {"transport", shares_memory ? "shared_memory" : "tcp"}});
  entry.receiver = std::make_shared<Receiver>(
      Receiver::Options{info, shares_memory, options_.weights}, [this] { return CurrentOffer(); },
      [this] { OnServed(); }, publish_metrics_);
  UpdateGauges();
}

void Publisher::Left(const std::string& generator_id, const std::string& incarnation) {
  std::shared_ptr<Receiver> gone;
  std::lock_guard lock(mutex_);
  const auto it = receivers_.find(generator_id);
  if (it == receivers_.end() || it->second.receiver->info().incarnation != incarnation) return;
  gone = std::move(it->second.receiver);
  receivers_.erase(it);
  UpdateGauges();
  LogInfo("generator_left", {{"generator", generator_id}});
}

std::vector<std::shared_ptr<Receiver>> Publisher::TakeExpired() {
  std::vector<std::shared_ptr<Receiver>> expired;
  for (auto it = receivers_.begin(); it != receivers_.end();) {
    if (SecondsSince(it->second.seen) < options_.expire_after_s) {
      ++it;
      continue;
    }
    LogWarn("generator_silent",
            {{"generator", it->first}, {"seconds", SecondsSince(it->second.seen)}});
    expired.push_back(std::move(it->second.receiver));
    it = receivers_.erase(it);
  }
  return expired;
}

void Publisher::UpdateGauges() {
  announced_.Set(static_cast<double>(receivers_.size()));
  const OfferPtr offer = CurrentOffer();
  if (offer == nullptr) return;
  int64_t oldest = offer->version;
  for (const auto& [id, entry] : receivers_) {
    oldest = std::min(oldest, entry.receiver->served_version());
  }
  lag_.Set(static_cast<double>(offer->version - oldest));
}

OfferPtr Publisher::CurrentOffer() const {
  std::lock_guard lock(offer_mutex_);
  return offer_;
}

// A receiver's thread; it holds no lock.
void Publisher::OnServed() {
  {
    std::lock_guard lock(mutex_);
    UpdateGauges();
  }
  served_.notify_all();
}

Publisher::Newest Publisher::newest() const {
  const OfferPtr offer = CurrentOffer();
  return offer == nullptr ? Newest{} : Newest{offer->version, offer->trainer_epoch};
}

std::optional<double> Publisher::ProbeGap() const {
  std::lock_guard lock(mutex_);
  std::optional<double> largest;
  for (const auto& [id, entry] : receivers_) {
    const std::optional<double> gap = entry.receiver->probe_gap();
    if (gap) largest = std::max(largest.value_or(0), *gap);
  }
  return largest;
}

std::map<std::string, int64_t> Publisher::generator_versions() const {
  std::lock_guard lock(mutex_);
  std::map<std::string, int64_t> versions;
  for (const auto& [id, entry] : receivers_) versions[id] = entry.receiver->served_version();
  return versions;
}

}  // namespace tramontane
