// Runs programs in jails of this process, and knows how the languages are started.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "common/config.h"
#include "common/metrics.h"
#include "verifier/sandbox/jail_pool.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

class LocalRunner final : public ProgramRunner {
 public:
  // Starts the jails and lets one prove that it runs a program. `jail_program` empty:
  // tramontane-jail beside the running executable. Errors: FailedPrecondition (this machine offers
  // too little, or the self-test failed), NotFound (an interpreter or compiler is missing; the
  // field is named). `metrics` outlives the runner.
  static absl::StatusOr<std::unique_ptr<LocalRunner>> Create(const SandboxSection& section,
                                                             const std::string& jail_program,
                                                             MetricsRegistry& metrics);

  absl::StatusOr<ProgramRun> Run(const ProgramSpec& program, std::string_view input,
                                 const RunLimits& limits) override;
  absl::StatusOr<SandboxDescription> Describe() override { return description_; }

  const JailPool& pool() const { return *pool_; }

 private:
  // A compiled program, or why there is none. Immutable.
  struct Compiled {
    UniqueFd binary;
    ProgramRun failure;
  };
  using CompiledPtr = std::shared_ptr<const Compiled>;

  LocalRunner(const SandboxSection& section, MetricsRegistry& metrics);

  absl::Status SelfTest();
  absl::Status CheckLimits(const ProgramSpec& program, const RunLimits& limits) const;
  absl::StatusOr<ProgramRun> RunPython(const ProgramSpec& program, std::string_view input,
                                       const RunLimits& limits);
  absl::StatusOr<ProgramRun> RunCxx(const ProgramSpec& program, std::string_view input,
                                    const RunLimits& limits);
  absl::StatusOr<CompiledPtr> Compile(const std::string& source);
  absl::StatusOr<CompiledPtr> CompileAnew(const std::string& source);
  CompiledPtr Recall(const std::string& key);
  void Remember(const std::string& key, CompiledPtr compiled);

  const SandboxSection section_;
  MetricsRegistry& metrics_;
  Histogram compile_seconds_;
  std::string header_dir_;
  std::unique_ptr<JailPool> pool_;
  SandboxDescription description_;  // the pool's, with the runtimes

  std::mutex mutex_;
  std::list<std::string> recent_;                       // keys of cache_, newest first
  std::unordered_map<std::string, CompiledPtr> cache_;  // by hash of the source
};

// Path of tramontane-jail beside the running executable.
std::string DefaultJailProgram();

}  // namespace tramontane
