// What people are shown: event lines, summary, pictures, status.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/plot.h"
#include "cli/progress.h"
#include "cli/status.h"
#include "cli/summary.h"
#include "common/files.h"
#include "common/stages.h"
#include "tests/support/temp_dir.h"

namespace tramontane {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class ReportTest : public testing::Test {
 protected:
  void WriteMetrics(const std::string& text) { std::ofstream(folder_ + "/metrics.jsonl") << text; }

  std::string Printed(ProgressPrinter::Mode mode, const std::vector<Json>& events) {
    const std::string path = folder_ + "/printed";
    std::FILE* file = std::fopen(path.c_str(), "w");
    ProgressPrinter printer(file, mode);
    for (const Json& event : events) printer.Event(event);
    std::fclose(file);
    return *ReadFile(path);
  }

  const TempDir temp_;
  std::string folder_ = temp_.path();
};

constexpr char kTwoSteps[] = R"({"event":"eval","version":0,"accuracy":0.25}
{"event":"step","step":1,"reward_mean":0.3,"reward_10":0.3,"staleness_mean":1,"logprob_gap_max":1e-6}
{"event":"step","step":2,"reward_mean":0.5,"reward_10":0.4,"staleness_mean":2,"logprob_gap_max":3e-6}
{"event":"eval","version":2,"accuracy":0.75}
)";

TEST_F(ReportTest, AStepIsOneLineAndUnknownNumbersAreLeftOut) {
  const std::string line =
      RenderEvent({{"event", "step"}, {"step", 3}, {"reward_mean", 0.5}, {"reward_10", nullptr}});
  EXPECT_THAT(line, HasSubstr("reward 0.500"));
  EXPECT_THAT(line, Not(HasSubstr("10-step")));
  EXPECT_THAT(line, Not(HasSubstr("\n")));
}

TEST_F(ReportTest, WaitingLinesAreWrittenOverOnATerminalOnly) {
  const std::vector<Json> events = {
      {{"event", "waiting"}, {"waiting_for", "groups"}, {"seconds", 3.0}},
      {{"event", "step"}, {"step", 1}}};
  EXPECT_EQ(Printed(ProgressPrinter::Mode::kTerminal, events),
            "waiting: groups for 3.0s\r\033[Kstep    1\n");
  EXPECT_EQ(Printed(ProgressPrinter::Mode::kPlain, events),
            "waiting: groups for 3.0s\nstep    1\n");
}

TEST_F(ReportTest, JsonModePassesEventsThroughUnchanged) {
  const Json event = {{"event", "something new"}, {"x", 1}};
  EXPECT_EQ(Json::parse(Printed(ProgressPrinter::Mode::kJson, {event})), event);
}

TEST_F(ReportTest, TheSummaryTellsBeforeAndAfter) {
  WriteMetrics(kTwoSteps);
  const auto summary = Summarise(folder_);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ((*summary)["accuracy_before"], 0.25);
  EXPECT_EQ((*summary)["accuracy_after"], 0.75);
  EXPECT_EQ((*summary)["reward_first"], 0.3);
  EXPECT_EQ((*summary)["reward_last_10"], 0.4);
  EXPECT_EQ((*summary)["staleness_mean"], 1.5);
  EXPECT_EQ((*summary)["logprob_gap_max"], 3e-6);
  EXPECT_THAT(RenderSummary(*summary), HasSubstr("held-out accuracy after"));
}

TEST_F(ReportTest, WeightVersionsAreCountedOverAllTrainersOfARun) {
  WriteMetrics(R"({"event":"step","step":1,"versions_published":1}
{"event":"step","step":2,"versions_published":3}
{"event":"resumed","step":2}
{"event":"step","step":3,"versions_published":1}
{"event":"finished","step":3,"versions_published":2}
)");
  EXPECT_EQ((*Summarise(folder_))["weight_versions"], 5);
}

TEST_F(ReportTest, ATornLastLineIsLeftOutAndAnyOtherIsAnError) {
  WriteMetrics(std::string(kTwoSteps) + R"({"event":"st)");
  EXPECT_EQ(ReadMetrics(folder_)->size(), 4u);
  WriteMetrics("{\"event\":\"st\n" + std::string(kTwoSteps));
  const auto metrics = ReadMetrics(folder_);
  EXPECT_TRUE(absl::IsDataLoss(metrics.status()));
  EXPECT_THAT(std::string(metrics.status().message()), HasSubstr("metrics.jsonl:1"));
}

TEST_F(ReportTest, ARunWithoutStepsHasNullsAndNoPicture) {
  WriteMetrics("");
  EXPECT_TRUE((*Summarise(folder_))["accuracy_before"].is_null());
  EXPECT_TRUE(absl::IsNotFound(PlotRun(folder_, PictureFormat::kSvg).status()));
}

TEST_F(ReportTest, ThePictureIsDrawnEvenWhereTheFolderHasAQuote) {
  folder_ += "/it's here";
  fs::create_directories(folder_);
  WriteMetrics(kTwoSteps);
  const auto picture = PlotRun(folder_, PictureFormat::kSvg);
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_THAT(*ReadFile(*picture), HasSubstr("held-out accuracy"));
}

TEST_F(ReportTest, StatusOfADeadRunNamesWhoIsNotRunning) {
  std::ofstream(folder_ + "/endpoints.json")
      << R"({"run":"r","attempt":1,"supervisor_pid":0,"processes":[
             {"name":"trainer","kind":"trainer","pid":-1,"address":"127.0.0.1:1"},
             {"name":"generator-0","kind":"generator","pid":-1,"address":""}]})";
  const auto status = QueryStatus(folder_, 1.0);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_FALSE((*status)["supervised"]);
  EXPECT_FALSE((*status)["processes"][0]["answers"]);
  ASSERT_EQ((*status)["waits"].size(), 2u);
  EXPECT_THAT((*status)["waits"][0].get<std::string>(), HasSubstr("trainer is not running"));
  EXPECT_THAT(RenderStatus(*status), HasSubstr("(not running)"));
}

TEST_F(ReportTest, StatusShowsTheQueue) {
  const Json status = {{"run", "r"},
                       {"processes", Json::array()},
                       {"waits", Json::array()},
                       {"queue",
                        {{"waiting", 3},
                         {"leased", 2},
                         {"completed", 1},
                         {"dead", 4},
                         {"oldest_waiting_s", 1.5},
                         {"oldest_lease", {{"seconds", 7.25}, {"worker", "generator-0"}}}}}};
  EXPECT_THAT(RenderStatus(status),
              HasSubstr("waiting 3  leased 2  completed 1  dead 4  oldest waits 1.5 s"
                        "  oldest lease 7.2 s, generator-0\n"));
}

TEST_F(ReportTest, AVerifierWithoutOurControlServiceIsAskedForItsHealth) {
  grpc::EnableDefaultHealthCheckService(true);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const Json process = {{"name", "verifier-x"},
                        {"kind", "verifier"},
                        {"pid", ::getpid()},
                        {"address", "127.0.0.1:" + std::to_string(port)}};
  std::ofstream(folder_ + "/endpoints.json") << Json{{"run", "r"}, {"processes", {process}}};
  const auto phase = [&] { return (*QueryStatus(folder_, 10.0))["processes"][0]; };
  EXPECT_EQ(phase()["phase"], "serving") << phase();
  EXPECT_EQ((*QueryStatus(folder_, 10.0))["waits"], Json::array());

  server->GetHealthCheckService()->SetServingStatus(false);
  EXPECT_FALSE(phase()["answers"]);
  EXPECT_THAT(phase()["error"].get<std::string>(), HasSubstr("NOT_SERVING"));
  server->Shutdown();
}

TEST_F(ReportTest, StatusOfSomethingElseIsAnError) {
  EXPECT_FALSE(QueryStatus(folder_ + "/nothing", 1.0).ok());
}

// A chain of a cold start and two RL stages, of which the second has not begun.
TEST_F(ReportTest, AChainIsSummedUpAndDrawnStageByStage) {
  const RunConfig chain = *ParseConfig(
      "run: {name: c}\nmodel: {path: /m}\ndata: {train: /t}\nsft: {steps: 5}\nstages:\n"
      "  - {name: cold, kind: sft, data: [/r.jsonl]}\n  - {name: first, kind: rl}\n"
      "  - {name: second, kind: rl}\n  - {name: third, kind: rl}",
      "test", {});
  fs::create_directories(folder_ + "/configs");
  std::ofstream(folder_ + "/configs/config.json") << ToJson(chain);
  for (size_t i : {1u, 2u}) {
    fs::create_directories(StageRunDir(folder_, chain, i) + "/configs");
    std::ofstream(StageRunDir(folder_, chain, i) + "/metrics.jsonl") << kTwoSteps;
  }
  const auto summary = Summarise(folder_);
  ASSERT_TRUE(summary.ok()) << summary.status();
  const Json& stages = (*summary)["stages"];
  ASSERT_EQ(stages.size(), 4u);
  EXPECT_FALSE(stages[0].contains("summary"));
  EXPECT_EQ(stages[1]["summary"]["accuracy_after"], 0.75);
  EXPECT_EQ(stages[3]["state"], "pending");
  const std::string text = RenderSummary(*summary);
  EXPECT_THAT(text, HasSubstr("== first (rl)"));
  EXPECT_THAT(text, HasSubstr("held-out accuracy after"));
  EXPECT_THAT(text, Not(HasSubstr("== cold")));
  // Drawn where there is a gnuplot; its script and data are there in any case.
  const auto picture = PlotRun(folder_, PictureFormat::kSvg);
  EXPECT_TRUE(picture.ok() || !absl::IsInvalidArgument(picture.status())) << picture.status();
  EXPECT_EQ(*ReadFile(folder_ + "/plots/reward.dat"),
            "1 0.3 0.3\n2 0.5 0.4\n\n3 0.3 0.3\n4 0.5 0.4\n");
  EXPECT_EQ(*ReadFile(folder_ + "/plots/accuracy.dat"), "0 0.25\n2 0.75\n\n2 0.25\n4 0.75\n");
  EXPECT_THAT(*ReadFile(folder_ + "/plots/curves.gnuplot"), HasSubstr("'second' at 2"));
}

TEST_F(ReportTest, AChainWithoutAStepHasNoPicture) {
  const RunConfig chain = *ParseConfig(
      "run: {name: c}\nmodel: {path: /m}\nsft: {steps: 5}\nstages:\n"
      "  - {name: cold, kind: sft, data: [/r.jsonl]}",
      "test", {});
  fs::create_directories(folder_ + "/configs");
  std::ofstream(folder_ + "/configs/config.json") << ToJson(chain);
  EXPECT_TRUE(absl::IsNotFound(PlotRun(folder_, PictureFormat::kSvg).status()));
  EXPECT_TRUE(Summarise(folder_).ok());
}

}  // namespace
}  // namespace tramontane
