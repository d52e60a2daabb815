// `tramontane-trainer run`: a whole training process of any run.kind, from its configuration to its
// exit code.
#pragma once

#include <string>

namespace tramontane {

struct TrainingOptions {
  std::string config_path;
  std::string run_dir;
  bool resume = false;
  std::string bind;            // empty: trainer.bind
  std::string advertise_host;  // empty: the host bound
  std::string ready_file;
  bool exit_with_parent = false;
};

int RunTraining(const TrainingOptions& options);  // exit code

}  // namespace tramontane
