// tramontane-generator: the generator service, and the command-line tools that need a model.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "common/log.h"
#include "common/status.h"
#include "generator/bench.h"
#include "generator/tools.h"
#include "model/score_tool.h"
#include "services/generator/row_tools.h"
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
  std::string dtype = "float32";
  int top_k = 0;
  bool json = true;
  RowToolOptions rows;  // model, critic and engine of the other tools as well
  int32_t eval_samples = 1;
  std::string eval_search;
  DataOptions data;
  std::string data_out;
  BenchOptions bench;
};

CLI::App* AddTool(CLI::App& app, const std::string& name, const std::string& what,
                  ToolOptions& options) {
  CLI::App* tool = app.add_subcommand(name, what);
  tool->add_option("--model", options.rows.model_dir, "Hugging Face folder")->required();
  tool->add_flag("--json", options.json, "Always so; accepted for uniformity");
  return tool;
}

// What the tools that sample a dataset have in common. `temperature`: where none is given.
void AddRowOptions(CLI::App* tool, double temperature, RowToolOptions& rows) {
  rows.sampling.max_new_tokens = 256;
  tool->preparse_callback(
      [&rows, temperature](size_t) { rows.sampling.temperature = temperature; });
  tool->add_option("--data", rows.data_path, "JSONL file of prompts")->required();
  tool->add_option("--config", rows.config_path, "Take reward table and verifiers from here");
  tool->add_option("--max-new-tokens", rows.sampling.max_new_tokens, "Longest response")
      ->check(CLI::PositiveNumber);
  tool->add_option("--temperature", rows.sampling.temperature,
                   "0 = greedy, 1 = the model's own distribution")
      ->check(CLI::NonNegativeNumber)
      ->default_str(temperature == 0 ? "0" : "1");
  tool->add_option("--seed", rows.sampling.seed, "Seed of the samples");
  tool->add_option("--thinking", rows.thinking,
                   "How long to think: a JSON object, {\"budget\": 512} (docs/thinking.md)");
  AddValueModel(tool, rows.value_model);
  AddEngineOptions(tool, rows.engine);
}

void AddEval(CLI::App& app, ToolOptions& options) {
  CLI::App* eval = AddTool(app, "eval", "Accuracy on a dataset", options);
  eval->add_option("--samples", options.eval_samples, "Samples of each prompt")
      ->check(CLI::Range(1, 4096));
  eval->add_option(
      "--search", options.eval_search,
      "Search instead of sampling: a method's name or a JSON object (docs/thinking.md)");
  AddRowOptions(eval, /*temperature=*/0, options.rows);
}

void AddMakeData(CLI::App& app, ToolOptions& options) {
  CLI::App* make =
      AddTool(app, "make-data", "Training rows out of a model's own responses", options);
  DataOptions& data = options.data;
  make->add_option("--out", options.data_out, "JSONL file to be written")->required();
  make->add_option(
          "--kind", data.kind,
          "sft (shortest correct response), labels (the majority's answer) or values (share "
          "of a step's continuations that are correct)")
      ->required()
      ->check(CLI::IsMember({"sft", "labels", "values"}));
  make->add_option("--samples", data.samples, "Responses of each prompt; continuations of a step")
      ->check(CLI::Range(1, 4096));
  make->add_option("--min-agreement", data.min_agreement,
                   "labels: least share of the responses that give the answer")
      ->check(CLI::Range(0.0, 1.0));
  make->add_option("--step-end", data.step_end, "values: what ends a step; an empty line");
  make->add_option("--max-steps", data.max_steps, "values: the last one runs to the end")
      ->check(CLI::PositiveNumber);
  AddRowOptions(make, /*temperature=*/1, options.rows);
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
  AddEngineOptions(generate, options.rows.engine);
}

absl::StatusOr<Json> RunGenerate(const RowToolOptions& options, const Json& in) {
  SearchHooks hooks;
  ASSIGN_OR_RETURN(hooks, MakeSearchHooks(RewardSection()));
  RETURN_IF_ERROR(
      AddValueHook(options.value_model, options.model_dir, options.engine.threads, hooks));
  return GenerateTool(options.model_dir, in, options.engine, hooks);
}

int RunTool(const std::string& name, ToolOptions& options) {
  RowToolOptions& rows = options.rows;
  if (name == "eval")
    return PrintJsonResult(name, std::cout,
                           RunEval(rows, options.eval_samples, options.eval_search));
  if (name == "make-data")
    return PrintJsonResult(name, std::cout, RunMakeData(rows, options.data, options.data_out));
  if (name == "bench") {
    options.bench.engine = rows.engine;
    return PrintJsonResult(name, std::cout, BenchGenerate(rows.model_dir, options.bench));
  }
  return RunJsonTool(name, std::cin, std::cout,
                     [&](const nlohmann::ordered_json& in) -> absl::StatusOr<Json> {
                       const std::string& dir = rows.model_dir;
                       if (name == "score") return ScoreTool(dir, in, options.top_k, options.dtype);
                       if (name == "generate") return RunGenerate(rows, in);
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
  AddValueModel(generate, tool.rows.value_model);
  AddEngineOptions(generate, tool.rows.engine);
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
