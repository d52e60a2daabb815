// A grader judges one completion, or all completions of a group. Pure and thread-safe; slow or
// dangerous work belongs in a separate verifier process. Torch-free.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"
#include "verifier/sandbox/program.h"

namespace tramontane {

struct GradeRequest {
  std::string prompt;
  std::string completion;  // decoded, special tokens kept
  int32_t completion_tokens = 0;
  FinishReason finish_reason = FinishReason::kStop;
  std::string answer;  // gold
  Json params = Json::object();
  // Of the reward's parts, in place of the configured ones; the same for all samples of a group.
  std::map<std::string, double> reward_weights = {};
  // Whether nobody waits for the verdict any more. Graders whose work takes long ask now and then,
  // and give up; whatever they return then is not used.
  std::function<bool()> stop = nullptr;
};

class Algebra;

class Grader {
 public:
  virtual ~Grader() = default;
  virtual Verdict Grade(const GradeRequest& request) const = 0;
  // The bare answer in the completion's place, without thoughts, box or format: score 1 or 0, or a
  // share of 1.
  virtual Verdict GradeBare(const GradeRequest& request) const = 0;
  // InvalidArgument when a row's gold answer or params cannot be understood (checked at load).
  virtual absl::Status CheckRow(const std::string& answer, const Json& params) const = 0;
  // Whether the score of a completion depends on the others of its group.
  virtual bool group_aware() const { return false; }
  // One verdict a request, in order.
  virtual std::vector<Verdict> GradeGroup(const std::vector<GradeRequest>& requests) const;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
  // SHA-256 of name, version, configuration and whatever else its verdicts depend on.
  virtual std::string digest() const = 0;
  virtual std::vector<std::string> components() const = 0;  // names a verdict may carry
  virtual double min_score() const = 0;
  virtual double max_score() const = 0;
  // Whether the same request always gets the same verdict.
  virtual bool pure() const { return true; }
  virtual Json params_schema() const { return Json::object(); }  // JSON Schema; {}: anything
  virtual std::vector<std::string> notes() const { return {}; }  // what it works with, for people
};

// What graders use that is not their own.
struct GraderTools {
  // Runs the programs of `code` and `patch`; without one rows can be checked, against `most` if that
  // is given, and nothing can be graded.
  std::shared_ptr<ProgramRunner> sandbox = nullptr;
  std::optional<RunLimits> most = std::nullopt;
  std::shared_ptr<Algebra> algebra = nullptr;  // `math` asks it; may be absent
};

// The graders of docs/graders.md: rules (math, exact, choice, regex, ifeval, json_schema, code,
// patch), and each term of a reward alone (format, language, …). NotFound lists the known names;
// InvalidArgument names a `reward` field that cannot work; FailedPrecondition: a sandbox of an older
// build, which takes no files.
absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward,
                                                          const GraderTools& tools = {});
std::vector<std::string> BuiltinGraderNames();
bool NeedsSandbox(const std::string& builtin);

}  // namespace tramontane
