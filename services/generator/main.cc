// tramontane-generator: the generator service, and the command-line tools that need a model.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "common/log.h"
#include "common/status.h"
#include "generator/bench.h"
#include "generator/tools.h"
#include "model/score_tool.h"
#include "services/generator/data_command.h"
#include "services/generator/eval_command.h"
#include "services/generator/search_hooks.h"
#include "services/generator/serve.h"
#include "services/handshake.h"
#include "services/tool_main.h"
#include "text/tools.h"

namespace tramontane {
namespace {

void AddValueModel(CLI::App* command, std::string& folder) {
  command->add_option("--value-model", folder,
                      "A critic's folder (checkpoints/step_N/critic): the scorer `value` of "
                      "searches");
}

void AddServe(CLI::App& app, ServeOptions& options) {
  CLI::App* serve = app.add_subcommand("serve", "Serve generation over gRPC and HTTP");
  serve->add_option("--config", options.config_path, "Resolved configuration of a run");
  serve->add_option("--run-dir", options.run_dir, "Run directory");
  serve->add_option("--trainer", options.trainer_address, "host:port of the trainer");
  serve->add_option("--index", options.index, "Number of this generator in the run")
      ->check(CLI::NonNegativeNumber);
  serve->add_option("--model", options.model_dir, "Without a run: serve this Hugging Face folder");
  serve->add_option("--model-name", options.model_name, "What HTTP clients call the model");
  serve->add_option("--host", options.http_host, "Host of the HTTP endpoint");
  serve->add_option("--port", options.http_port, "Port of the HTTP endpoint; 0 picks a free one")
      ->check(CLI::Range(0, 65535));
  serve->add_option("--threads", options.threads, "Threads of the engine")
      ->check(CLI::Range(1, 256));
  serve->add_option("--kv-blocks", options.kv_blocks, "Blocks in the KV cache")
      ->check(CLI::PositiveNumber);
  serve->add_option(
      "--verifier", options.verifiers,
      "Without a run: NAME=host:port of a verifier that may score searches; repeatable");
  serve->add_option("--set", options.settings,
                    "Without a run: generator.NAME=VALUE of docs/configuration.md; repeatable");
  AddValueModel(serve, options.value_model);
  serve->add_flag("--vllm-metric-aliases", options.vllm_metric_aliases,
                  "/metrics repeats the main series under vLLM's names");
  serve->add_option("--bind", options.bind, "host:port; port 0 picks a free one");
  serve->add_option("--advertise-host", options.advertise_host,
                    "Host that the trainer should dial");
  serve->add_option("--ready-file", options.ready_file, "The listening line is written here too");
  serve->add_flag("--exit-with-parent", options.exit_with_parent,
                  "Drain when the starting process dies");
}

void AddEngineOptions(CLI::App* tool, EngineOptions& engine) {
  tool->add_option("--threads", engine.threads, "Threads of the engine")->check(CLI::Range(1, 256));
  tool->add_option("--engine", engine.engine, "fused or torch")
      ->check(CLI::IsMember({"fused", "torch"}));
  tool->add_option("--weights-dtype", engine.weights_dtype, "float32, bfloat16 or int8")
      ->check(CLI::IsMember({"float32", "bfloat16", "int8"}));
  tool->add_option("--max-running-sequences", engine.max_running_sequences, "Decode batch")
      ->check(CLI::Range(1, 65536));
}

struct ToolOptions {
  std::string model_dir;
  std::string dtype = "float32";
  int top_k = 0;
  bool json = true;
  std::string value_model;
  EngineOptions engine;
  EvalOptions eval;
  DataCommandOptions data;
  BenchOptions bench;
};

CLI::App* AddTool(CLI::App& app, const std::string& name, const std::string& what,
                  ToolOptions& options) {
  CLI::App* tool = app.add_subcommand(name, what);
  tool->add_option("--model", options.model_dir, "Hugging Face folder")->required();
  tool->add_flag("--json", options.json, "Always so; accepted for uniformity");
  return tool;
}

void AddEval(CLI::App& app, ToolOptions& options) {
  CLI::App* eval = AddTool(app, "eval", "Accuracy on a dataset", options);
  eval->add_option("--data", options.eval.data_path, "JSONL file")->required();
  eval->add_option("--config", options.eval.config_path,
                   "Take reward table and verifiers from here");
  eval->add_option("--samples", options.eval.samples_per_prompt, "Samples of each prompt")
      ->check(CLI::Range(1, 4096));
  eval->add_option("--max-new-tokens", options.eval.max_new_tokens, "Longest completion")
      ->check(CLI::PositiveNumber);
  eval->add_option("--temperature", options.eval.temperature, "0 = greedy")
      ->check(CLI::NonNegativeNumber);
  eval->add_option("--seed", options.eval.seed, "Seed of the samples");
  eval->add_option(
      "--search", options.eval.search,
      "Search instead of sampling: a method's name or a JSON object (docs/thinking.md)");
  AddValueModel(eval, options.value_model);
  AddEngineOptions(eval, options.engine);
}

void AddMakeData(CLI::App& app, ToolOptions& options) {
  CLI::App* make =
      AddTool(app, "make-data", "Training rows out of a model's own responses", options);
  DataCommandOptions& data = options.data;
  make->add_option("--data", data.data_path, "JSONL file of prompts")->required();
  make->add_option("--out", data.out_path, "JSONL file to be written")->required();
  make->add_option(
          "--kind", data.data.kind,
          "sft (shortest correct response), labels (the majority's answer) or values (share "
          "of a step's continuations that are correct)")
      ->required()
      ->check(CLI::IsMember({"sft", "labels", "values"}));
  make->add_option("--config", data.config_path, "Take reward table and verifiers from here");
  make->add_option("--samples", data.data.samples,
                   "Responses of each prompt; continuations of a step")
      ->check(CLI::Range(1, 4096));
  make->add_option("--min-agreement", data.data.min_agreement,
                   "labels: least share of the responses that give the answer")
      ->check(CLI::Range(0.0, 1.0));
  make->add_option("--step-end", data.data.step_end, "values: what ends a step; an empty line");
  make->add_option("--max-steps", data.data.max_steps, "values: the last one runs to the end")
      ->check(CLI::PositiveNumber);
  data.sampling.max_new_tokens = 256;
  make->add_option("--max-new-tokens", data.sampling.max_new_tokens, "Longest response")
      ->check(CLI::PositiveNumber);
  make->add_option("--temperature", data.sampling.temperature, "1 = the model's own distribution")
      ->check(CLI::NonNegativeNumber);
  make->add_option("--seed", data.sampling.seed, "Seed of the samples");
  AddValueModel(make, options.value_model);
  AddEngineOptions(make, options.engine);
}

void AddBench(CLI::App& app, ToolOptions& options) {
  CLI::App* bench = app.add_subcommand("bench", "Measure");
  bench->require_subcommand(1);
  CLI::App* generate =
      AddTool(*bench, "generate", "Speed of decoding, and its share of memory bandwidth", options);
  generate->add_option("--batch", options.bench.batches, "Samples side by side, several: 1,16,64")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  generate->add_option("--prompt-tokens", options.bench.prompt_tokens, "Length of a prompt")
      ->check(CLI::Range(1, 1 << 20));
  generate->add_option("--new-tokens", options.bench.new_tokens, "Tokens sampled after it")
      ->check(CLI::Range(1, 1 << 20));
  generate->add_option("--rounds", options.bench.rounds, "Rounds; the fastest is reported")
      ->check(CLI::Range(1, 1000));
  AddEngineOptions(generate, options.engine);
}

absl::StatusOr<Json> RunGenerate(const ToolOptions& options, const Json& in) {
  SearchHooks hooks;
  ASSIGN_OR_RETURN(hooks, MakeSearchHooks(RewardSection()));
  RETURN_IF_ERROR(
      AddValueHook(options.value_model, options.model_dir, options.engine.threads, hooks));
  return GenerateTool(options.model_dir, in, options.engine, hooks);
}

int RunTool(const std::string& name, ToolOptions& options) {
  if (name == "eval") {
    options.eval.model_dir = options.model_dir;
    options.eval.engine = options.engine;
    options.eval.value_model = options.value_model;
    return PrintJsonResult(name, std::cout, RunEval(options.eval));
  }
  if (name == "make-data") {
    options.data.model_dir = options.model_dir;
    options.data.engine = options.engine;
    options.data.value_model = options.value_model;
    return PrintJsonResult(name, std::cout, RunMakeData(options.data));
  }
  if (name == "bench") {
    options.bench.engine = options.engine;
    return PrintJsonResult(name, std::cout, BenchGenerate(options.model_dir, options.bench));
  }
  return RunJsonTool(name, std::cin, std::cout,
                     [&](const nlohmann::ordered_json& in) -> absl::StatusOr<Json> {
                       const std::string& dir = options.model_dir;
                       if (name == "score") return ScoreTool(dir, in, options.top_k, options.dtype);
                       if (name == "generate") return RunGenerate(options, in);
                       if (name == "tokenize") return TokenizeTool(dir, in);
                       return TemplateTool(dir, in);
                     });
}

int Main(int argc, char** argv) {
  CLI::App app("Tramontane generator");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionLine("tramontane-generator"));
  ServeOptions serve;
  ToolOptions tool;
  AddServe(app, serve);
  CLI::App* score = AddTool(app, "score", "Log-probabilities of given tokens", tool);
  score->add_option("--top", tool.top_k, "Also the K most likely next tokens at each position")
      ->check(CLI::NonNegativeNumber);
  score->add_option("--dtype", tool.dtype, "float32 or float64");
  CLI::App* generate = AddTool(app, "generate", "Sample completions", tool);
  AddValueModel(generate, tool.value_model);
  AddEngineOptions(generate, tool.engine);
  AddTool(app, "tokenize", "Text to ids and back", tool);
  AddTool(app, "template", "Render a chat template", tool);
  AddEval(app, tool);
  AddMakeData(app, tool);
  AddBench(app, tool);
  if (const auto exit = ParseArguments(app, argc, argv, std::cout, std::cerr)) return *exit;
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "serve") return ServeGenerator(serve);
  InitLogging("tramontane-generator");  // standard output is the document's
  return RunTool(name, tool);
}

}  // namespace
}  // namespace tramontane

int main(int argc, char** argv) { return tramontane::Main(argc, argv); }
