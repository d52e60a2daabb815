// A verifier of a configuration that a command needs for itself: asked where it is, or started for as
// long as the value lives.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/child_process.h"
#include "common/config.h"

namespace tramontane {

class VerifierChild {
 public:
  // `config_path` tells a built-in grader its reward table; may be empty. Standard error of a
  // started process goes to `log_path`. Blocks until it listens.
  static absl::StatusOr<VerifierChild> Start(const std::string& name, VerifierSection section,
                                             const std::string& binary_dir,
                                             const std::string& config_path,
                                             const std::string& log_path);

  // With an address, and neither builtin, command nor use.
  const VerifierSection& section() const { return section_; }

 private:
  VerifierSection section_;
  std::optional<ChildProcess> process_;
};

}  // namespace tramontane
