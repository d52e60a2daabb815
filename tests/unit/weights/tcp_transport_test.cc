#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "common/clock.h"
#include "model/weights/socket_io.h"
#include "model/weights/transport.h"
#include "payload.h"

namespace tramontane {
namespace {

using namespace std::chrono_literals;

SteadyTime Soon() { return std::chrono::steady_clock::now() + 5s; }

// The frames of tcp_transport.cc, written out here a second time on purpose: they are a contract.
struct RequestFrame {
  uint32_t magic = 0x31575254, reserved = 0;
  int64_t version = 0, trainer_epoch = 0;
};
struct ReplyFrame {
  uint32_t magic = 0x31575254, outcome = 0;
  uint64_t payload_bytes = 0;
  int64_t published_version = 0;
};

class TcpTest : public testing::Test {
 protected:
  std::unique_ptr<WeightSource> source_ = *MakeTcpSource("127.0.0.1:0");

  absl::Status Fetch(const WeightManifest& manifest, const std::string& address,
                     std::vector<char>& payload, double timeout_s = 5) {
    return MakeTcpFetcher()->Fetch(manifest, address, timeout_s, payload);
  }

  // Connects, asks for `version`, and reads the reply but none of the payload.
  UniqueFd SlowClient(int64_t version) {
    UniqueFd fd = *ConnectTcp(source_->Address(), Soon());
    RequestFrame request;
    request.version = version;
    request.trainer_epoch = 1;
    EXPECT_TRUE(SendAll(fd.get(), &request, sizeof(request), -1, Soon()).ok());
    ReplyFrame reply;
    EXPECT_TRUE(ReceiveAll(fd.get(), &reply, sizeof(reply), -1, Soon()).ok());
    EXPECT_EQ(reply.outcome, 0u);
    return fd;
  }

  static std::vector<char> ReadPayload(int fd) {
    std::vector<char> payload;
    while (true) {
      uint32_t size = 0;
      EXPECT_TRUE(ReceiveAll(fd, &size, sizeof(size), -1, Soon()).ok());
      if (size == 0) return payload;
      payload.resize(payload.size() + size);
      EXPECT_TRUE(ReceiveAll(fd, payload.data() + payload.size() - size, size, -1, Soon()).ok());
    }
  }
};

TEST_F(TcpTest, ReturnsThePublishedBytes) {
  const TestWeights weights = MakeTestWeights(1, 3'000'000);  // several chunks
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  std::vector<char> got;
  ASSERT_TRUE(Fetch(weights.manifest, source_->Address(), got).ok());
  EXPECT_EQ(got, weights.payload);
}

TEST_F(TcpTest, AReplacedVersionIsNotFound) {
  const TestWeights weights = MakeTestWeights(2);
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  std::vector<char> got;
  EXPECT_TRUE(absl::IsNotFound(Fetch(MakeTestWeights(1).manifest, source_->Address(), got)));
  EXPECT_TRUE(absl::IsNotFound(
      Fetch(MakeTestWeights(2, 1000, /*epoch=*/7).manifest, source_->Address(), got)));
}

TEST_F(TcpTest, NothingPublishedYetIsNotFound) {
  std::vector<char> got;
  EXPECT_TRUE(absl::IsNotFound(Fetch(MakeTestWeights(1).manifest, source_->Address(), got)));
}

TEST_F(TcpTest, ASlowFetchGetsItsVersionThoughItIsReplacedMeanwhile) {
  const TestWeights weights = MakeTestWeights(1, 5'000'000);  // beyond what socket buffers hold
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  const UniqueFd slow = SlowClient(1);
  const TestWeights newer = MakeTestWeights(2);
  ASSERT_TRUE(source_->Publish(newer.manifest, newer.payload.data()).ok());
  EXPECT_EQ(ReadPayload(slow.get()), weights.payload);
}

TEST_F(TcpTest, StalledClientsDoNotHoldUpAnother) {
  const TestWeights weights = MakeTestWeights(1, 5'000'000);
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  const UniqueFd stalled = SlowClient(1), stalled_too = SlowClient(1);
  std::vector<char> got;
  ASSERT_TRUE(Fetch(weights.manifest, source_->Address(), got).ok());
  EXPECT_EQ(got, weights.payload);
}

TEST_F(TcpTest, ManyClientsAtOnceAllGetTheBytes) {
  const TestWeights weights = MakeTestWeights(1, 400'000);
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  std::atomic<int> right = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 20; ++i) {  // more than the source has threads
    clients.emplace_back([&] {
      std::vector<char> got;
      if (Fetch(weights.manifest, source_->Address(), got, 30).ok() && got == weights.payload) ++right;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 20);
}

TEST_F(TcpTest, ADeadSourceIsUnavailable) {
  const std::string address = source_->Address();
  source_.reset();
  std::vector<char> got;
  EXPECT_TRUE(absl::IsUnavailable(Fetch(MakeTestWeights(1).manifest, address, got)));
}

TEST_F(TcpTest, ClosingTheSourceDoesNotWaitForAStalledClient) {
  const TestWeights weights = MakeTestWeights(1, 5'000'000);
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  const UniqueFd stalled = SlowClient(1);
  const auto start = std::chrono::steady_clock::now();
  source_.reset();
  EXPECT_LT(SecondsSince(start), 2);
}

TEST_F(TcpTest, GarbageIsAnsweredWithAClosedConnection) {
  const UniqueFd fd = *ConnectTcp(source_->Address(), Soon());
  const std::string garbage(24, 'x');
  ASSERT_TRUE(SendAll(fd.get(), garbage.data(), garbage.size(), -1, Soon()).ok());
  char byte;
  EXPECT_TRUE(absl::IsUnavailable(ReceiveAll(fd.get(), &byte, 1, -1, Soon())));
}

TEST_F(TcpTest, AnotherSizeThanTheManifestsIsDataLoss) {
  const TestWeights weights = MakeTestWeights(1);
  ASSERT_TRUE(source_->Publish(weights.manifest, weights.payload.data()).ok());
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDataLoss(Fetch(MakeTestWeights(1, 2000).manifest, source_->Address(), got)));
}

TEST_F(TcpTest, APortInUseSaysSo) {
  const absl::Status status = MakeTcpSource(source_->Address()).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(std::string(status.message()).find(source_->Address()), std::string::npos) << status;
}

// A server that answers one request as the test says.
class LyingServer {
 public:
  template <class F>
  explicit LyingServer(F answer) : listener_(*ListenTcp("127.0.0.1:0", 1)) {
    thread_ = std::thread([this, answer] {
      pollfd ready{listener_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 5000) != 1) return;
      UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK));
      RequestFrame request;
      if (ReceiveAll(client.get(), &request, sizeof(request), -1, Soon()).ok()) answer(client.get());
    });
  }
  ~LyingServer() { thread_.join(); }
  std::string address() const { return *LocalAddress(listener_.get()); }

 private:
  UniqueFd listener_;
  std::thread thread_;
};

template <class T>
void Send(int fd, const T& value) {
  EXPECT_TRUE(SendAll(fd, &value, sizeof(value), -1, Soon()).ok());
}

TEST_F(TcpTest, AStreamThatBreaksOffIsUnavailableAndSaysWhere) {
  const WeightManifest manifest = MakeTestWeights(1).manifest;
  LyingServer server([&](int fd) {
    Send(fd, ReplyFrame{.payload_bytes = manifest.payload_bytes});
    Send(fd, uint32_t{100});
    Send(fd, std::array<char, 100>{});
  });
  std::vector<char> got;
  const absl::Status status = Fetch(manifest, server.address(), got);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(std::string(status.message()).find("after 100 of"), std::string::npos) << status;
}

TEST_F(TcpTest, AStreamThatEndsEarlyIsDataLoss) {
  const WeightManifest manifest = MakeTestWeights(1).manifest;
  LyingServer server([&](int fd) {
    Send(fd, ReplyFrame{.payload_bytes = manifest.payload_bytes});
    Send(fd, uint32_t{0});
  });
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDataLoss(Fetch(manifest, server.address(), got)));
}

TEST_F(TcpTest, AChunkBeyondThePayloadIsDataLoss) {
  const WeightManifest manifest = MakeTestWeights(1).manifest;
  LyingServer server([&](int fd) {
    Send(fd, ReplyFrame{.payload_bytes = manifest.payload_bytes});
    Send(fd, uint32_t{0xffffffff});
  });
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDataLoss(Fetch(manifest, server.address(), got)));
}

TEST_F(TcpTest, ASilentServerIsDeadlineExceeded) {
  const WeightManifest manifest = MakeTestWeights(1).manifest;
  LyingServer server([](int) { std::this_thread::sleep_for(600ms); });
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDeadlineExceeded(Fetch(manifest, server.address(), got, 0.2)));
}

}  // namespace
}  // namespace tramontane
