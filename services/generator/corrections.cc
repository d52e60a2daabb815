#include "services/generator/corrections.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/log.h"
#include "common/mailbox.h"
#include "common/status.h"
#include "generator/core/philox.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kCorrectionTick(50);
constexpr size_t kMostAnswers = size_t{1} << 20;  // what can be under way is far less
// Draws of corrections are others than their answers', and differ from answer to answer.
constexpr uint64_t kCorrectionSeedStep = 0x9E3779B97F4A7C15ULL;

// What the two layers of a request have in common. Constant after Submit.
struct Asked {
  SampleRequest request;
  int32_t answers = 0, per_answer = 0;
};
using AskedPtr = std::shared_ptr<const Asked>;

struct Answered {
  AskedPtr asked;
  Rollout answer;
};

// A correction as a rollout of the first prompt: answer and phrase come first, and nobody sampled
// them here.
Rollout Behind(const std::vector<int32_t>& given, Rollout correction) {
  if (correction.tokens.empty() || given.empty()) return correction;
  const auto count = static_cast<int32_t>(given.size());
  correction.tokens.insert(correction.tokens.begin(), given.begin(), given.end());
  correction.logprobs.insert(correction.logprobs.begin(), given.size(), 0);
  correction.spans.front().count += count;
  for (TokenSpan& span : correction.injected) span.begin += count;
  // A span of its own, whatever was put in behind it: verifiers are shown all but this one.
  correction.injected.insert(correction.injected.begin(), {0, count});
  correction.usage.injected += count;
  return correction;
}

bool IsWhole(FinishReason reason) {
  return reason == FinishReason::kStop || reason == FinishReason::kLength ||
         reason == FinishReason::kRepetition;
}

}  // namespace

class CorrectionRunner::Impl : public std::enable_shared_from_this<CorrectionRunner::Impl> {
 public:
  Impl(std::vector<std::vector<int32_t>> phrases, EngineHooks engine, MetricsRegistry& metrics)
      : phrases_(std::move(phrases)),
        engine_(std::move(engine)),
        asked_for_(metrics.MakeCounter("tramontane_generator_corrections_total")) {}

  void Start() {
    thread_ = std::thread([this] { Loop(); });
  }

  void Stop() {
    answered_.Close();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Submit(SampleRequest request, const GroupTask& task) {
    auto asked = std::make_shared<Asked>();
    asked->answers = task.answers;
    asked->per_answer = (task.samples - task.answers) / task.answers;
    asked->request = std::move(request);
    asked->request.on_chunk = nullptr;
    SampleRequest first = asked->request;
    first.n = task.answers;
    first.on_finished = [self = shared_from_this(), asked](Rollout answer) {
      self->OnAnswer(asked, std::move(answer));
    };
    {
      std::lock_guard lock(mutex_);
      open_[first.id] = {.cancelled = false, .answers_left = task.answers, .corrections = {}};
    }
    absl::Status status = engine_.submit(std::move(first));
    if (status.ok()) return status;
    std::lock_guard lock(mutex_);
    open_.erase(asked->request.id);
    return status;
  }

  void Cancel(const std::string& id) {
    std::vector<std::string> ids = {id};
    {
      std::lock_guard lock(mutex_);
      const auto found = open_.find(id);
      if (found == open_.end()) return;
      found->second.cancelled = true;
      ids.insert(ids.end(), found->second.corrections.begin(), found->second.corrections.end());
    }
    for (const std::string& one : ids) engine_.cancel(one);
  }

 private:
  struct Open {
    bool cancelled = false;
    int32_t answers_left = 0;              // whose corrections have not all ended
    std::vector<std::string> corrections;  // ids of requests
  };

  // --- engine thread

  // The answer goes on at once; its corrections are asked for by the own thread.
  void OnAnswer(const AskedPtr& asked, Rollout answer) {
    Answered answered{asked, answer};
    asked->request.on_finished(std::move(answer));
    if (!answered_.TryPush(std::move(answered)))
      EndAll(asked, answered.answer.sample_index, FinishReason::kAborted);
  }

  // --- own thread

  void Loop() {
    while (true) {
      std::optional<Answered> next = answered_.Pop(kCorrectionTick);
      if (!next && answered_.closed()) break;
      if (next) waiting_.push_back(*std::move(next));
      while (!waiting_.empty() && Ask(waiting_.front())) waiting_.pop_front();
    }
    for (const Answered& left : waiting_)
      EndAll(left.asked, left.answer.sample_index, FinishReason::kAborted);
    waiting_.clear();
  }

  // False: the engine has no room now.
  bool Ask(const Answered& answered) {
    const AskedPtr& asked = answered.asked;
    const int32_t answer = answered.answer.sample_index;
    if (!IsWhole(answered.answer.finish_reason))
      return EndAll(asked, answer, answered.answer.finish_reason);
    SampleRequest request = CorrectionOf(asked, answered.answer);
    const std::string id = request.id;
    if (!Note(asked->request.id, id)) return EndAll(asked, answer, FinishReason::kAborted);
    const absl::Status status = engine_.submit(std::move(request));
    if (status.ok()) {
      asked_for_.Add(asked->per_answer);
      if (IsCancelled(asked->request.id)) engine_.cancel(id);  // meanwhile
      return true;
    }
    if (absl::IsResourceExhausted(status)) {
      if (std::chrono::steady_clock::now() < asked->request.deadline) return false;
      return EndAll(asked, answer, FinishReason::kTimeout);
    }
    // Prompt and answer fill the model's context: there is no room to correct anything.
    if (absl::IsInvalidArgument(status)) return EndAll(asked, answer, FinishReason::kLength);
    LogWarn("corrections_refused", {{"request", id}, {"error", status}});
    return EndAll(asked, answer,
                  absl::IsUnavailable(status) ? FinishReason::kAborted : FinishReason::kError);
  }

  SampleRequest CorrectionOf(const AskedPtr& asked, const Rollout& answer) {
    const int32_t index = answer.sample_index;
    const uint64_t seed =
        asked->request.sampling.seed + static_cast<uint64_t>(index + 1) * kCorrectionSeedStep;
    // The same in every life of a generator, as the tokens are, and no sample's draw.
    const double draw = UniformDraw(seed, /*sample_index=*/UINT32_MAX, /*position=*/0);
    const size_t drawn = std::min(static_cast<size_t>(draw * static_cast<double>(phrases_.size())),
                                  phrases_.size() - 1);
    std::vector<int32_t> given = answer.tokens;
    given.insert(given.end(), phrases_[drawn].begin(), phrases_[drawn].end());
    SampleRequest request = asked->request;
    request.id += "/correction" + std::to_string(index);
    request.n = asked->per_answer;
    request.prompt_tokens.insert(request.prompt_tokens.end(), given.begin(), given.end());
    request.sampling.seed = seed;
    auto left = std::make_shared<std::atomic<int32_t>>(asked->per_answer);
    request.on_finished = [self = shared_from_this(), asked, index, left,
                           given = std::move(given)](Rollout correction) {
      const int32_t nth = correction.sample_index;
      Rollout whole = Behind(given, std::move(correction));
      whole.sample_index = asked->answers + index * asked->per_answer + nth;
      asked->request.on_finished(std::move(whole));
      if (--*left == 0) self->AnswerDone(asked);
    };
    return request;
  }

  // --- shared

  // All corrections of an answer, without tokens. True, for Ask.
  bool EndAll(const AskedPtr& asked, int32_t answer, FinishReason reason) {
    for (int32_t i = 0; i < asked->per_answer; ++i) {
      Rollout nothing;
      nothing.sample_index = asked->answers + answer * asked->per_answer + i;
      nothing.finish_reason = reason;
      asked->request.on_finished(std::move(nothing));
    }
    AnswerDone(asked);
    return true;
  }

  // That `correction` belongs to the request. False when that was cancelled.
  bool Note(const std::string& id, const std::string& correction) {
    std::lock_guard lock(mutex_);
    const auto open = open_.find(id);
    if (open == open_.end() || open->second.cancelled) return false;
    std::vector<std::string>& ids = open->second.corrections;
    if (ids.empty() || ids.back() != correction) ids.push_back(correction);  // another try
    return true;
  }

  bool IsCancelled(const std::string& id) {
    std::lock_guard lock(mutex_);
    const auto open = open_.find(id);
    return open != open_.end() && open->second.cancelled;
  }

  void AnswerDone(const AskedPtr& asked) {
    std::lock_guard lock(mutex_);
    const auto open = open_.find(asked->request.id);
    if (open != open_.end() && --open->second.answers_left == 0) open_.erase(open);
  }

  const std::vector<std::vector<int32_t>> phrases_;
  const EngineHooks engine_;
  Counter asked_for_;
  Mailbox<Answered> answered_{kMostAnswers};
  std::deque<Answered> waiting_;  // own thread only
  std::mutex mutex_;
  std::map<std::string, Open> open_;  // by request; guarded by mutex_
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<CorrectionRunner>> CorrectionRunner::Create(
    const std::vector<std::string>& phrases, EngineHooks engine,
    const std::shared_ptr<const Tokenizer>& tokenizer, MetricsRegistry& metrics) {
  std::vector<std::vector<int32_t>> encoded;
  for (const std::string& phrase : phrases) {
    ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer->Encode(phrase, false));
    if (tokens.empty()) {
      return absl::InvalidArgumentError("rollout.correction.phrases: '" + phrase +
                                        "' gives no tokens");
    }
    encoded.push_back(std::move(tokens));
  }
  auto impl = std::make_shared<Impl>(std::move(encoded), std::move(engine), metrics);
  impl->Start();
  return std::unique_ptr<CorrectionRunner>(new CorrectionRunner(std::move(impl)));
}

CorrectionRunner::CorrectionRunner(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
CorrectionRunner::~CorrectionRunner() { impl_->Stop(); }

absl::Status CorrectionRunner::Submit(SampleRequest request, const GroupTask& task) {
  return impl_->Submit(std::move(request), task);
}

void CorrectionRunner::Cancel(const std::string& id) { impl_->Cancel(id); }

}  // namespace tramontane
