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
  // InvalidArgument when the gold answer of a row cannot be understood (checked at load).
  virtual absl::Status CheckAnswer(const std::string& answer) const = 0;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
};

// "math": Magistral's table over a numeric grader. NotFound lists the known names.
absl::StatusOr<std::unique_ptr<Grader>> MakeBuiltinGrader(const std::string& name,
                                                          const RewardSection& reward);
std::vector<std::string> BuiltinGraderNames();

}  // namespace tramontane
