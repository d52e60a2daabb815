// A grader judges one completion. Pure and thread-safe; slow or dangerous work belongs in a
// separate verifier process. Torch-free.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/rollout.h"

namespace tramontane {

struct GradeRequest {
  std::string prompt;
  std::string completion;  // decoded, special tokens kept
  int32_t completion_tokens = 0;
  FinishReason finish_reason = FinishReason::kStop;
  std::string answer;      // gold
  Json params = Json::object();
};

class Grader {
 public:
  virtual ~Grader() = default;
  virtual Verdict Grade(const GradeRequest& request) const = 0;
  // A bare answer, without thoughts, box or format: score 1 or 0.
  virtual Verdict GradeAnswer(const std::string& answer, const std::string& gold) const = 0;
  // InvalidArgument when the gold answer of a row cannot be understood (checked at load).
  virtual absl::Status CheckAnswer(const std::string& answer) const = 0;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
  virtual std::string digest() const = 0;  // SHA-256 of name, version and configuration
  virtual std::vector<std::string> components() const = 0;  // names a verdict may carry
  virtual double min_score() const = 0;
  virtual double max_score() const = 0;
};

// "math": Magistral's table over a numeric grader; "exact": the same over equal text.
// NotFound lists the known names; InvalidArgument names a `reward` field that cannot work.
absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward);
std::vector<std::string> BuiltinGraderNames();

}  // namespace tramontane
