#include "services/generator/episodes.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "common/hash.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/status.h"
#include "services/generator/episode.h"

namespace tramontane {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kEpisodeTick{20};
constexpr size_t kMostEvents = size_t{1} << 20;  // far more than episodes can have under way
constexpr uint64_t kTurnSeedStep = 0x9E3779B97F4A7C15ull;

// Turns and episodes draw apart from each other.
uint64_t EpisodeSeed(const std::string& episode) {
  return std::stoull(Sha256Hex(episode).substr(0, 16), nullptr, 16);
}

}  // namespace

class EpisodeRunner::Impl : public std::enable_shared_from_this<EpisodeRunner::Impl> {
 public:
  Impl(Options options, EngineHooks engine, EnvironmentHooks environment,
       std::shared_ptr<const Tokenizer> tokenizer, MetricsRegistry& metrics)
      : options_(std::move(options)),
        engine_(std::move(engine)),
        environment_(std::move(environment)),
        tokenizer_(std::move(tokenizer)),
        done_(Ends(metrics, "done")),
        out_of_turns_(Ends(metrics, "turns")),
        out_of_room_(Ends(metrics, "length")),
        failed_(Ends(metrics, "failed")),
        cut_(Ends(metrics, "cut")),
        turns_(metrics.MakeCounter("tramontane_generator_episode_turns_total")),
        observed_(
            metrics.MakeCounter("tramontane_generator_tokens_total", {{"kind", "observed"}})) {}

  void Start() {
    thread_ = std::thread([self = shared_from_this()] { self->Loop(); });
  }
  void Stop() {
    events_.Close();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Submit(SampleRequest request, const PromptRow& row) {
    const int32_t n = request.n;
    if (open_ + n > options_.most_episodes)
      return absl::ResourceExhaustedError("too many episodes: " + std::to_string(open_));
    if (static_cast<int64_t>(request.prompt_tokens.size()) >= options_.size_limit)
      return absl::InvalidArgumentError(
          "prompt_tokens: " + std::to_string(request.prompt_tokens.size()) +
          " tokens leave no room to generate");
    open_ += n;
    auto shared = std::make_shared<const Asked>(Asked{std::move(request), row});
    for (int32_t i = 0; i < n; ++i) {
      auto episode = std::make_shared<Episode>();
      episode->asked = shared;
      episode->sample = i;
      episode->id = shared->request.id + "/" + std::to_string(i) + "/" + options_.incarnation;
      Post([this, episode] { Begin(episode); });
    }
    return absl::OkStatus();
  }

  void Cancel(const std::string& id) {
    Post([this, id] {
      for (const EpisodePtr& episode : Live(id)) Abort(episode);
    });
  }

 private:
  struct Asked {
    SampleRequest request;
    PromptRow row;
  };
  struct Episode {
    std::shared_ptr<const Asked> asked;
    int32_t sample = 0;
    std::string id;
    EpisodeResponse response;
    double reward = 0;
    bool open = true, sampling = false;
    EnvironmentStep last;
  };
  using EpisodePtr = std::shared_ptr<Episode>;

  static Counter Ends(MetricsRegistry& metrics, const std::string& by) {
    return metrics.MakeCounter("tramontane_generator_episodes_total", {{"end", by}});
  }

  // What is to be done on the episode thread. Dropped once the runner has stopped.
  void Post(std::function<void()> work) { events_.TryPush(std::move(work)); }

  void Loop() {
    while (true) {
      std::optional<std::function<void()>> work = events_.Pop(kEpisodeTick);
      if (work) (*work)();
      if (!work && events_.closed()) break;
      SubmitWaiting();
    }
    const std::vector<EpisodePtr> left(live_.begin(), live_.end());
    for (const EpisodePtr& episode : left) Abort(episode);
  }

  std::vector<EpisodePtr> Live(const std::string& id) const {
    std::vector<EpisodePtr> of;
    for (const EpisodePtr& episode : live_)
      if (episode->asked->request.id == id) of.push_back(episode);
    return of;
  }

  void Begin(const EpisodePtr& episode) {
    live_.push_back(episode);
    environment_.reset(
        episode->id, episode->asked->row, EpisodeSeed(episode->id),
        [self = shared_from_this(), episode](absl::StatusOr<EnvironmentObservation> seen) {
          self->Post([self, episode, seen = std::move(seen)] { self->OnReset(episode, seen); });
        });
  }

  void OnReset(const EpisodePtr& episode, const absl::StatusOr<EnvironmentObservation>& seen) {
    if (!episode->open) return;
    if (!seen.ok()) return Fail(episode, seen.status());
    const absl::Status observed = Observe(*episode, *seen, /*framed=*/false);
    if (!observed.ok()) return Fail(episode, observed);
    NextTurn(episode);
  }

  // Room for the next turn, in what was asked for and in the model.
  int64_t Room(const Episode& episode) const {
    const SampleRequest& asked = episode.asked->request;
    const int64_t size = episode.response.size();
    return std::min<int64_t>(
        asked.sampling.max_new_tokens - size,
        options_.size_limit - static_cast<int64_t>(asked.prompt_tokens.size()) - size);
  }

  void NextTurn(const EpisodePtr& episode) {
    if (Room(*episode) < 1) return End(episode, FinishReason::kLength, out_of_room_);
    waiting_.push_back(episode);
    SubmitWaiting();
  }

  void SubmitWaiting() {
    while (!waiting_.empty()) {
      const EpisodePtr episode = waiting_.front();
      if (episode->open) {
        episode->sampling = true;
        const absl::Status status = engine_.submit(TurnOf(episode));
        if (absl::IsResourceExhausted(status)) {
          episode->sampling = false;
          if (std::chrono::steady_clock::now() < episode->asked->request.deadline) return;
          End(episode, FinishReason::kTimeout, cut_);
        } else if (!status.ok()) {
          episode->sampling = false;
          LogWarn("episode_refused", {{"episode", episode->id}, {"error", status}});
          End(episode, absl::IsUnavailable(status) ? FinishReason::kAborted : FinishReason::kError,
              cut_);
        }
      }
      waiting_.pop_front();
    }
  }

  SampleRequest TurnOf(const EpisodePtr& episode) {
    const SampleRequest& asked = episode->asked->request;
    SampleRequest turn = asked;
    turn.id = TurnId(*episode);
    turn.n = 1;
    turn.first_sample = episode->sample;
    turn.prompt_tokens.insert(turn.prompt_tokens.end(), episode->response.tokens().begin(),
                              episode->response.tokens().end());
    turn.sampling.max_new_tokens = static_cast<int32_t>(Room(*episode));
    if (const int32_t most = options_.params.max_turn_tokens; most > 0)
      turn.sampling.max_new_tokens = std::min(turn.sampling.max_new_tokens, most);
    turn.sampling.seed += static_cast<uint64_t>(episode->response.turns()) * kTurnSeedStep;
    turn.on_chunk = nullptr;
    turn.on_finished = [self = shared_from_this(), episode](Rollout rollout) {
      self->Post([self, episode, rollout = std::move(rollout)] { self->OnTurn(episode, rollout); });
    };
    return turn;
  }

  static std::string TurnId(const Episode& episode) {
    return episode.id + "/" + std::to_string(episode.response.turns());
  }

  void OnTurn(const EpisodePtr& episode, const Rollout& turn) {
    episode->sampling = false;
    if (!episode->open) return;
    const FinishReason reason = turn.finish_reason;
    const absl::StatusOr<std::string> text = tokenizer_->Decode(turn.tokens, false);
    episode->response.AddTurn(turn, text.value_or(turn.text));
    if (reason != FinishReason::kStop && reason != FinishReason::kLength)
      return End(episode, reason, cut_);
    turns_.Add();
    environment_.step(
        episode->id, episode->response.turns() - 1, turn,
        [self = shared_from_this(), episode](absl::StatusOr<EnvironmentStep> step) {
          self->Post([self, episode, step = std::move(step)] { self->OnStep(episode, step); });
        });
  }

  void OnStep(const EpisodePtr& episode, const absl::StatusOr<EnvironmentStep>& step) {
    if (!episode->open) return;
    if (!step.ok()) return Fail(episode, step.status());
    episode->last = *step;
    episode->reward += step->reward;
    if (std::chrono::steady_clock::now() >= episode->asked->request.deadline)
      return End(episode, FinishReason::kTimeout, cut_);
    if (step->done)
      return End(episode, Room(*episode) < 1 ? FinishReason::kLength : FinishReason::kStop, done_);
    if (episode->response.turns() >= options_.params.max_turns)
      return End(episode, FinishReason::kLength, out_of_turns_);
    const absl::Status observed = Observe(*episode, step->observation, /*framed=*/true);
    if (!observed.ok()) return Fail(episode, observed);
    NextTurn(episode);
  }

  // What does not fit is cut: the turn that would follow has no room either.
  absl::Status Observe(Episode& episode, const EnvironmentObservation& seen, bool framed) {
    const EpisodeParams& section = options_.params;
    std::vector<int32_t> tokens;
    const auto add = [&](const std::string& text) -> absl::Status {
      if (text.empty()) return absl::OkStatus();
      ASSIGN_OR_RETURN(const std::vector<int32_t> more, tokenizer_->Encode(text, false));
      tokens.insert(tokens.end(), more.begin(), more.end());
      return absl::OkStatus();
    };
    std::vector<int32_t> said = seen.tokens;
    if (said.empty() && !seen.text.empty()) {
      ASSIGN_OR_RETURN(said, tokenizer_->Encode(seen.text, false));
    }
    for (int32_t token : said)
      if (token < 0)
        return absl::InvalidArgumentError("observation: holds " + std::to_string(token) +
                                          ", no token id");
    const auto most = static_cast<size_t>(section.max_observation_tokens);
    if (said.size() > most) said.resize(most);
    if (framed) RETURN_IF_ERROR(add(section.before_observation));
    tokens.insert(tokens.end(), said.begin(), said.end());
    if (framed) RETURN_IF_ERROR(add(section.after_observation));
    const auto room = static_cast<size_t>(std::max<int64_t>(Room(episode), 0));
    if (tokens.size() > room) tokens.resize(room);
    ASSIGN_OR_RETURN(const std::string text, tokenizer_->Decode(tokens, false));
    episode.response.AddObservation(tokens, text);
    observed_.Add(static_cast<double>(tokens.size()));
    return absl::OkStatus();
  }

  // The environment is at fault: the sample has no reward, and nobody takes it for a wrong one.
  void Fail(const EpisodePtr& episode, const absl::Status& status) {
    LogWarn("episode_failed", {{"episode", episode->id}, {"error", status}});
    Verdict verdict;
    verdict.status = VerdictStatus::kInfraFailure;
    verdict.feedback = "environment: " + std::string(status.message());
    Close(episode, FinishReason::kStop, failed_, std::move(verdict));
  }

  void Abort(const EpisodePtr& episode) {
    if (episode->sampling) engine_.cancel(TurnId(*episode));
    End(episode, FinishReason::kAborted, cut_);
  }

  void End(const EpisodePtr& episode, FinishReason reason, Counter& ends) {
    Verdict verdict;
    const bool judged = reason == FinishReason::kStop || reason == FinishReason::kLength ||
                        reason == FinishReason::kRepetition;
    if (judged && options_.params.judge.empty()) verdict = Judge(*episode);
    Close(episode, reason, ends, std::move(verdict));
  }

  Verdict Judge(const Episode& episode) const {
    const EnvironmentName name = environment_.name();
    Verdict verdict;
    verdict.status = VerdictStatus::kScored;
    verdict.score = episode.reward;
    verdict.correct = episode.last.correct;
    verdict.metrics = episode.last.metrics;
    verdict.metrics["turns"] = episode.response.turns();
    verdict.feedback = episode.last.feedback;
    verdict.verifier = name.name;
    verdict.verifier_version = name.version;
    verdict.verifier_digest = name.digest;
    return verdict;
  }

  void Close(const EpisodePtr& episode, FinishReason reason, Counter& ends, Verdict verdict) {
    if (!std::exchange(episode->open, false)) return;
    ends.Add();
    std::erase(live_, episode);
    --open_;
    environment_.close(episode->id);
    Rollout rollout =
        episode->response.Finish(reason, episode->asked->request.prompt_tokens.size());
    rollout.sample_index = episode->sample;
    rollout.verdict = std::move(verdict);
    episode->asked->request.on_finished(std::move(rollout));
  }

  const Options options_;
  const EngineHooks engine_;
  const EnvironmentHooks environment_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  Counter done_, out_of_turns_, out_of_room_, failed_, cut_, turns_, observed_;
  std::atomic<int32_t> open_ = 0;
  Mailbox<std::function<void()>> events_{kMostEvents};
  // Episode thread only.
  std::vector<EpisodePtr> live_;
  std::deque<EpisodePtr> waiting_;  // for room in the engine's queue
  std::thread thread_;
};

EpisodeRunner::EpisodeRunner(Options options, EngineHooks engine, EnvironmentHooks environment,
                             std::shared_ptr<const Tokenizer> tokenizer, MetricsRegistry& metrics)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(engine), std::move(environment),
                                   std::move(tokenizer), metrics)) {
  impl_->Start();
}
EpisodeRunner::~EpisodeRunner() { impl_->Stop(); }
absl::Status EpisodeRunner::Submit(SampleRequest request, const PromptRow& row) {
  return impl_->Submit(std::move(request), row);
}
void EpisodeRunner::Cancel(const std::string& id) { impl_->Cancel(id); }

}  // namespace tramontane
