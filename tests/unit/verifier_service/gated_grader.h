// A grader whose calls wait until the test lets them go on: time without sleeping.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "verifier/grader.h"

namespace tramontane {

// Completions that start with "wait:" wait for Release(), those with "stop:" until they are told
// that nobody waits for them; the score is 1 for all. Params {"fault": "row" | "sandbox"}: no
// score.
class GatedGrader final : public Grader {
 public:
  Verdict Grade(const GradeRequest& request) const override {
    {
      std::unique_lock lock(mutex_);
      ++calls_;
      changed_.notify_all();
      if (request.completion.starts_with("wait:")) changed_.wait(lock, [this] { return open_; });
    }
    for (int i = 0; request.completion.starts_with("stop:") && !request.stop() && i < 20'000; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    Verdict verdict;
    if (request.params.contains("fault")) {
      verdict.status = VerdictStatus::kInfraFailure;
      verdict.fault = request.params["fault"] == "row" ? Fault::kRow : Fault::kSandbox;
      return verdict;
    }
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
