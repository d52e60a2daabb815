// `tramontane pause RUN` and `unpause RUN`: no further step is taken, until one is again. Of a chain:
// in the stage that is at work.
#pragma once

#include <string>

#include "cli/command.h"

namespace tramontane {

int PauseCommand(const CommandContext& context, const std::string& run_dir,
                 const std::string& reason);
int UnpauseCommand(const CommandContext& context, const std::string& run_dir);

}  // namespace tramontane
