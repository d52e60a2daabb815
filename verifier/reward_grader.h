// A grader made of the format gate, a rule that judges the answer, and a reward: Magistral's table,
// or the terms of `reward.terms`. And one that is a single term of terms.h, set up by the row.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "verifier/grader.h"
#include "verifier/terms.h"

namespace tramontane {

class RewardGrader final : public Grader {
 public:
  // `reward` has been through ValidateReward(); `terms` are those of reward.terms. `surroundings`:
  // what verdicts depend on besides, for the digest.
  RewardGrader(AnswerRule rule, RewardSection reward, std::vector<RewardTerm> terms,
               const Json& surroundings);

  Verdict Grade(const GradeRequest& request) const override;
  Verdict GradeBare(const GradeRequest& request) const override;
  absl::Status CheckRow(const std::string& answer, const Json& params) const override;
  bool group_aware() const override;
  std::vector<Verdict> GradeGroup(const std::vector<GradeRequest>& requests) const override;
  std::string name() const override { return rule_.name; }
  std::string version() const override { return rule_.version; }
  std::string digest() const override { return digest_; }
  std::vector<std::string> components() const override;
  double min_score() const override;
  double max_score() const override;
  bool pure() const override { return rule_.pure; }
  Json params_schema() const override { return rule_.params_schema; }
  std::vector<std::string> notes() const override { return rule_.notes; }

 private:
  // By this reward in place of the configured one.
  std::vector<Verdict> GradeGroup(const std::vector<GradeRequest>& requests,
                                  const RewardSection& reward,
                                  const std::vector<RewardTerm>& terms) const;

  const AnswerRule rule_;
  const RewardSection reward_;
  const std::vector<RewardTerm> terms_;  // one more than reward.terms for the table's language
  const std::string digest_;
};

// The settings of the term are the request's params; of a group those of its first request.
class TermGrader final : public Grader {
 public:
  // `name` is one of TermNames(). Right and wrong are told by `rule` where the term asks for it.
  TermGrader(std::string name, AnswerRule rule, RewardSection reward,
             std::shared_ptr<const LanguageDetector> detector);

  Verdict Grade(const GradeRequest& request) const override;
  Verdict GradeBare(const GradeRequest& request) const override { return Grade(request); }
  absl::Status CheckRow(const std::string& answer, const Json& params) const override;
  bool group_aware() const override { return example_.group; }
  std::vector<Verdict> GradeGroup(const std::vector<GradeRequest>& requests) const override;
  std::string name() const override { return name_; }
  std::string version() const override { return "1.0.0"; }
  std::string digest() const override { return digest_; }
  std::vector<std::string> components() const override { return {name_}; }
  double min_score() const override { return example_.low; }
  double max_score() const override { return example_.high; }
  Json params_schema() const override { return TermSchema(name_); }

 private:
  const std::string name_;
  const AnswerRule rule_;
  const RewardSection reward_;
  const std::shared_ptr<const LanguageDetector> detector_;
  const RewardTerm example_;  // for what no setting changes
  const std::string digest_;
};

}  // namespace tramontane
