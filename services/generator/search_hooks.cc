#include "services/generator/search_hooks.h"

#include <map>
#include <memory>
#include <mutex>

#include "common/status.h"
#include "verifier/answer_text.h"
#include "verifier/grader.h"

namespace tramontane {
namespace {

// Built-in graders by name, each made when it is first asked for. Thread-safe.
class SearchGraders {
 public:
  explicit SearchGraders(RewardSection reward) : reward_(std::move(reward)) {}

  absl::StatusOr<const Grader*> Get(const std::string& name) {
    std::lock_guard lock(mutex_);
    std::unique_ptr<Grader>& grader = graders_[name];
    if (grader == nullptr) {
      absl::StatusOr<std::unique_ptr<Grader>> made = MakeBuiltinGrader(name, reward_);
      if (!made.ok()) return Annotate(made.status(), "search.scorer");
      grader = *std::move(made);
    }
    return grader.get();
  }

 private:
  const RewardSection reward_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Grader>> graders_;  // guarded by mutex_
};

}  // namespace

absl::StatusOr<SearchHooks> MakeSearchHooks(const RewardSection& reward) {
  auto graders = std::make_shared<SearchGraders>(reward);
  ASSIGN_OR_RETURN(const Grader* const math, graders->Get("math"));
  SearchHooks hooks;
  hooks.grade = [graders](const std::string& name, const std::string& prompt,
                          const Rollout& rollout,
                          const std::string& gold) -> absl::StatusOr<double> {
    ASSIGN_OR_RETURN(const Grader* const grader, graders->Get(name));
    const Verdict verdict =
        grader->Grade({.prompt = prompt,
                       .completion = rollout.text,
                       .completion_tokens = static_cast<int32_t>(rollout.tokens.size()),
                       .finish_reason = rollout.finish_reason,
                       .answer = gold});
    if (!verdict.score) return absl::UnavailableError(name + " gave no score: " + verdict.feedback);
    return *verdict.score;
  };
  hooks.check = [graders](const std::string& name, const std::string& gold) -> absl::Status {
    ASSIGN_OR_RETURN(const Grader* const grader, graders->Get(name));
    return Annotate(grader->CheckRow(gold, Json::object()), "search.answers");
  };
  hooks.answer = [close = reward.think_close](const std::string& text) {
    return ExtractAnswer(text, close);
  };
  hooks.same = [graders, math](const std::string& a, const std::string& b) {
    if (a == b) return true;
    GradeRequest request;
    request.completion = a;
    request.answer = b;
    return math->GradeBare(request).score == 1.0;
  };
  return hooks;
}

}  // namespace tramontane
