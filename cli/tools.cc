#include "cli/tools.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "common/files.h"

namespace tramontane {
namespace {

// Returns only when it fails, with errno. A name without a slash is looked for on PATH.
void ExecProgram(std::vector<std::string>& argv) {
  std::vector<char*> raw;
  for (std::string& argument : argv) raw.push_back(argument.data());
  raw.push_back(nullptr);
  ::execvp(raw.front(), raw.data());
}

}  // namespace

const std::vector<ToolRoute>& ToolRoutes() {
  static const std::vector<ToolRoute> routes = {
      {"score", "tramontane-generator", "score", "Log-probabilities of given tokens under a model"},
      {"generate", "tramontane-generator", "generate", "Sample completions from a model"},
      {"eval", "tramontane-generator", "eval", "Accuracy of a model on a dataset"},
      {"make-data", "tramontane-generator", "make-data",
       "Training rows out of a model's own responses"},
      {"serve", "tramontane-generator", "serve",
       "Serve a model over HTTP, as OpenAI's API, and gRPC"},
      {"bench", "tramontane-generator", "bench", "Measure: bench generate|train --model DIR",
       "train", "tramontane-trainer"},
      {"loss", "tramontane-trainer", "loss",
       "Loss and gradient of a batch under an algorithm block"},
      {"init-model", "tramontane-trainer", "init", "Write a randomly initialised checkpoint"},
      {"grade", "tramontane-verifier", "grade", "Verdicts of a built-in grader"},
  };
  return routes;
}

int ExecTool(const CommandContext& context, const ToolRoute& route,
             const std::vector<std::string>& arguments) {
  const bool other =
      route.first_argument != nullptr && !arguments.empty() && arguments[0] == route.first_argument;
  const std::string program =
      context.binary_dir + "/" + (other ? route.other_binary : route.binary);
  std::vector<std::string> argv = {program, route.tool};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  ExecProgram(argv);
  CommandContext said = context;
  said.json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  return Fail(said, route.command, ErrnoStatus(errno, "cannot start " + program));
}

std::string VerifierPackagePython() {
  const char* environment = std::getenv("TRAMONTANE_PYTHON_VERIFIER");
  if (environment != nullptr && *environment != '\0')
    return std::string(environment) + "/bin/python";
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string made =
      (cache != nullptr && *cache != '\0' ? std::string(cache)
                                          : std::string(home ? home : "") + "/.cache") +
      "/tramontane/python-verifier/bin/python";
  return ::access(made.c_str(), X_OK) == 0 ? made : "python3";
}

int ExecVerifierPackage(const CommandContext& context, const std::vector<std::string>& arguments) {
  const std::string python = VerifierPackagePython();
  std::vector<std::string> argv = {python, "-m", "tramontane_verifier"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  ExecProgram(argv);
  return Fail(
      context, "verifier",
      ErrnoStatus(errno, "cannot start " + python +
                             ", a Python with the verifier package (deps/make-python-verifier.sh "
                             "makes one)"));
}

}  // namespace tramontane
