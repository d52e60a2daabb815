#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "services/tool_main.h"
#include "services/verifier/score_differences.h"
#include "services/verifier/serve.h"
#include "verifier/sdk/cpp/examiner.h"
#include "verifier/sdk/cpp/scaffold.h"
#include "verifier/sdk/cpp/verifier_sdk.h"

namespace tramontane {
namespace {

struct Arguments {
  VerifierServeOptions serve;
  std::string cases, name, folder = ".";
  StoredRollouts stored;
  bool json = false;
};

int Fail(const absl::Status& status) {
  std::cerr << status.message() << "\n";
  return 1;
}

int Tell(const Grader& grader, const absl::StatusOr<std::vector<Finding>>& findings) {
  if (!findings.ok()) return Fail(findings.status());
  size_t failed = 0;
  for (const Finding& finding : *findings) {
    std::cout << (finding.passed ? "ok   " : "FAIL ") << finding.name << ": " << finding.detail
              << "\n";
    failed += finding.passed ? 0 : 1;
  }
  std::cout << grader.name() << " " << grader.version() << ": " << findings->size() - failed
            << " passed, " << failed << " failed\n";
  return failed == 0 ? 0 : 1;
}

absl::StatusOr<std::vector<Finding>> Validate(const Grader& grader, const std::string& cases) {
  Json example = Json::object();
  if (!cases.empty()) {
    ASSIGN_OR_RETURN(example, ExampleOf(cases));
  }
  return RunAdversarial(grader, example);
}

// How the samples that a run has stored would have been scored.
absl::StatusOr<Json> Replay(const Grader& grader, const StoredRollouts& stored) {
  ScoreDifferences differences;
  const auto score = [&](const std::vector<StoredSample>& group) {
    std::vector<GradeRequest> requests;
    for (const StoredSample& sample : group) {
      GradeRequest& request = requests.emplace_back();
      request.prompt = sample.row.prompt;
      request.completion = sample.rollout.text;
      request.completion_tokens = static_cast<int32_t>(sample.rollout.tokens.size());
      request.finish_reason = sample.rollout.finish_reason;
      request.answer = sample.row.answer;
      request.params = sample.row.params;
    }
    const std::vector<Verdict> verdicts = grader.GradeGroup(requests);
    for (size_t i = 0; i < group.size(); ++i) differences.Add(group[i], verdicts[i]);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachStoredGroup(stored, score));
  Json document = differences.Document();
  document["verifier"] = grader.name();
  return document;
}

int Init(const Arguments& args) {
  const auto files = WriteScaffold(args.name, args.folder);
  if (!files.ok()) return Fail(files.status());
  for (const std::string& file : *files) std::cout << file << "\n";
  return 0;
}

int Serve(Arguments args, const std::shared_ptr<const Grader>& grader) {
  args.serve.runner.process = "verifier-" + grader->name();
  InitLogging(args.serve.runner.process);
  MetricsRegistry metrics;
  return ServeVerifier(args.serve, metrics, [&grader](ScoringOptions&) { return grader; });
}

}  // namespace

int VerifierMain(int argc, char** argv, const VerifierSpec& spec) {
  const auto made = MakeFunctionGrader(spec);
  if (!made.ok()) return Fail(made.status());
  const std::shared_ptr<const Grader>& grader = *made;
  Arguments args;
  CLI::App app("Verifier " + spec.name + " " + spec.version);
  app.require_subcommand(1);
  CLI::App* serve = app.add_subcommand("serve", "Serve it over gRPC");
  args.serve.runner.bind = "127.0.0.1:0";
  AddServeOptions(*serve, args.serve);
  serve->add_option("--metrics-bind", args.serve.runner.metrics_bind,
                    "host:port of /metrics; empty: off");
  CLI::App* test = app.add_subcommand("test", "Put its own cases to it");
  test->add_option("cases", args.cases, "JSONL: requests, with what is expected")->required();
  CLI::App* validate = app.add_subcommand("validate", "Put to it what every verifier must survive");
  validate->add_option("cases", args.cases, "JSONL; the first row serves as an example");
  CLI::App* replay = app.add_subcommand("replay", "Score a run's stored rollouts again");
  replay->add_option("run", args.stored.run_dir, "Run directory")->required();
  replay->add_option("--verifier", args.stored.only, "Only rollouts judged by this one");
  replay->add_option("--kind", args.stored.kind)->check(CLI::IsMember({"train", "eval"}));
  replay->add_option("--limit", args.stored.limit, "Samples; 0: all");
  replay->add_flag("--json", args.json, "Print JSON");
  CLI::App* init = app.add_subcommand("init", "Write another verifier to start from");
  init->add_option("name", args.name)->required();
  init->add_option("folder", args.folder, "Where its folder is made");
  CLI11_PARSE(app, argc, argv);

  if (serve->parsed()) return Serve(std::move(args), grader);
  if (test->parsed()) return Tell(*grader, RunCases(*grader, args.cases));
  if (validate->parsed()) return Tell(*grader, Validate(*grader, args.cases));
  if (init->parsed()) return Init(args);
  const absl::StatusOr<Json> document = Replay(*grader, args.stored);
  if (!document.ok()) return Fail(document.status());
  std::cout << (args.json ? document->dump() + "\n" : RenderDifferences(*document));
  return 0;
}

}  // namespace tramontane
