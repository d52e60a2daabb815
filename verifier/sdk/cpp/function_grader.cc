#include <cmath>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/clock.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/status.h"
#include "verifier/sdk/cpp/verifier_sdk.h"

namespace tramontane {
namespace {

constexpr double kSlack = 1e-6;
constexpr size_t kMaxTextBytes = 4096;

// SHA-256 of the program itself, so that another build is another version.
absl::StatusOr<std::string> DigestOf(const VerifierSpec& spec) {
  ASSIGN_OR_RETURN(const std::string program, ReadFile("/proc/self/exe"));
  const Json content = {{"name", spec.name},
                        {"version", spec.version},
                        {"program", Sha256Hex(program)},
                        {"depends_on", spec.depends_on}};
  return Sha256Hex(content.dump());
}

// Bounded and valid UTF-8: it travels as text.
std::string Text(const std::string& bytes) {
  const std::string quoted =
      Json(bytes.substr(0, kMaxTextBytes)).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

Verdict Failure(const absl::Status& status) {
  Verdict verdict;
  verdict.status = VerdictStatus::kInfraFailure;
  verdict.fault = absl::IsInvalidArgument(status) ? Fault::kRow : Fault::kVerifier;
  verdict.feedback = Text(std::string(status.message()));
  return verdict;
}

// OK, or what is wrong with a score.
absl::Status CheckScore(const Score& score, const VerifierSpec& spec) {
  const auto finite = [](const std::map<std::string, double>& numbers) {
    for (const auto& [name, value] : numbers) {
      if (!std::isfinite(value)) return absl::InternalError(name + " is not finite");
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(finite(score.components));
  RETURN_IF_ERROR(finite(score.metrics));
  if (!score.reward) return absl::OkStatus();
  const bool in_range =
      *score.reward >= spec.min_reward - kSlack && *score.reward <= spec.max_reward + kSlack;
  if (!in_range) {  // NaN is in no range
    return absl::InternalError("reward " + std::to_string(*score.reward) + " is outside its range");
  }
  double sum = 0;
  for (const auto& [name, value] : score.components) sum += value;
  if (!score.components.empty() && std::abs(sum - *score.reward) > kSlack) {
    return absl::InternalError("the components do not sum to the reward");
  }
  return absl::OkStatus();
}

class FunctionGrader final : public Grader {
 public:
  FunctionGrader(VerifierSpec spec, std::string digest)
      : spec_(std::move(spec)), digest_(std::move(digest)) {}

  Verdict Grade(const GradeRequest& request) const override {
    if (spec_.score_group) return GradeGroup({request}).front();
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<Score> score = absl::InternalError("");
    try {  // somebody else's code
      score = spec_.score(request);
    } catch (const std::exception& e) {
      score = absl::InternalError(e.what());
    }
    return Stamped(score.ok() ? ToVerdict(*std::move(score)) : Failure(score.status()), start);
  }

  std::vector<Verdict> GradeGroup(const std::vector<GradeRequest>& requests) const override {
    if (!spec_.score_group) return Grader::GradeGroup(requests);
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<std::vector<Score>> scores = absl::InternalError("");
    try {
      scores = spec_.score_group(requests);
    } catch (const std::exception& e) {
      scores = absl::InternalError(e.what());
    }
    if (scores.ok() && scores->size() != requests.size()) {
      scores = absl::InternalError(std::to_string(scores->size()) + " scores for a group of " +
                                   std::to_string(requests.size()));
    }
    std::vector<Verdict> verdicts;
    for (size_t i = 0; i < requests.size(); ++i) {
      verdicts.push_back(
          Stamped(scores.ok() ? ToVerdict((*scores)[i]) : Failure(scores.status()), start));
    }
    return verdicts;
  }

  Verdict GradeBare(const GradeRequest& request) const override { return Grade(request); }
  absl::Status CheckRow(const std::string& answer, const Json& params) const override {
    return spec_.check_row ? spec_.check_row(answer, params) : absl::OkStatus();
  }
  bool group_aware() const override { return spec_.score_group != nullptr; }
  std::string name() const override { return spec_.name; }
  std::string version() const override { return spec_.version; }
  std::string digest() const override { return digest_; }
  std::vector<std::string> components() const override { return spec_.components; }
  double min_score() const override { return spec_.min_reward; }
  double max_score() const override { return spec_.max_reward; }
  bool pure() const override { return spec_.pure; }
  Json params_schema() const override { return spec_.params_schema; }

 private:
  Verdict ToVerdict(Score score) const {
    if (const absl::Status sound = CheckScore(score, spec_); !sound.ok()) return Failure(sound);
    Verdict verdict;
    verdict.status = score.reward ? VerdictStatus::kScored : VerdictStatus::kSkipped;
    verdict.score = score.reward;
    verdict.components = std::move(score.components);
    verdict.metrics = std::move(score.metrics);
    verdict.correct = score.correct.value_or(score.reward && *score.reward >= spec_.perfect);
    verdict.extracted = Text(score.extracted);
    verdict.feedback = Text(score.feedback);
    return verdict;
  }
  Verdict Stamped(Verdict verdict, std::chrono::steady_clock::time_point start) const {
    verdict.verifier = spec_.name;
    verdict.verifier_version = spec_.version;
    verdict.verifier_digest = digest_;
    verdict.exec_seconds = SecondsSince(start);
    return verdict;
  }

  const VerifierSpec spec_;
  const std::string digest_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Grader>> MakeFunctionGrader(const VerifierSpec& spec) {
  if (spec.name.empty() || spec.version.empty()) {
    return absl::InvalidArgumentError("a verifier needs a name and a version");
  }
  if ((spec.score == nullptr) == (spec.score_group == nullptr)) {
    return absl::InvalidArgumentError("a verifier needs `score` or `score_group`, and not both");
  }
  if (!(spec.min_reward < spec.max_reward)) {
    return absl::InvalidArgumentError("min_reward must be below max_reward");
  }
  ASSIGN_OR_RETURN(std::string digest, DigestOf(spec));
  return std::make_shared<FunctionGrader>(spec, std::move(digest));
}

}  // namespace tramontane
