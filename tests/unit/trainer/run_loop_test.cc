// The loop in one process: fake learner and generators, real Redis, journal and disk.
#include "trainer/run_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "common/clock.h"
#include "common/files.h"
#include "tests/support/redis_server.h"
#include "tests/support/small_disk.h"
#include "tests/unit/trainer/loop_fakes.h"
#include "trainer/ledger/lineage.h"
#include "trainer/ledger/pause_file.h"
#include "trainer/ledger/prompt_source.h"

namespace tramontane {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class RunLoopTest : public testing::Test {
 protected:
  void SetUp() override { server_ = RedisServer::Start().value(); }

  struct Outcome {
    absl::Status status;
    std::vector<Json> events;
    LoopState state;
  };

  RunConfig Config(int64_t max_steps) { return LoopConfig(server_->config(), max_steps); }

  // Runs the loop to its end, at most `limit_s`. `during` runs beside it.
  Outcome Run(const RunConfig& config, FakeTrainable& trainable, bool resume = false,
              std::optional<CheckpointState> restored = {}, std::function<void()> during = {},
              double limit_s = 240) {
    Outcome outcome;
    std::mutex mutex;
    RunLoop::Options options;
    options.config = config;
    options.run_dir = run_dir_;
    options.run_id = "run";
    options.resume = resume;
    options.restored = std::move(restored);
    options.emit = [&](const Json& event) {
      std::lock_guard lock(mutex);
      outcome.events.push_back(event);
    };
    FilePublisher publisher(run_dir_);
    MetricsRegistry metrics;
    auto loop = RunLoop::Create(options, trainable, LoopRows(40), LoopRows(7), publisher, metrics);
    if (!loop.ok()) {
      outcome.status = loop.status();
      return outcome;
    }
    stop_ = false;
    std::atomic<bool> done = false;
    std::jthread watchdog([&] {
      const auto start = std::chrono::steady_clock::now();
      while (!done && SecondsSince(start) < limit_s)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      stop_ = true;
    });
    std::jthread side;
    if (during) {
      side = std::jthread([&] {
        during();
        while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // redis_server.h
      });
    }
    outcome.status = (*loop)->Run(stop_);
    done = true;
    outcome.state = (*loop)->state();
    metrics_text_ = metrics.Render();
    return outcome;
  }

  void StartGenerator(FakeGeneratorOptions options = {}) {
    options.redis = server_->config();
    options.run_id = "run";
    options.run_dir = run_dir_;
    options.worker = "generator-" + std::to_string(generators_.size());
    options.seed = generators_.size() + 1;
    generators_.emplace_back([options](std::stop_token stop) {
      RunFakeGenerator(options, [&] { return stop.stop_requested(); });
    });
  }

  // Of the last run; -1 if there is no such series.
  double Series(const std::string& name) const {
    const size_t at = metrics_text_.find("\n" + name + " ");
    return at == metrics_text_.npos ? -1 : std::stod(metrics_text_.substr(at + name.size() + 2));
  }

  std::vector<Json> Of(const Outcome& outcome, const std::string& kind) {
    std::vector<Json> out;
    for (const Json& event : outcome.events) {
      if (event.value("event", "") == kind) out.push_back(event);
    }
    return out;
  }
  Lineage CheckedLineage() {
    Lineage lineage = VerifyLineage(Journal::Read(run_dir_ + "/journal.jsonl").value());
    EXPECT_THAT(lineage.problems, ElementsAre());
    return lineage;
  }
  // For `during`: until the step is on record, or the run is out of time.
  void AwaitStep(int64_t step) {
    const std::string wanted = "\"step\":" + std::to_string(step) + ",";
    while (!stop_ &&
           ReadFile(run_dir_ + "/metrics.jsonl").value_or("").find(wanted) == std::string::npos) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  int Blobs() {
    int count = 0;
    for (const auto& item : std::filesystem::recursive_directory_iterator(run_dir_ + "/blobs")) {
      count += item.is_regular_file() ? 1 : 0;
    }
    return count;
  }

  TempDir dir_;
  std::string run_dir_ = dir_.path();
  std::unique_ptr<RedisServer> server_;
  std::vector<std::jthread> generators_;
  std::atomic<bool> stop_ = false;
  std::string metrics_text_;
};

TEST_F(RunLoopTest, TrainsToItsLastStepAndLeavesNothingOutstanding) {
  StartGenerator();
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 2);
  const Outcome outcome = Run(Config(20), trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const Lineage lineage = CheckedLineage();
  EXPECT_EQ(lineage.last_step, 20);
  EXPECT_EQ(lineage.trained_groups, 80);
  EXPECT_GT(lineage.dropped_groups.at("zero_variance"), 0);
  EXPECT_EQ(ReadFakeCheckpoint(run_dir_).value().state.step, 20);

  const std::vector<Json> steps = Of(outcome, "step");
  ASSERT_EQ(steps.size(), 20u);
  EXPECT_EQ(steps[19]["step"], 20);
  EXPECT_LE(steps[19]["staleness_mean"], 2.0);
  // Groups that were dropped for being all right count in the sampled reward: it is above one half.
  double reward = 0;
  for (const Json& step : steps) reward += step["reward_mean"].get<double>() / 20;
  EXPECT_GT(reward, 0.51);
  const Json finished = Of(outcome, "finished").at(0);
  EXPECT_EQ(finished["reason"], "max_steps");
  EXPECT_EQ(finished["accuracy_after"], 1.0);
  EXPECT_THAT(metrics_text_, HasSubstr("tramontane_trainer_step 20"));

  // First, in between, and after the last step, each over all rows.
  std::set<int64_t> evaluated;
  for (const Json& eval : Of(outcome, "eval")) {
    evaluated.insert(eval["step"].get<int64_t>());
    EXPECT_EQ(eval["rows"], 7);
    EXPECT_EQ(eval["accuracy"], 1.0);
  }
  EXPECT_THAT(evaluated, testing::IsSupersetOf({0, 20}));
  auto queue = WorkQueue::Connect(server_->config(), "run").value();
  const QueueStats stats = queue->Stats().value();
  EXPECT_EQ(stats.waiting + stats.leased + stats.completed + stats.dead, 0);
}

TEST_F(RunLoopTest, WritesMetricsAndEveryRollout) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 2);
  ASSERT_TRUE(Run(Config(4), trainable).status.ok());
  std::istringstream lines(ReadFile(run_dir_ + "/metrics.jsonl").value());
  std::vector<int64_t> steps;
  for (std::string line; std::getline(lines, line);) {
    const Json json = Json::parse(line);
    if (json["event"] != "step") continue;
    steps.push_back(json["step"]);
    EXPECT_GT(json["peak_memory_bytes"], 1 << 20);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(Series("tramontane_checkpoint_bytes"),
            std::filesystem::file_size(run_dir_ + "/fake_checkpoint.json"));
  std::istringstream rollouts(ReadFile(run_dir_ + "/rollouts/step_2/train.jsonl").value());
  int trained = 0;
  for (std::string line; std::getline(rollouts, line);)
    trained += Json::parse(line)["fate"] == "trained" ? 1 : 0;
  EXPECT_EQ(trained, 16);
  EXPECT_TRUE(std::filesystem::exists(run_dir_ + "/rollouts/step_0/eval.jsonl"));
}

TEST_F(RunLoopTest, StopsOnRequestAndGoesOnWhereItWas) {
  StartGenerator();
  {
    FakeTrainable trainable(run_dir_, 2, 10);
    const Outcome outcome = Run(Config(100000), trainable, false, {}, [this] {
      AwaitStep(3);
      stop_ = true;
    });
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(Of(outcome, "stopped").size(), 1u);
  }
  const FakeCheckpoint stopped = ReadFakeCheckpoint(run_dir_).value();
  ASSERT_GT(stopped.state.step, 0);
  FakeTrainable trainable(run_dir_, 2, 1);
  auto restored = trainable.Restore();
  const Outcome outcome = Run(Config(stopped.state.step + 5), trainable, true, restored);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(Of(outcome, "resumed").at(0)["step"], stopped.state.step);
  EXPECT_EQ(Of(outcome, "resumed").at(0)["replayed"], 0);
  EXPECT_EQ(trainable.steps_taken(), 5);
  EXPECT_EQ(CheckedLineage().last_step, stopped.state.step + 5);
}

TEST_F(RunLoopTest, RefusesToStartAfreshInAUsedRunDirectory) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 1);
  ASSERT_TRUE(Run(Config(1), trainable).status.ok());
  EXPECT_EQ(Run(Config(2), trainable).status.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RunLoopTest, AnUnreachableRedisIsNamed) {
  FakeTrainable trainable(run_dir_, 2, 1);
  server_->Kill();
  const Outcome outcome = Run(Config(1), trainable);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("redis.sock"));
}

TEST_F(RunLoopTest, FailuresOfGeneratorsAndVerifiersCostGroupsNotTheRun) {
  StartGenerator({.fail = 20, .release = 10, .infra = 30});
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(Config(15), trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(CheckedLineage().last_step, 15);
  EXPECT_THAT(metrics_text_, HasSubstr("reason=\"infra_failure\""));
  const auto samples = [&](const std::string& set) {
    return Series("tramontane_output_tokens_count{set=\"" + set + "\"}");
  };
  // Whatever came back was dispatched; those without a verdict were not collected.
  EXPECT_GT(samples("dispatched"), samples("collected"));
  EXPECT_GE(samples("collected"), samples("trained"));
  EXPECT_GT(samples("trained"), 0);
}

TEST_F(RunLoopTest, AGroupThatAlwaysFailsIsGivenUpWithItsReason) {
  StartGenerator({.fail = 60});
  FakeTrainable trainable(run_dir_, 2, 1);
  ASSERT_TRUE(Run(Config(10), trainable).status.ok());
  const Lineage lineage = CheckedLineage();
  EXPECT_GT(lineage.dropped_groups.count("dead: made to fail"), 0u);
}

TEST_F(RunLoopTest, WaitsOutARedisThatIsSilent) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 5);
  const Outcome outcome = Run(Config(150), trainable, false, {}, [this] {
    AwaitStep(5);
    server_->Pause();
    std::this_thread::sleep_for(std::chrono::seconds(4));
    server_->Resume();
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const Lineage lineage = CheckedLineage();
  EXPECT_EQ(lineage.last_step, 150);
  EXPECT_EQ(lineage.trained_groups, 600);
  bool said_so = false;
  for (const Json& event : Of(outcome, "waiting")) {
    said_so = said_so || event["waiting_for"].get<std::string>().find("redis, unavailable") !=
                             std::string::npos;
  }
  EXPECT_TRUE(said_so);
}

TEST_F(RunLoopTest, GoesOnAfterRedisWasKilledAndAfterItLostItsData) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 5);
  const Outcome outcome = Run(Config(200), trainable, false, {}, [this] {
    AwaitStep(5);
    ASSERT_TRUE(server_->Restart().ok());
    AwaitStep(20);  // it has gone on
    ASSERT_TRUE(server_->RestartEmpty().ok());
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(CheckedLineage().last_step, 200);
  EXPECT_THAT(metrics_text_, HasSubstr("tramontane_queue_alarms_total{kind=\"data_lost\"} 1"));
}

TEST_F(RunLoopTest, ANewTrainerEndsTheOldOne) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 5);
  const Outcome outcome = Run(Config(100000), trainable, false, {}, [this] {
    AwaitStep(3);
    ASSERT_TRUE(WorkQueue::Connect(server_->config(), "run").value()->Fence().ok());
  });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kAborted);
}

TEST_F(RunLoopTest, StopsAfterTooManyStepsThatAreNotFinite) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 1);
  trainable.skip = [](int64_t step) { return step >= 5; };
  const Outcome outcome = Run(Config(50), trainable);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("not finite"));
  EXPECT_EQ(CheckedLineage().last_step, 8);
}

TEST_F(RunLoopTest, StopsAtTheRewardAskedFor) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 1);
  RunConfig config = Config(1000);
  config.run.stop_reward = 0.4;
  const Outcome outcome = Run(config, trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(Of(outcome, "finished").at(0)["reason"], "stop_reward");
  EXPECT_EQ(CheckedLineage().last_step, 10);
}

TEST_F(RunLoopTest, TrainsOnShortBatchesWhenAlmostEverythingIsAlike) {
  StartGenerator({.same_reward = 93});
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(Config(6), trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(CheckedLineage().last_step, 6);
}

TEST_F(RunLoopTest, ABandPausesTheRunUntilSomebodySaysGoOnAlsoOverARestart) {
  StartGenerator();
  RunConfig config = Config(8);
  // Every reward is above it; once is enough.
  config.bands["reward_mean"].high = -1;
  config.bands["reward_mean"].patience_steps = 3;
  FakeTrainable trainable(run_dir_, 2, 2);
  const Outcome first = Run(config, trainable, false, {}, [&] {
    AwaitStep(3);
    const auto start = std::chrono::steady_clock::now();
    while (SecondsSince(start) < 0.7) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    stop_ = true;
  });
  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(Of(first, "step").size(), 3u);  // paused after the third
  ASSERT_EQ(Of(first, "paused").size(), 1u);
  EXPECT_THAT(Of(first, "paused")[0]["reason"].get<std::string>(),
              HasSubstr("is above -1"));
  EXPECT_TRUE(std::filesystem::exists(run_dir_ + "/dumps/step_3/group_3.record"));

  FakeTrainable resumed(run_dir_, 2, 2);
  const auto restored = resumed.Restore();
  const Outcome second = Run(config, resumed, true, restored, [&] {
    const auto start = std::chrono::steady_clock::now();
    while (SecondsSince(start) < 0.5) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(trainable.steps_taken(), 3);
    EXPECT_EQ(resumed.steps_taken(), 0);  // as paused as it was
    ASSERT_TRUE(UnpauseRun(run_dir_).ok());
    AwaitStep(6);
    while (!stop_ && !PauseReason(run_dir_))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_TRUE(UnpauseRun(run_dir_).ok());
  });
  ASSERT_TRUE(second.status.ok()) << second.status;
  EXPECT_GE(Of(second, "unpaused").size(), 1u);  // the other may be over before anybody looks
  EXPECT_EQ(Of(second, "incident").size(), 1u);
  EXPECT_EQ(Of(second, "finished").size(), 1u);
  EXPECT_EQ(CheckedLineage().last_step, 8);
  EXPECT_EQ(Series("tramontane_trainer_paused"), 0);
}

TEST_F(RunLoopTest, AStarvedRunPausesWhereItIsToldTo) {
  StartGenerator();
  RunConfig config = Config(5);
  config.trainer.starvation = "pause";
  config.trainer.starvation_steps = 1;
  config.algorithm.filter.accept_low = config.algorithm.filter.accept_high = 0.123;  // nobody
  FakeTrainable trainable(run_dir_, 2, 2);
  const Outcome outcome = Run(config, trainable, false, {}, [&] {
    while (!stop_ && !PauseReason(run_dir_))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop_ = true;
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(trainable.steps_taken(), 0);
  ASSERT_TRUE(PauseReason(run_dir_));
  EXPECT_THAT(*PauseReason(run_dir_), HasSubstr("trainer.starvation"));
  EXPECT_GE(Series("tramontane_starved_total"), 1);
}

TEST_F(RunLoopTest, KeepsBlobsBoundedByTheCheckpointInterval) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 1);
  ASSERT_TRUE(Run(Config(60), trainable).status.ok());
  // 300 groups and more went through; those of the last two intervals and of the end may stay.
  EXPECT_LT(Blobs(), 2 * (2 * 5 + 3) * 4 * 2);
}

TEST_F(RunLoopTest, AMissingBlobRollsTheLineageBack) {
  StartGenerator();
  RunConfig config = Config(12);
  config.trainer.checkpoint_interval_steps = 100;  // only the first, at step 0, and the last
  {
    FakeTrainable trainable(run_dir_, 2, 1);
    ASSERT_TRUE(Run(config, trainable).status.ok());
  }
  // As if the last checkpoint had been lost together with a blob of step 9.
  const std::vector<JournalRecord> records = Journal::Read(run_dir_ + "/journal.jsonl").value();
  for (const JournalRecord& record : records) {
    if (record.kind == "batch" && record.step == 9) {
      std::filesystem::remove(run_dir_ + "/blobs/" + record.blobs[0].substr(0, 2) + "/" +
                              record.blobs[0]);
    }
  }
  std::filesystem::remove(run_dir_ + "/fake_checkpoint.json");
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(config, trainable, true);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(Of(outcome, "resumed").at(0)["replayed"], 8);
  const Lineage lineage = CheckedLineage();
  EXPECT_EQ(lineage.last_step, 12);
  EXPECT_EQ(lineage.rolled_back_groups, 16);
}

TEST_F(RunLoopTest, GroupsThatTheLearnerWouldRefuseNeverReachTheJournal) {
  StartGenerator();
  FakeTrainable trainable(run_dir_, 2, 1);
  trainable.check = [](const Group& group) {
    return group.task.cursor % 3 == 0 ? absl::InvalidArgumentError("a token outside the vocabulary")
                                      : absl::OkStatus();
  };
  const Outcome outcome = Run(Config(8), trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const std::vector<JournalRecord> records = Journal::Read(run_dir_ + "/journal.jsonl").value();
  for (const JournalRecord& record : records) {
    if (record.kind != "batch") continue;
    for (uint64_t cursor : record.cursors) EXPECT_NE(cursor % 3, 0u);
  }
  EXPECT_THAT(metrics_text_, HasSubstr("reason=\"malformed\""));
  EXPECT_EQ(CheckedLineage().last_step, 8);
}

TEST_F(RunLoopTest, AJournalledBatchThatTheLearnerRefusesIsRolledBackOnResume) {
  StartGenerator();
  const RunConfig config = Config(12);
  {
    FakeTrainable trainable(run_dir_, 2, 1);
    trainable.refuse_step = [](int64_t step) {
      return step == 7 ? absl::InvalidArgumentError("a token outside the vocabulary")
                       : absl::OkStatus();
    };
    EXPECT_EQ(Run(config, trainable).status.code(), absl::StatusCode::kInvalidArgument);
  }
  FakeTrainable trainable(run_dir_, 2, 1);
  int refused = 0;
  trainable.refuse_step = [&](int64_t step) {
    return step == 7 && ++refused == 1
               ? absl::InvalidArgumentError("a token outside the vocabulary")
               : absl::OkStatus();
  };
  const Outcome outcome = Run(config, trainable, true, trainable.Restore());
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_GE(refused, 2) << "the seventh step was taken with other groups";
  const Lineage lineage = CheckedLineage();
  EXPECT_EQ(lineage.last_step, 12);
  EXPECT_EQ(lineage.rolled_back_groups, config.trainer.groups_per_step);
}

TEST_F(RunLoopTest, ScheduledFiltersJudgeTheGroupsOfTheirSteps) {
  StartGenerator({.same_reward = 50});
  RunConfig config = Config(12);
  // Groups that are all right are judged by the window first, and else by their variance.
  config.schedules["algorithm.filter.accept_high"] = {.steps = {1, 6}, .values = {1.0, 0.9}};
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(config, trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(metrics_text_, HasSubstr("reason=\"pass_rate\""));
  EXPECT_THAT(metrics_text_, HasSubstr("reason=\"zero_variance\""));
}

TEST_F(RunLoopTest, GroupsCarryTheRewardsWeightsOfTheirStep) {
  StartGenerator();
  RunConfig config = Config(6);
  config.schedules["reward.correct"] = {.steps = {1, 100}, .values = {0.5, 0.9}};
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(config, trainable);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(metrics_text_, HasSubstr("tramontane_reward_weight{part=\"correct\"} 0.5"));
  EXPECT_THAT(ReadFile(run_dir_ + "/rollouts/step_3/train.jsonl").value(),
              HasSubstr("\"reward_weights\":{\"correct\":0.5}"));
}

// Half the rows are solved in the first run's eyes; the second one, resumed, knows it.
TEST_F(RunLoopTest, RowsPassRatesSurviveAResume) {
  StartGenerator();
  RunConfig config = Config(6);
  config.trainer.checkpoint_interval_steps = 100;
  {
    FakeTrainable trainable(run_dir_, 2, 1);
    ASSERT_TRUE(Run(config, trainable).status.ok());
  }
  std::map<std::string, int64_t> samples;
  const std::vector<JournalRecord> records = Journal::Read(run_dir_ + "/journal.jsonl").value();
  for (const JournalRecord& record : records) {
    if (!record.detail.contains("rows")) continue;
    for (const auto& [row, counts] : record.detail["rows"].items())
      samples[row] += counts[1].get<int64_t>();
  }
  ASSERT_FALSE(samples.empty());
  const std::vector<PromptRow> rows = LoopRows(40);
  PromptSection section;
  section.pass_min_samples = 1;
  PromptSource source(
      rows, [&](int64_t) { return section; }, 0, true);
  source.Restore(records);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(source.PassRate(i).has_value(), samples[rows[i].row_id] > 0) << rows[i].row_id;
  }
  // And the loop draws by them: with priority, rows that were always right are left alone.
  config.run.max_steps = 9;
  config.prompts.order = "priority";
  config.prompts.pass_min_samples = 1;
  FakeTrainable trainable(run_dir_, 2, 1);
  const Outcome outcome = Run(config, trainable, true, trainable.Restore());
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(CheckedLineage().last_step, 9);
}

TEST_F(RunLoopTest, ADomainThatNoRowHasIsRefusedAtOnce) {
  RunConfig config = Config(6);
  config.prompts.domain_weights["law"] = 1;
  FakeTrainable trainable(run_dir_, 2, 1);
  EXPECT_EQ(Run(config, trainable).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RunLoopTest, AFullDiskEndsTheRunByNameAndWithRoomAgainItGoesOn) {
  auto disk = SmallDisk::Mount(size_t{32} << 20);  // many steps may go by before it is filled
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  run_dir_ = (*disk)->path() + "/run";
  ASSERT_TRUE(MakeDirs(run_dir_).ok());
  StartGenerator();
  {
    FakeTrainable trainable(run_dir_, 2, 1);
    const Outcome outcome = Run(Config(100000), trainable, false, {}, [&] {
      AwaitStep(3);
      (*disk)->Fill(0);
    });
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted) << outcome.status;
    EXPECT_THAT(std::string(outcome.status.message()),
                AllOf(HasSubstr(run_dir_), HasSubstr("disk full")));
    EXPECT_TRUE(Of(outcome, "finished").empty());
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run_dir_)) {
    EXPECT_THAT(entry.path().string(), Not(HasSubstr(".tmp.")));
  }
  std::istringstream lines(ReadFile(run_dir_ + "/metrics.jsonl").value());
  for (std::string line; std::getline(lines, line);) EXPECT_TRUE(Json::accept(line)) << line;

  (*disk)->Fill(size_t{2} << 20);
  const int64_t steps = CheckedLineage().last_step;
  EXPECT_GT(steps, 0);
  FakeTrainable trainable(run_dir_, 2, 1);
  auto restored = trainable.Restore();
  const Outcome outcome = Run(Config(steps + 5), trainable, true, restored);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(CheckedLineage().last_step, steps + 5);
  generators_.clear();  // before their disk goes
}

}  // namespace
}  // namespace tramontane
