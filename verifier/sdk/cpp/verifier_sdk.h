// A verifier in C++: one function, and the verbs of the Python package around it.
//
//   absl::StatusOr<tramontane::Score> Digits(const tramontane::GradeRequest& request);
//
//   int main(int argc, char** argv) {
//     return tramontane::VerifierMain(
//         argc, argv, {.name = "digits", .version = "1.0.0", .score = Digits});
//   }
//
// The function is called from several threads at once, within the service's process: it bounds its
// own work (GradeRequest::stop tells when nobody waits any more) and must not crash. What may do
// either belongs into a process of its own, as the Python package has it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "verifier/grader.h"

namespace tramontane {

struct Score {
  std::optional<double> reward;              // absent: nothing can be said; the sample is skipped
  std::map<std::string, double> components;  // sum to the reward; may be left out
  std::map<std::string, double> metrics;     // free numbers for the researcher
  std::optional<bool> correct;               // absent: when the reward is VerifierSpec::perfect
  std::string extracted, feedback;
};

// Errors of the functions: InvalidArgument, the row is at fault and no try can help; any other,
// this attempt failed and is repeated. Exceptions count as the latter.
struct VerifierSpec {
  std::string name, version;
  // Exactly one: of a completion, or of all completions of a group, a score each.
  std::function<absl::StatusOr<Score>(const GradeRequest&)> score = nullptr;
  std::function<absl::StatusOr<std::vector<Score>>(const std::vector<GradeRequest>&)> score_group =
      nullptr;
  // InvalidArgument when a row's gold answer or params cannot work; may be left out.
  std::function<absl::Status(const std::string& answer, const Json& params)> check_row = nullptr;
  double min_reward = 0, max_reward = 1;  // a reward outside is the verifier's fault, never used
  double perfect = 1;                     // from here on an answer is correct
  std::vector<std::string> components = {};
  Json params_schema = Json::object();  // JSON Schema of params
  bool pure = true;                     // the same request always gets the same score
  // Whatever its scores depend on besides this program's own file: for the digest.
  std::string depends_on = "";
};

// `spec` as a Grader. InvalidArgument says what of it is missing.
absl::StatusOr<std::shared_ptr<const Grader>> MakeFunctionGrader(const VerifierSpec& spec);

// serve | test CASES | validate [CASES] | replay RUN | init NAME. The process's exit status.
int VerifierMain(int argc, char** argv, const VerifierSpec& spec);

}  // namespace tramontane
