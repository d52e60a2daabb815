// `tramontane verifiers …` and `tramontane reverify`: the registry's verbs on the command line.
#pragma once

#include "cli/command.h"

namespace CLI {
class App;
}

namespace tramontane {

// Adds both commands; they put their exit status into `status`. All three outlive the parsing.
void AddVerifierCommands(CLI::App& app, CommandContext& context, int& status);

}  // namespace tramontane
