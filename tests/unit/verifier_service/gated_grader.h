// A grader whose calls wait until the test lets them go on: time without sleeping.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "verifier/grader.h"

namespace tramontane {

// Completions that start with "wait:" wait for Release(); the score is 1 for all.
class GatedGrader final : public Grader {
 public:
  Verdict Grade(const GradeRequest& request) const override {
    {
      std::unique_lock lock(mutex_);
      ++calls_;
      changed_.notify_all();
      if (request.completion.starts_with("wait:")) changed_.wait(lock, [this] { return open_; });
    }
    Verdict verdict;
    verdict.status = VerdictStatus::kScored;
    verdict.score = 1.0;
    verdict.correct = true;
    verdict.extracted = request.completion;
    verdict.verifier = name();
    verdict.verifier_version = version();
    verdict.verifier_digest = digest();
    return verdict;
  }
  Verdict GradeBare(const GradeRequest&) const override { return {}; }
  absl::Status CheckRow(const std::string& answer, const Json&) const override {
    return answer.empty() ? absl::InvalidArgumentError("the gold answer is empty")
                          : absl::OkStatus();
  }
  std::string name() const override { return "gated"; }
  std::string version() const override { return "1.0.0"; }
  std::string digest() const override { return "d1"; }
  std::vector<std::string> components() const override { return {}; }
  double min_score() const override { return 0; }
  double max_score() const override { return 1; }

  void Release() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  // Until `n` calls have begun.
  void WaitForCalls(int n) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return calls_ >= n; });
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable int calls_ = 0;
  bool open_ = false;
};

}  // namespace tramontane
