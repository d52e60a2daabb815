// `tramontane presets`: the published recipes this program knows.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace tramontane {

struct PresetsArguments {
  std::string name;               // show this one; empty: list all
  std::vector<std::string> diff;  // compare these two; empty: do not
};

int PresetsCommand(const CommandContext& context, const PresetsArguments& arguments);

}  // namespace tramontane
