#include "generator/search/engine_paths.h"

#include <chrono>
#include <utility>

#include "common/status.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kQueuePatience{20};

}  // namespace

// Waits for the samples of one call of Grow.
class EnginePaths::Round {
 public:
  explicit Round(size_t samples) : responses_(samples) {}

  void Put(size_t index, OpenResponse response) {
    std::lock_guard lock(mutex_);
    responses_[index] = std::move(response);
    ++finished_;
    changed_.notify_all();
  }
  // Ends because the engine finishes or aborts whatever it has accepted.
  std::vector<OpenResponse> Wait(size_t samples) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= samples; });
    return std::move(responses_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OpenResponse> responses_;
  size_t finished_ = 0;
};

EnginePaths::EnginePaths(const EngineHooks& engine, SampleRequest sample,
                         const SearchParams& params)
    : engine_(engine), sample_(std::move(sample)), step_end_(params.step_end) {
  sample_.n = 1;
  sample_.sampling.max_new_tokens = params.PathTokens(sample_.sampling.max_new_tokens);
}

absl::StatusOr<std::vector<PathGrowth>> EnginePaths::Grow(const std::vector<PathAsk>& asks) {
  const auto round = std::make_shared<Round>(asks.size());
  absl::Status refused;
  size_t accepted = 0;
  for (size_t i = 0; i < asks.size() && refused.ok(); ++i) {
    refused = Submit(asks[i], i, round);
    accepted += refused.ok();
  }
  if (!refused.ok()) {
    std::lock_guard lock(mutex_);
    CancelLive();
  }
  std::vector<OpenResponse> responses = round->Wait(accepted);
  std::lock_guard lock(mutex_);
  live_.clear();
  if (cancelled_) return absl::CancelledError("the search was cancelled");
  RETURN_IF_ERROR(refused);
  sampled_ = true;
  std::vector<PathGrowth> grown;
  for (size_t i = 0; i < asks.size(); ++i) {
    ASSIGN_OR_RETURN(PathGrowth growth, Grown(asks[i], std::move(responses[i])));
    grown.push_back(std::move(growth));
  }
  return grown;
}

absl::Status EnginePaths::Submit(const PathAsk& ask, size_t index,
                                 const std::shared_ptr<Round>& round) {
  const Rollout& path = ask.path->rollout;
  SampleRequest request = sample_;
  request.id += "/" + std::to_string(next_request_++);
  request.first_sample = path.sample_index;
  if (ask.path->draws > 0)
    request.begun = std::make_shared<const OpenResponse>(OpenResponse{path, ask.path->draws});
  request.pause.after_draws = ask.max_tokens;
  if (!ask.to_end) request.pause.at_text = step_end_;
  request.on_open = [round, index](OpenResponse response) {
    round->Put(index, std::move(response));
  };
  while (true) {
    const absl::Status status = SubmitOnce(request);
    const bool again = absl::IsResourceExhausted(status) && (sampled_ || index > 0) && !late();
    if (!again) return status;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kQueuePatience, [this] { return cancelled_; });
  }
}

// Under the lock, so that whoever cancels sees the sample or keeps it out.
absl::Status EnginePaths::SubmitOnce(SampleRequest request) {
  std::lock_guard lock(mutex_);
  if (cancelled_) return absl::CancelledError("the search was cancelled");
  const std::string id = request.id;
  RETURN_IF_ERROR(engine_.submit(std::move(request)));
  live_.push_back(id);
  return absl::OkStatus();
}

absl::StatusOr<PathGrowth> EnginePaths::Grown(const PathAsk& ask, OpenResponse response) {
  const Rollout& rollout = response.rollout;
  PathGrowth growth;
  switch (rollout.finish_reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      growth.stop = PathStop::kEnded;
      break;
    case FinishReason::kUnspecified: {
      const size_t before = ask.path->rollout.text.size();
      const bool step = response.draws - ask.path->draws < ask.max_tokens ||
                        (!ask.to_end && rollout.text.find(step_end_, before) != std::string::npos);
      growth.stop = step ? PathStop::kStep : PathStop::kCut;
      break;
    }
    default:
      return WhyLost(engine_, rollout.finish_reason);
  }
  growth.rollout = std::move(response.rollout);
  growth.draws = response.draws;
  return growth;
}

void EnginePaths::Cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    CancelLive();
  }
  changed_.notify_all();
}

void EnginePaths::CancelLive() {
  for (const std::string& id : live_) engine_.cancel(id);
}

bool EnginePaths::late() const { return std::chrono::steady_clock::now() >= sample_.deadline; }

absl::StatusOr<SearchResult> SearchIn(EnginePaths& paths, const SearchParams& params,
                                      int32_t max_tokens, SearchTools tools) {
  tools.grow = [&paths](const std::vector<PathAsk>& asks) { return paths.Grow(asks); };
  if (!tools.score) tools.score = MeanLogprobs;
  return Search(params, max_tokens, tools);
}

}  // namespace tramontane
