// `tramontane doctor [RUN]`: is everything here that a run needs, and is a run's history sound?
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace tramontane {

struct Check {
  enum class Result { kOk, kWarning, kFailed };
  std::string name;
  Result result;
  std::string detail;  // what was found; for a failure also what to do
};

std::vector<Check> CheckMachine(const std::string& binary_dir);
std::vector<Check> CheckRun(const std::string& run_dir);

// Exit status 1 when a check failed.
int DoctorCommand(const CommandContext& context, const std::string& run_dir);

}  // namespace tramontane
