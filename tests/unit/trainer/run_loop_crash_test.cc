// Processes killed at random moments, over a real Redis, journal and disk. After each kill the run
// resumes; at the end the invariants of the ledger must hold exactly:
//   every group that was handed out has one end · none is trained on twice · no token is older than
//   allowed (the fake learner refuses it) · the weights are those of the journal, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "common/hash.h"
#include "tests/support/redis_server.h"
#include "tests/unit/trainer/loop_fakes.h"
#include "trainer/ledger/lineage.h"
#include "trainer/loop/recovery.h"

namespace tramontane {
namespace {

constexpr int64_t kMaxSteps = 60;
constexpr int kFinished = 0, kFailed = 3;

// Runs `body` in a process of its own that dies with the test.
template <class Body>
pid_t Spawn(Body&& body) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kFailed);
  ::_exit(body());
}

void Kill(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

class CrashTest : public testing::TestWithParam<int> {
 protected:
  int Trainer() {
    std::ofstream log(dir_.path() + "/trainer.log", std::ios::app);
    FakeTrainable trainable(dir_.path(), 2, 8);
    RunLoop::Options options;
    options.config = LoopConfig(server_->config(), kMaxSteps);
    options.run_dir = dir_.path();
    options.run_id = "run";
    options.resume = true;
    options.restored = trainable.Restore();
    options.emit = [&](const Json& event) { log << event.dump() << std::endl; };
    FilePublisher publisher(dir_.path());
    MetricsRegistry metrics;
    auto loop = RunLoop::Create(options, trainable, LoopRows(40), LoopRows(5), publisher, metrics);
    if (!loop.ok()) {
      log << loop.status() << std::endl;
      return kFailed;
    }
    const std::atomic<bool> stop = false;
    const absl::Status status = (*loop)->Run(stop);
    log << status << std::endl;
    return status.ok() ? kFinished : kFailed;
  }

  pid_t StartGenerator(int index, int life) {
    FakeGeneratorOptions options;
    options.redis = server_->config();
    options.run_id = "run";
    options.run_dir = dir_.path();
    options.worker = "generator-" + std::to_string(index) + "." + std::to_string(life);
    options.seed = static_cast<uint64_t>(GetParam() * 1000 + index * 100 + life);
    options.work_ms = 2;
    options.fail = 3;
    options.release = 3;
    options.abandon = 2;
    options.infra = 5;
    return Spawn([options] {
      RunFakeGenerator(options, [] { return false; });
      return kFinished;
    });
  }

  std::string TrainerLog() const {
    std::ifstream file(dir_.path() + "/trainer.log");
    std::string all((std::istreambuf_iterator<char>(file)), {});
    return all.size() > 3000 ? all.substr(all.size() - 3000) : all;
  }

  TempDir dir_;
  std::unique_ptr<RedisServer> server_;
};

TEST_P(CrashTest, NoGroupIsLostOrTrainedOnTwice) {
  server_ = RedisServer::Start().value();
  std::mt19937 rng(static_cast<unsigned>(GetParam()));
  pid_t generators[2] = {StartGenerator(0, 0), StartGenerator(1, 0)};
  pid_t trainer = Spawn([this] { return Trainer(); });
  bool finished = false, wiped = false;
  for (int fault = 0; fault < 400 && !finished; ++fault) {
    // Faults stop after a while, so that the run can end; then only its end is waited for.
    const int pause_ms = fault < 12 ? 20 + static_cast<int>(rng() % 500) : 250;
    for (int waited = 0; waited < pause_ms && !finished; waited += 5) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      int status = -1;
      if (::waitpid(trainer, &status, WNOHANG) == trainer) {
        ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kFinished) << TrainerLog();
        finished = true;
      }
    }
    if (finished || fault >= 12) continue;
    const int what = static_cast<int>(rng() % 10);
    if (what < 5) {
      Kill(trainer);
      trainer = Spawn([this] { return Trainer(); });
    } else if (what < 8) {
      const int index = what % 2;
      Kill(generators[index]);
      generators[index] = StartGenerator(index, fault + 1);
    } else if (what == 8) {
      ASSERT_TRUE(server_->Restart().ok());
    } else {
      ASSERT_TRUE(server_->RestartEmpty().ok());
      wiped = true;
    }
  }
  for (pid_t generator : generators) Kill(generator);
  if (!finished) Kill(trainer);
  ASSERT_TRUE(finished) << TrainerLog();

  const std::vector<JournalRecord> records = Journal::Read(dir_.path() + "/journal.jsonl").value();
  const Lineage lineage = VerifyLineage(records);
  EXPECT_THAT(lineage.problems, testing::ElementsAre());
  EXPECT_EQ(lineage.last_step, kMaxSteps);

  // The weights are exactly the journal's.
  std::string weights = Sha256Hex("initial");
  for (size_t batch : lineage.batches) weights = FakeTrainable::Next(weights, records[batch].step, records[batch].gids);
  EXPECT_EQ(ReadFakeCheckpoint(dir_.path()).value().weights, weights);

  // Whatever a generator was ever handed has an end. Only Redis knew what was handed out when trainer
  // and data were lost together: then a group may also be as if it had never been issued.
  const CursorFrontier frontier =
      LedgerFromJson(ReadFakeCheckpoint(dir_.path()).value().state.ledger).value().frontier;
  std::set<std::string> unissued;
  for (uint64_t cursor = 0; wiped && cursor < 5000; ++cursor) {
    if (!frontier.Ended(cursor)) unissued.insert(MakeGid("run", "train", cursor));
  }
  std::set<std::string> ended;
  for (const JournalRecord& record : records) ended.insert(record.gids.begin(), record.gids.end());
  for (const auto& item : std::filesystem::directory_iterator(dir_.path())) {
    if (item.path().filename().string().rfind("claimed.", 0) != 0) continue;
    std::ifstream claimed(item.path());
    for (std::string gid; std::getline(claimed, gid);) {
      EXPECT_TRUE(gid.size() != 32 || ended.count(gid) || unissued.count(gid)) << gid << " has no end";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CrashTest, testing::Range(1, 7));

}  // namespace
}  // namespace tramontane
