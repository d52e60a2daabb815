// `tramontane-generator serve`: builds engine, service, queue worker and announcer, and runs them
// until it is told to stop.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tramontane {

struct ServeOptions {
  // A member of a run: `config_path`, `run_dir`, and `trainer_address` from which the weights come.
  std::string config_path;
  std::string run_dir;
  std::string trainer_address;
  int index = 0;
  // On its own: serves the weights of this folder, version 0, without queue and trainer.
  std::string model_dir;
  std::string model_name;         // as HTTP clients call it; empty: the folder's or the run's
  std::string http_host;          // empty: the host of `bind`
  std::optional<int> http_port;   // 0 picks a free one; absent: generator.http_port, or 8000 alone
  std::optional<int> threads;     // absent: generator.threads, or one per core alone
  std::optional<int> kv_blocks;
  bool vllm_metric_aliases = false;
  std::vector<std::string> verifiers;  // "NAME=host:port": scorers of searches, alone
  std::vector<std::string> settings;   // "generator.max_sessions=32", alone
  std::string value_model;             // empty: generator.value_model
  std::string bind;            // empty: generator.bind
  std::string advertise_host;  // empty: the host bound
  std::string ready_file;
  bool exit_with_parent = false;
};

int ServeGenerator(const ServeOptions& options);  // exit code

}  // namespace tramontane
