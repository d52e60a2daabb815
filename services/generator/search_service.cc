#include "services/generator/search_service.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"

namespace tramontane {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// The verdicts on the paths of one round. Callbacks may come when nobody waits any more.
class VerdictWait {
 public:
  explicit VerdictWait(size_t paths) : verdicts_(paths), missing_(paths) {}

  void Put(size_t index, Verdict verdict) {
    std::lock_guard lock(mutex_);
    verdicts_[index] = std::move(verdict);
    if (--missing_ == 0) all_there_.notify_all();
  }
  bool Until(SteadyTime deadline) {
    std::unique_lock lock(mutex_);
    return all_there_.wait_until(lock, deadline, [this] { return missing_ == 0; });
  }
  // Once all are there.
  absl::StatusOr<std::vector<double>> Scores(const std::string& verifier) const {
    std::lock_guard lock(mutex_);
    std::vector<double> scores;
    for (const Verdict& verdict : verdicts_) {
      if (!verdict.score)
        return absl::UnavailableError("verifier " + verifier + " gave no score (" +
                                      ToString(verdict.status) + "): " + verdict.feedback);
      scores.push_back(*verdict.score);
    }
    return scores;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable all_there_;
  std::vector<Verdict> verdicts_;
  size_t missing_;
};

absl::Status BadScorer(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::InvalidArgumentError(status.message());
}

}  // namespace

SearchService::SearchService(const Options& options, EngineHooks engine, SearchHooks graders,
                             VerifierPool* verifiers,
                             std::map<std::string, VerifierSection> sections,
                             MetricsRegistry& metrics)
    : options_(options),
      graders_(std::move(graders)),
      verifiers_(verifiers),
      sections_(std::move(sections)),
      value_seconds_(metrics.MakeHistogram("tramontane_generator_value_seconds")),
      value_tokens_(metrics.MakeCounter("tramontane_generator_value_tokens_total")),
      pool_(options.pool, std::move(engine), metrics) {}

SearchDesk SearchService::Desk() {
  return {.start = [this](SearchOrder order) { return Start(std::move(order)); },
          .cancel = [this](const std::string& id) { pool_.Cancel(id); }};
}

absl::Status SearchService::Start(SearchOrder order) {
  const SearchParams& params = order.ask.params;
  if (params.MostPaths() > options_.most_paths)
    return absl::InvalidArgumentError(
        "search." + std::string(params.method == "mcts" ? "expansion" : "n") + ": " +
        std::to_string(params.MostPaths()) + " paths side by side are more than the " +
        std::to_string(options_.most_paths) + " that the engine's queue holds");
  ASSIGN_OR_RETURN(SearchTools tools, ToolsFor(order));
  std::function<void()> on_cancel;
  if (verifiers_ != nullptr)
    on_cancel = [this, owner = order.sample.id] { verifiers_->Cancel(owner); };
  return pool_.Submit({.params = params,
                       .sample = std::move(order.sample),
                       .tools = std::move(tools),
                       .on_cancel = std::move(on_cancel),
                       .done = std::move(order.done)});
}

absl::StatusOr<SearchTools> SearchService::ToolsFor(const SearchOrder& order) {
  SearchTools tools;
  if (order.ask.by_value()) {
    ASSIGN_OR_RETURN(tools, ValueTools(order));
  } else if (order.ask.by_verifier()) {
    const bool registered = verifiers_ != nullptr && FindVerifier(sections_, order.ask.scorer).ok();
    if (registered) {
      tools = VerifierTools(order);
    } else {
      ASSIGN_OR_RETURN(tools, GraderTools(order));
    }
  }
  tools.answer = graders_.answer;
  tools.same = graders_.same;
  return tools;
}

// Each round is a group of its own, so that verifiers that compare samples see all of it.
SearchTools SearchService::VerifierTools(const SearchOrder& order) const {
  SearchTools tools;
  auto round = std::make_shared<int64_t>(0);
  PromptRow row = order.row;
  row.verifier = order.ask.scorer;
  row.params = order.ask.scorer_params;
  tools.score =
      [pool = verifiers_, row = std::move(row), round, owner = order.sample.id,
       deadline = order.sample.deadline](
          const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
    const auto wait = std::make_shared<VerdictWait>(paths.size());
    const VerifyTicket ticket{owner + "#" + std::to_string((*round)++), owner,
                              static_cast<int32_t>(paths.size())};
    for (size_t i = 0; i < paths.size(); ++i) {
      Rollout path = paths[i]->rollout;
      path.sample_index = static_cast<int32_t>(i);
      pool->Verify(row, path, ticket,
                   [wait, i](Verdict verdict) { wait->Put(i, std::move(verdict)); });
    }
    if (!wait->Until(deadline)) {
      pool->Cancel(owner);
      return absl::DeadlineExceededError("verifier " + row.verifier +
                                         " did not answer in the time the request had");
    }
    return wait->Scores(row.verifier);
  };
  return tools;
}

absl::StatusOr<SearchTools> SearchService::GraderTools(const SearchOrder& order) const {
  const std::string& name = order.ask.scorer;
  RETURN_IF_ERROR(BadScorer(graders_.check(name, order.row.answer)));
  SearchTools tools;
  tools.score =
      [this, name, prompt = order.row.prompt, gold = order.row.answer](
          const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
    std::vector<double> scores;
    for (const SearchPath* path : paths) {
      ASSIGN_OR_RETURN(const double score, graders_.grade(name, prompt, path->rollout, gold));
      scores.push_back(score);
    }
    return scores;
  };
  return tools;
}

absl::StatusOr<SearchTools> SearchService::ValueTools(const SearchOrder& order) {
  if (!graders_.value) return NoCritic();
  SearchTools tools;
  tools.score = [this,
                 prompt = order.sample.prompt_tokens](const std::vector<const SearchPath*>& paths) {
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<std::vector<double>> values = graders_.value(prompt, paths);
    value_seconds_.Observe(SecondsSince(start));
    size_t tokens = 0;
    for (const SearchPath* path : paths) tokens += prompt.size() + path->rollout.tokens.size();
    value_tokens_.Add(static_cast<double>(tokens));
    return values;
  };
  return tools;
}

}  // namespace tramontane
