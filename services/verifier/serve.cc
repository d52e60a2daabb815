#include "services/verifier/serve.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "services/verifier/service.h"

namespace tramontane {
namespace {

constexpr int32_t kMostThreads = 256;

}  // namespace

void AddServeOptions(CLI::App& command, VerifierServeOptions& options) {
  command.add_option("--bind", options.runner.bind, "host:port; port 0 picks a free one");
  command.add_option("--threads", options.scoring.threads, "Worker threads")
      ->check(CLI::Range(1, kMostThreads));
  command
      .add_option("--max-waiting", options.scoring.max_waiting,
                  "Requests that may wait; beyond it: overloaded")
      ->check(CLI::Range(1, 1 << 20));
  command.add_option("--ready-file", options.runner.ready_file,
                     "The listening line is written here too");
  command.add_flag("--exit-with-parent", options.runner.exit_with_parent,
                   "Drain when the starting process dies");
}

int ServeVerifier(VerifierServeOptions options, MetricsRegistry& metrics, const MakeGrader& make) {
  ServiceRunner runner(options.runner, metrics);
  absl::StatusOr<std::shared_ptr<const Grader>> made = make(options.scoring);
  if (!made.ok()) return runner.Fail(made.status());
  const std::shared_ptr<const Grader> grader = *std::move(made);
  ScoringDesk desk(grader, options.scoring, metrics);
  VerifierService service(grader, options.scoring, desk);
  runner.AddService(&service, VerifierService::kFullName);
  runner.OnDrain([&desk](double) { desk.Drain(); });
  runner.OnState([&desk, &grader, &runner] {
    ProcessStatus status;
    status.phase = runner.stop() ? "draining" : "serving";
    status.detail = {{"verifier", grader->name()},
                     {"version", grader->version()},
                     {"digest", grader->digest()},
                     {"waiting", desk.waiting()},
                     {"finished", desk.finished()}};
    return status;
  });
  if (const absl::Status started = runner.Start(); !started.ok()) return runner.Fail(started);
  runner.WaitForStop();
  return runner.Shutdown();
}

}  // namespace tramontane
