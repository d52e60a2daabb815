// tramontane-trainer: the training process, and the command-line tools of the learner.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "model/init.h"
#include "services/handshake.h"
#include "services/tool_main.h"
#include "services/trainer/rank.h"
#include "services/trainer/training.h"
#include "trainer/learner/bench.h"
#include "trainer/learner/loss_tool.h"

namespace tramontane {
namespace {

void AddTraining(CLI::App& app, TrainingOptions& options) {
  CLI::App* run = app.add_subcommand("run", "Do what run.kind says");
  run->add_option("--config", options.config_path, "Resolved configuration")->required();
  run->add_option("--run-dir", options.run_dir, "Run directory")->required();
  run->add_flag("--resume", options.resume, "Go on from the newest checkpoint and the journal");
  run->add_option("--bind", options.bind, "host:port; port 0 picks a free one");
  run->add_option("--advertise-host", options.advertise_host, "Host that generators should dial");
  run->add_option("--ready-file", options.ready_file, "The listening line is written here too");
  run->add_flag("--exit-with-parent", options.exit_with_parent,
                "Drain when the starting process dies");
}

struct InitOptions {
  std::string out_dir, tokenizer_dir;
  uint64_t seed = 0;
};

int RunInit(const InitOptions& options) {
  return RunJsonTool("init", std::cin, std::cout,
                     [&](const nlohmann::ordered_json& fields) -> absl::StatusOr<Json> {
                       RETURN_IF_ERROR(MakeDirs(options.out_dir));
                       int64_t parameters = 0;
                       ASSIGN_OR_RETURN(parameters, InitModel(Json(fields), options.tokenizer_dir,
                                                              options.out_dir, options.seed));
                       return Json{{"model", options.out_dir}, {"parameters", parameters}};
                     });
}

int RunLoss(const std::string& dtype) {
  return RunJsonTool("loss", std::cin, std::cout,
                     [&](const nlohmann::ordered_json& in) -> absl::StatusOr<Json> {
                       Json request(in);
                       if (!dtype.empty() && request.is_object()) request["dtype"] = dtype;
                       return LossTool(request);
                     });
}

void AddBench(CLI::App& app, std::string& model_dir, TrainBenchOptions& options, bool& json) {
  CLI::App* bench = app.add_subcommand("bench", "Measure");
  bench->require_subcommand(1);
  CLI::App* train =
      bench->add_subcommand("train", "Speed of training steps, and their share of the machine");
  train->add_option("--model", model_dir, "Hugging Face folder")->required();
  train->add_flag("--json", json, "Always so; accepted for uniformity");
  train->add_option("--groups", options.groups, "Groups of a step")->check(CLI::Range(1, 65536));
  train->add_option("--samples", options.samples, "Samples of a group")->check(CLI::Range(2, 4096));
  train->add_option("--prompt-tokens", options.prompt_tokens, "Length of a prompt")
      ->check(CLI::Range(1, 1 << 20));
  train->add_option("--response-tokens", options.response_tokens, "Length of a sample")
      ->check(CLI::Range(1, 1 << 20));
  train->add_option("--lengths", options.lengths, "equal, or ragged: log-normal up to that length")
      ->check(CLI::IsMember({"equal", "ragged"}));
  train->add_option("--steps", options.steps, "Steps measured, after one that is not")
      ->check(CLI::Range(1, 10000));
  train->add_option("--threads", options.threads, "trainer.threads")->check(CLI::Range(1, 1024));
  train->add_option("--microbatch-tokens", options.microbatch_tokens, "trainer.microbatch_tokens")
      ->check(CLI::PositiveNumber);
  train->add_option("--ranks", options.ranks, "trainer.ranks")->check(CLI::Range(1, 64));
  train->add_option("--zero", options.zero, "trainer.zero")->check(CLI::Range(0, 2));
  train->add_option("--share-prompts", options.share_prompts,
                    "trainer.share_prompts: true or false");
  train->add_flag("--activation-checkpointing", options.activation_checkpointing,
                  "trainer.activation_checkpointing");
  train->add_option("--dtype", options.dtype, "trainer.dtype");
  train->add_option("--lora-rank", options.lora_rank, "lora.rank")->check(CLI::Range(0, 1 << 16));
  train->add_option("--algorithm", options.algorithm, "The algorithm block, as JSON");
}

void AddRank(CLI::App& app, RankArguments& options) {
  CLI::App* rank = app.add_subcommand("rank", "A further process of a trainer with trainer.ranks");
  rank->add_option("--join", options.address, "host:port where rank 0 listens (trainer.rank_bind)")
      ->required();
  rank->add_option("--rank", options.rank, "Its number, from 1")
      ->required()
      ->check(CLI::Range(1, 63));
  rank->add_option("--join-timeout-s", options.join_timeout_s, "How long to wait for rank 0")
      ->check(CLI::PositiveNumber);
  rank->add_option("--parent", options.parent, "End when this process, which started it, ends");
}

int Main(int argc, char** argv) {
  CLI::App app("Tramontane trainer");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionLine("tramontane-trainer"));
  TrainingOptions training;
  AddTraining(app, training);
  std::string dtype;
  bool json = true;
  CLI::App* loss = app.add_subcommand("loss", "Loss and gradient of a batch of numbers");
  loss->add_option("--dtype", dtype, "float32 or float64");
  loss->add_flag("--json", json, "Always so; accepted for uniformity");
  InitOptions init;
  CLI::App* init_command =
      app.add_subcommand("init", "Random weights for the config.json on standard input");
  init_command->add_option("--out", init.out_dir, "Folder to write")->required();
  init_command->add_option("--tokenizer", init.tokenizer_dir, "Folder with the tokenizer's files")
      ->required();
  init_command->add_option("--seed", init.seed, "Seed of the weights");
  init_command->add_flag("--json", json, "Always so; accepted for uniformity");
  std::string bench_model;
  TrainBenchOptions bench;
  AddBench(app, bench_model, bench, json);
  RankArguments rank;
  AddRank(app, rank);
  if (const auto exit = ParseArguments(app, argc, argv, std::cout, std::cerr)) return *exit;
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "loss") return RunLoss(dtype);
  if (name == "bench") {
    InitLogging("trainer");  // to standard error: ranks are announced there
    return PrintJsonResult("bench train", std::cout, BenchTrain(bench_model, bench));
  }
  if (name == "init") return RunInit(init);
  if (name == "rank") return RunRank(rank);
  return RunTraining(training);
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
