// A grader made of the format gate, a rule for equal answers and the reward table. The rule is all
// that tells one built-in grader from another.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "verifier/grader.h"

namespace tramontane {

// Pure and thread-safe functions.
struct AnswerRule {
  std::string name;
  std::string version;  // raised when the rule judges any pair differently than before
  std::function<bool(const std::string& gold, const std::string& answer)> same;
  std::function<absl::Status(const std::string& gold)> check_gold;
};

class TableGrader final : public Grader {
 public:
  // `reward` has been through ValidateReward().
  TableGrader(AnswerRule rule, RewardSection reward);

  Verdict Grade(const GradeRequest& request) const override;
  Verdict GradeAnswer(const std::string& answer, const std::string& gold) const override;
  absl::Status CheckAnswer(const std::string& answer) const override;
  std::string name() const override { return rule_.name; }
  std::string version() const override { return rule_.version; }
  std::string digest() const override { return digest_; }
  std::vector<std::string> components() const override;
  double min_score() const override;
  double max_score() const override;

 private:
  Verdict Stamped() const;

  const AnswerRule rule_;
  const RewardSection reward_;
  const std::string digest_;
};

}  // namespace tramontane
