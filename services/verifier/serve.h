// Serving a grader as a process: tramontane-verifier does it for those that are built in, the C++
// SDK for others'.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "services/runner.h"
#include "services/verifier/scoring_desk.h"
#include "verifier/grader.h"

namespace CLI {
class App;
}

namespace tramontane {

struct VerifierServeOptions {
  ScoringOptions scoring;
  RunnerOptions runner;  // `process` names it
};

// --bind, --threads, --max-waiting, --ready-file, --exit-with-parent.
void AddServeOptions(CLI::App& command, VerifierServeOptions& options);

// `make` is called once, when signals are watched for already; it may change the scoring options.
// Serves until it is told to stop; the process's exit status.
using MakeGrader =
    std::function<absl::StatusOr<std::shared_ptr<const Grader>>(ScoringOptions& scoring)>;
int ServeVerifier(VerifierServeOptions options, MetricsRegistry& metrics, const MakeGrader& make);

}  // namespace tramontane
