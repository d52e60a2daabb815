#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "model/weights/transport.h"
#include "payload.h"

namespace tramontane {
namespace {

class SharedMemoryTest : public testing::Test {
 protected:
  // Tests may run side by side.
  const std::string prefix_ =
      "tramontane-test." + std::to_string(::getpid()) + "." +
      testing::UnitTest::GetInstance()->current_test_info()->name();

  std::unique_ptr<WeightSource> Source() { return *MakeSharedMemorySource(prefix_); }

  absl::Status Fetch(const WeightManifest& manifest, const std::string& address,
                     std::vector<char>& payload) {
    return MakeSharedMemoryFetcher()->Fetch(manifest, address, 5, payload);
  }

  static bool Exists(const std::string& name) {
    const int fd = ::shm_open(name.c_str(), O_RDONLY, 0);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
};

TEST_F(SharedMemoryTest, ReturnsThePublishedBytes) {
  const auto source = Source();
  const TestWeights weights = MakeTestWeights(1, 3'000'000);  // several chunks
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  std::vector<char> got;
  ASSERT_TRUE(Fetch(weights.manifest, source->Address(), got).ok());
  EXPECT_EQ(got, weights.payload);
}

TEST_F(SharedMemoryTest, TheVersionBeforeStaysAndOlderOnesGo) {
  const auto source = Source();
  std::vector<std::string> names;
  for (int64_t version = 1; version <= 3; ++version) {
    const TestWeights weights = MakeTestWeights(version);
    ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
    names.push_back(source->Address());
  }
  std::vector<char> got;
  EXPECT_TRUE(absl::IsNotFound(Fetch(MakeTestWeights(1).manifest, names[0], got)));
  ASSERT_TRUE(Fetch(MakeTestWeights(2).manifest, names[1], got).ok());
  EXPECT_EQ(got, MakeTestWeights(2).payload);
  ASSERT_TRUE(Fetch(MakeTestWeights(3).manifest, names[2], got).ok());
  EXPECT_EQ(got, MakeTestWeights(3).payload);
}

TEST_F(SharedMemoryTest, AnotherVersionOrEpochUnderTheNameIsNotFound) {
  const auto source = Source();
  const TestWeights weights = MakeTestWeights(1);
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  std::vector<char> got;
  EXPECT_TRUE(absl::IsNotFound(Fetch(MakeTestWeights(2).manifest, source->Address(), got)));
  EXPECT_TRUE(
      absl::IsNotFound(Fetch(MakeTestWeights(1, 1000, /*epoch=*/2).manifest, source->Address(), got)));
}

TEST_F(SharedMemoryTest, AnOpenObjectSurvivesItsReplacement) {
  const auto source = Source();
  TestWeights weights = MakeTestWeights(1);
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  const std::string name = source->Address();
  const int fd = ::shm_open(name.c_str(), O_RDONLY, 0);
  ASSERT_GE(fd, 0);
  std::vector<char> other(weights.payload.size(), 'x');  // the same version again, other bytes
  ASSERT_TRUE(source->Publish(weights.manifest, other.data()).ok());
  EXPECT_EQ(source->Address(), name);
  std::vector<char> old(weights.payload.size());
  EXPECT_EQ(::pread(fd, old.data(), old.size(), 64), static_cast<ssize_t>(old.size()));
  EXPECT_EQ(old, weights.payload);
  ::close(fd);
  std::vector<char> got;
  ASSERT_TRUE(Fetch(weights.manifest, name, got).ok());
  EXPECT_EQ(got, other);
}

TEST_F(SharedMemoryTest, ATruncatedObjectIsDataLoss) {
  const auto source = Source();
  const TestWeights weights = MakeTestWeights(1);
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  const int fd = ::shm_open(source->Address().c_str(), O_RDWR, 0);
  ASSERT_EQ(::ftruncate(fd, 2000), 0);
  ::close(fd);
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDataLoss(Fetch(weights.manifest, source->Address(), got)));
}

TEST_F(SharedMemoryTest, AnObjectWithoutItsHeaderIsDataLoss) {
  const std::string name = "/" + prefix_ + ".1.1";
  const int fd = ::shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
  const TestWeights weights = MakeTestWeights(1);
  ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(64 + weights.payload.size())), 0);
  ::close(fd);
  std::vector<char> got;
  EXPECT_TRUE(absl::IsDataLoss(Fetch(weights.manifest, name, got)));
  ::shm_unlink(name.c_str());
}

TEST_F(SharedMemoryTest, LeftoversOfADeadProcessAreRemovedAndItsOwnAtExit) {
  const std::string stale = "/" + prefix_ + ".1.9";
  ::close(::shm_open(stale.c_str(), O_CREAT | O_RDWR, 0600));
  const std::string neighbour = "/" + prefix_ + "x.1.9";  // another run with a longer name
  ::close(::shm_open(neighbour.c_str(), O_CREAT | O_RDWR, 0600));
  auto source = Source();
  EXPECT_FALSE(Exists(stale));
  EXPECT_TRUE(Exists(neighbour));
  ::shm_unlink(neighbour.c_str());
  const TestWeights weights = MakeTestWeights(1);
  ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
  const std::string name = source->Address();
  EXPECT_TRUE(Exists(name));
  source.reset();
  EXPECT_FALSE(Exists(name));
}

TEST_F(SharedMemoryTest, ReadersNeverSeeAMixtureWhileVersionsAreReplaced) {
  const auto source = Source();
  constexpr int64_t kVersions = 60;
  std::atomic<int64_t> published = 0;
  std::atomic<int> fetched = 0;
  std::thread reader([&] {
    std::vector<char> got;
    while (published < kVersions) {
      const int64_t version = published;
      if (version == 0) continue;
      const std::string address = source->Address();
      const WeightManifest manifest = MakeTestWeights(version, 50'000).manifest;
      const absl::Status status = Fetch(manifest, address, got);
      if (status.ok()) {
        EXPECT_TRUE(VerifyPayload(manifest, got.data(), got.size()).ok());
        ++fetched;
      } else {
        EXPECT_TRUE(absl::IsNotFound(status)) << status;  // replaced meanwhile
      }
    }
  });
  for (int64_t version = 1; version <= kVersions; ++version) {
    const TestWeights weights = MakeTestWeights(version, 50'000);
    ASSERT_TRUE(source->Publish(weights.manifest, weights.payload.data()).ok());
    published = version;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  reader.join();
  EXPECT_GT(fetched, 0);
}

TEST_F(SharedMemoryTest, ANameWithASlashIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSharedMemorySource("a/b").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSharedMemorySource("").status()));
}

// In a process with a /dev/shm of its own, so that nobody else's is filled.
[[noreturn]] void PublishIntoTooSmallAMemory(const std::string& prefix) {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k") != 0) {
    ::_exit(77);
  }
  const auto source = *MakeSharedMemorySource(prefix);
  const TestWeights large = MakeTestWeights(1, 100'000), small = MakeTestWeights(2, 1000);
  const absl::Status status = source->Publish(large.manifest, large.payload.data());
  const std::string message(status.message());
  bool ok = absl::IsResourceExhausted(status) && message.find("/dev/shm") != std::string::npos &&
            message.find("disk full") != std::string::npos && source->Address().empty();
  // Nothing of it is left: there is room for a smaller one.
  ok = ok && source->Publish(small.manifest, small.payload.data()).ok();
  if (!ok) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  ::_exit(ok ? 0 : 1);
}

TEST_F(SharedMemoryTest, AFullSharedMemoryIsNamedAndLeavesNoPart) {
  const pid_t child = ::fork();
  if (child == 0) PublishIntoTooSmallAMemory(prefix_);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "no right to mount";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace tramontane
