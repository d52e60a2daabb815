#include "verifier/sdk/cpp/scaffold.h"

#include <filesystem>
#include <regex>
#include <utility>

#include "common/files.h"
#include "common/status.h"

namespace tramontane {
namespace {

const char kSource[] =
    R"cpp(// What is behind the thoughts must be the gold answer.
#include "verifier/sdk/cpp/verifier_sdk.h"

          namespace {

          absl::StatusOr<tramontane::Score> Judge(const tramontane::GradeRequest& request) {
            const std::string tag = "</think>";
            const size_t thoughts = request.completion.rfind(tag);
            const std::string said = thoughts == std::string::npos
                                         ? request.completion
                                         : request.completion.substr(thoughts + tag.size());
            tramontane::Score score;
            score.reward = said == request.answer ? 1 : 0;
            score.extracted = said;
            return score;
          }

          absl::Status CheckRow(const std::string& answer, const tramontane::Json&) {
            return answer.empty() ? absl::InvalidArgumentError("the gold answer is empty") : absl::OkStatus();
          }

          }  // namespace

          int main(int argc, char** argv) {
            return tramontane::VerifierMain(
                argc, argv,
                {.name = "@NAME@", .version = "0.1.0", .score = Judge, .check_row = CheckRow});
          }
)cpp";

const char kBuild[] =
    R"cmake(# Part of Tramontane's build: cmake --preset release -DTRAMONTANE_VERIFIERS=<this folder>
tramontane_program(@NAME@ SRCS @NAME@.cc DEPS tramontane::verifier_sdk)
)cmake";

const char kCases[] =
    R"({"completion": "<think>2+3</think>5", "answer": "5", "expect": {"reward": 1.0, "correct": true}}
{"completion": "<think>2+3</think>6", "answer": "5", "expect": {"reward": 0.0}}
{"completion": "", "answer": "5", "expect": {"reward": 0.0}}
{"completion": "5", "answer": "", "expect": {"status": "bad_input"}}
)";

std::string Named(const char* text, const std::string& name) {
  return std::regex_replace(text, std::regex("@NAME@"), name);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> WriteScaffold(const std::string& name,
                                                       const std::string& folder) {
  if (!std::regex_match(name, std::regex("[a-z][a-z0-9_-]{0,63}"))) {
    return absl::InvalidArgumentError("'" + name +
                                      "': a name has small letters, digits, - and _, and begins "
                                      "with a letter");
  }
  const std::string home = folder + "/" + name;
  const std::vector<std::pair<std::string, std::string>> files = {
      {home + "/" + name + ".cc", Named(kSource, name)},
      {home + "/CMakeLists.txt", Named(kBuild, name)},
      {home + "/" + name + "_cases.jsonl", kCases}};
  std::vector<std::string> written;
  for (const auto& [path, text] : files) {
    if (std::filesystem::exists(path)) return absl::AlreadyExistsError(path + " is there already");
    written.push_back(path);
  }
  RETURN_IF_ERROR(MakeDirs(home));
  for (const auto& [path, text] : files) RETURN_IF_ERROR(WriteFileAtomic(path, text));
  return written;
}

}  // namespace tramontane
