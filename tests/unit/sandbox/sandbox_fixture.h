// A runner over real jails, made once for a test binary: starting it costs more than most tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/metrics.h"
#include "verifier/sandbox/local_runner.h"

namespace tramontane {

// "auto": as tight as this machine allows. "off": what is left to an ordinary container.
class SandboxFixture {
 public:
  explicit SandboxFixture(const std::string& namespaces, int programs = 2) {
    SandboxSection section;
    section.namespaces = namespaces;
    section.programs = programs;
    auto made = LocalRunner::Create(section, "", metrics_);
    status_ = made.status();
    if (made.ok()) runner_ = *std::move(made);
  }

  const absl::Status& status() const { return status_; }
  LocalRunner& runner() { return *runner_; }
  MetricsRegistry& metrics() { return metrics_; }

  ProgramRun Run(const std::string& language, const std::string& source,
                 const std::string& input = "", RunLimits limits = {}) {
    const auto run = runner_->Run({language, source, ""}, input, limits);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *run : ProgramRun{.end = RunEnd::kSignalled, .code = -1};
  }

 private:
  MetricsRegistry metrics_;
  absl::Status status_;
  std::unique_ptr<LocalRunner> runner_;
};

}  // namespace tramontane
