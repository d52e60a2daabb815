// Weights over a TCP stream. Little-endian, fixed-size frames:
//
//   request   magic, version, trainer epoch
//   reply     magic, outcome, payload bytes
//   payload   chunks: 32-bit length, bytes; a chunk of length 0 after the last byte
//
// A payload in transfer is held by its reader, so publishing a newer version never disturbs a slow
// fetch. A fixed number of threads serve one client each; further clients wait in the backlog, and
// a client without progress is dropped.

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>

#include "common/log.h"
#include "common/status.h"
#include "model/weights/socket_io.h"
#include "model/weights/transport.h"

namespace tramontane {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kHelloMagic = 0x31575254;  // "TRW1"
constexpr size_t kSendBytes = size_t{4} << 20;
constexpr int kWorkers = 8;
constexpr int kBacklog = 64;
constexpr auto kRequestTimeout = std::chrono::seconds(5);
constexpr auto kChunkTimeout = std::chrono::seconds(20);

enum Outcome : uint32_t { kFound = 0, kReplaced = 1 };

struct Request {
  uint32_t magic = kHelloMagic;
  uint32_t reserved = 0;
  int64_t version = 0;
  int64_t trainer_epoch = 0;
};
static_assert(sizeof(Request) == 24);

struct Reply {
  uint32_t magic = kHelloMagic;
  uint32_t outcome = kFound;
  uint64_t payload_bytes = 0;
  int64_t published_version = 0;  // for the message when the outcome is kReplaced
};
static_assert(sizeof(Reply) == 24);

SteadyTime In(std::chrono::steady_clock::duration duration) {
  return std::chrono::steady_clock::now() + duration;
}

struct Published {
  int64_t version = 0;
  int64_t trainer_epoch = 0;
  std::vector<char> payload;
};

class TcpSource final : public WeightSource {
 public:
  TcpSource(UniqueFd listener, UniqueFd wake, std::string address)
      : listener_(std::move(listener)), wake_(std::move(wake)), address_(std::move(address)) {
    for (std::jthread& worker : workers_) worker = std::jthread([this] { Serve(); });
  }

  ~TcpSource() override {
    // Never read, so it wakes every wait of every worker. Joined before the sockets close.
    const uint64_t one = 1;
    if (::write(wake_.get(), &one, sizeof(one)) != sizeof(one))
      LogError("weight_server_wake_failed");
    for (std::jthread& worker : workers_) worker.join();
  }

  absl::Status Publish(const WeightManifest& manifest, const void* payload) override {
    auto next = std::make_shared<Published>();
    next->version = manifest.version;
    next->trainer_epoch = manifest.trainer_epoch;
    const char* bytes = static_cast<const char*>(payload);
    next->payload.assign(bytes, bytes + manifest.payload_bytes);
    std::lock_guard lock(mutex_);
    published_ = std::move(next);
    return absl::OkStatus();
  }

  std::string Address() const override { return address_; }

 private:
  void Serve() {
    while (true) {
      pollfd fds[2] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
      if (fds[1].revents != 0) return;
      UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!client.valid()) {
        if (errno == EMFILE || errno == ENFILE) {  // wait for one to be closed, but stay wakeable
          LogWarn("weight_server_out_of_descriptors");
          pollfd only_wake = {wake_.get(), POLLIN, 0};
          ::poll(&only_wake, 1, 1000);
        }
        continue;  // another worker was faster
      }
      if (absl::Status status = ServeClient(client.get()); !status.ok()) {
        LogWarn("weight_transfer_failed", {{"error", status}});
      }
    }
  }

  absl::Status ServeClient(int client) {
    Request request;
    RETURN_IF_ERROR(
        ReceiveAll(client, &request, sizeof(request), wake_.get(), In(kRequestTimeout)));
    if (request.magic != kHelloMagic) return absl::InvalidArgumentError("not a weight request");
    std::shared_ptr<const Published> current;
    {
      std::lock_guard lock(mutex_);
      current = published_;
    }
    Reply reply;
    const bool found = current != nullptr && current->version == request.version &&
                       current->trainer_epoch == request.trainer_epoch;
    reply.outcome = found ? kFound : kReplaced;
    reply.published_version = current == nullptr ? -1 : current->version;
    if (found) reply.payload_bytes = current->payload.size();
    RETURN_IF_ERROR(SendAll(client, &reply, sizeof(reply), wake_.get(), In(kRequestTimeout)));
    return found ? SendChunks(client, current->payload) : absl::OkStatus();
  }

  absl::Status SendChunks(int client, const std::vector<char>& payload) {
    for (size_t sent = 0;;) {
      const uint32_t size = static_cast<uint32_t>(std::min(payload.size() - sent, kSendBytes));
      RETURN_IF_ERROR(SendAll(client, &size, sizeof(size), wake_.get(), In(kChunkTimeout)));
      if (size == 0) return absl::OkStatus();
      RETURN_IF_ERROR(SendAll(client, payload.data() + sent, size, wake_.get(), In(kChunkTimeout)));
      sent += size;
    }
  }

  const UniqueFd listener_, wake_;
  const std::string address_;
  std::mutex mutex_;
  std::shared_ptr<const Published> published_;  // guarded by mutex_
  std::array<std::jthread, kWorkers> workers_;  // last: they end before what they use
};

class TcpFetcher final : public WeightFetcher {
 public:
  absl::Status Fetch(const WeightManifest& manifest, const std::string& address, double timeout_s,
                     std::vector<char>& payload) override {
    const SteadyTime deadline = In(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        std::chrono::duration<double>(timeout_s)));
    return Annotate(FetchUntil(manifest, address, deadline, payload),
                    "weights version " + std::to_string(manifest.version) + " from " + address);
  }

 private:
  static absl::Status FetchUntil(const WeightManifest& manifest, const std::string& address,
                                 SteadyTime deadline, std::vector<char>& payload) {
    UniqueFd fd;
    ASSIGN_OR_RETURN(fd, ConnectTcp(address, deadline));
    Request request;
    request.version = manifest.version;
    request.trainer_epoch = manifest.trainer_epoch;
    RETURN_IF_ERROR(SendAll(fd.get(), &request, sizeof(request), -1, deadline));
    Reply reply;
    RETURN_IF_ERROR(ReceiveAll(fd.get(), &reply, sizeof(reply), -1, deadline));
    if (reply.magic != kHelloMagic) return absl::DataLossError("the peer is not a weight server");
    if (reply.outcome != kFound) {
      return absl::NotFoundError("replaced by version " + std::to_string(reply.published_version));
    }
    if (reply.payload_bytes != manifest.payload_bytes) {
      return absl::DataLossError("the source has " + std::to_string(reply.payload_bytes) +
                                 " bytes, the manifest says " +
                                 std::to_string(manifest.payload_bytes));
    }
    payload.resize(manifest.payload_bytes);
    return ReceiveChunks(fd.get(), deadline, payload);
  }

  static absl::Status ReceiveChunks(int fd, SteadyTime deadline, std::vector<char>& payload) {
    size_t received = 0;
    while (true) {
      uint32_t size = 0;
      absl::Status status = ReceiveAll(fd, &size, sizeof(size), -1, deadline);
      if (status.ok() && size > payload.size() - received) {
        return absl::DataLossError("a chunk reaches beyond the payload");
      }
      if (status.ok() && size == 0) break;
      if (status.ok()) status = ReceiveAll(fd, payload.data() + received, size, -1, deadline);
      if (!status.ok()) {
        return Annotate(status, "after " + std::to_string(received) + " of " +
                                    std::to_string(payload.size()) + " bytes");
      }
      received += size;
    }
    if (received == payload.size()) return absl::OkStatus();
    return absl::DataLossError("the stream ended after " + std::to_string(received) + " of " +
                               std::to_string(payload.size()) + " bytes");
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> MakeTcpSource(const std::string& bind_address) {
  UniqueFd listener;
  ASSIGN_OR_RETURN(listener, ListenTcp(bind_address, kBacklog));
  std::string address;
  ASSIGN_OR_RETURN(address, LocalAddress(listener.get()));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake.valid()) return absl::UnavailableError(std::string("eventfd: ") + std::strerror(errno));
  return std::make_unique<TcpSource>(std::move(listener), std::move(wake), std::move(address));
}

std::unique_ptr<WeightFetcher> MakeTcpFetcher() { return std::make_unique<TcpFetcher>(); }

}  // namespace tramontane
