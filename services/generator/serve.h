// `tramontane-generator serve`: builds engine, service, queue worker and announcer, and runs them
// until it is told to stop.
#pragma once

#include <string>

namespace tramontane {

struct ServeOptions {
  // A member of a run: `config_path`, `run_dir`, and `trainer_address` from which the weights come.
  std::string config_path;
  std::string run_dir;
  std::string trainer_address;
  int index = 0;
  // On its own: serves the weights of this folder, version 0, without queue and trainer.
  std::string model_dir;
  std::string bind;            // empty: generator.bind
  std::string advertise_host;  // empty: the host bound
  std::string ready_file;
  bool exit_with_parent = false;
};

int ServeGenerator(const ServeOptions& options);  // exit code

}  // namespace tramontane
