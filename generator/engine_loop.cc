#include "generator/engine_loop.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "generator/core/ngram_draft.h"
#include "generator/core/touched_experts.h"

namespace tramontane {
namespace {

constexpr std::chrono::milliseconds kIdlePatience{250};  // how often an idle engine counts its wait

SchedulerOptions ForScheduler(const EngineOptions& options) {
  return {.max_running_sequences = options.max_running_sequences,
          .block_tokens = options.kv_block_tokens,
          .total_blocks = options.kv_blocks,
          .prefill_chunk_tokens = options.prefill_chunk_tokens,
          .prefix_cache = options.prefix_cache,
          .recompute_on_swap = options.recompute_kv_on_swap};
}

}  // namespace

EngineLoop::EngineLoop(const EngineOptions& options, const ModelConfig& config, Decoder& decoder,
                       std::shared_ptr<const Tokenizer> tokenizer, EngineInbox& inbox,
                       WeightGate& gate, MetricsRegistry& metrics)
    : options_(options),
      config_(config),
      decoder_(decoder),
      tokenizer_(std::move(tokenizer)),
      inbox_(inbox),
      gate_(gate),
      metrics_(metrics, options.kv_blocks),
      scheduler_(ForScheduler(options)),
      size_limit_(std::min(config_.max_position_embeddings, scheduler_.capacity_tokens())),
      routes_(config_.route_size(), options.kv_blocks, options.kv_block_tokens),
      draw_(options, metrics_),
      next_deadline_(std::chrono::steady_clock::time_point::max()),
      born_(std::chrono::steady_clock::now()) {
  stats_.version = options.initial_version;
  metrics_.Version(options.initial_version);
  RefreshStats();
}

void EngineLoop::Run() {
  while (true) {
    const bool idle = samples_.empty();
    const auto before = std::chrono::steady_clock::now();
    EngineWork work = inbox_.Take(idle ? kIdlePatience : std::chrono::milliseconds(0));
    if (idle) metrics_.Waited(SecondsSince(before), stats_.healthy);
    const bool closed = work.closed;
    Handle(std::move(work));
    if (closed) break;
    EndLate();
    if (!samples_.empty()) Step();
    RefreshStats();
  }
  AbortAll(FinishReason::kAborted);
  RefreshStats();
}

void EngineLoop::Handle(EngineWork work) {
  if (work.commit) {
    work.commit->reply.set_value(work.closed ? absl::UnavailableError("the engine is stopping")
                                             : Commit(work.commit->weights));
  }
  for (SampleRequest& request : work.requests) Admit(std::move(request));
  for (const std::string& id : work.cancelled) End(id, FinishReason::kAborted);
  if (!stats_.healthy) AbortAll(FinishReason::kAborted);  // what was on its way when it happened
}

void EngineLoop::Admit(SampleRequest request) {
  // What a version sampled that the trainer went back behind belongs to no history.
  if (request.begun != nullptr && MaxVersion(request.begun->rollout) > stats_.version) {
    OpenResponse lost = *request.begun;
    lost.rollout.finish_reason = FinishReason::kAborted;
    inbox_.Forget(request.id);
    return request.on_open(std::move(lost));
  }
  auto shared = std::make_shared<ActiveRequest>();
  shared->stop_tokens = request.sampling.stop_token_ids;
  if (!request.sampling.ignore_eos)
    shared->stop_tokens.insert(shared->stop_tokens.end(), config_.eos_token_ids.begin(),
                               config_.eos_token_ids.end());
  std::ranges::sort(shared->stop_tokens);
  shared->size_limit = static_cast<int32_t>(std::min<int64_t>(
      size_limit_,
      static_cast<int64_t>(request.prompt_tokens.size()) + request.sampling.max_new_tokens));
  shared->tokenizer = tokenizer_;
  shared->request = std::move(request);
  LiveRequest live{shared, {}};
  const uint64_t number = next_request_++;
  for (int32_t i = 0; i < shared->request.n; ++i) {
    const uint64_t id = next_sequence_++;
    const auto [entry, inserted] = samples_.try_emplace(
        id, LiveSample{ActiveSample(shared, i, id, number), std::chrono::steady_clock::now()});
    if (!shared->request.rules.empty())
      entry->second.rules.emplace(shared->request.rules, shared->stop_tokens);
    if (i == 0 && shared->request.on_prompt) {
      entry->second.prompt.emplace();
      entry->second.sample.sequence().scores_prompt = true;
    }
    entry->second.segment_begin = entry->second.sample.sequence().size();
    scheduler_.Add(entry->second.sample.sequence());
    live.sequences.push_back(id);
  }
  next_deadline_ = std::min(next_deadline_, shared->request.deadline);
  requests_.emplace(shared->request.id, std::move(live));
}

void EngineLoop::End(const std::string& id, FinishReason reason) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  const std::vector<uint64_t> sequences = found->second.sequences;
  for (uint64_t sequence : sequences) Finish(sequence, reason);
}

void EngineLoop::EndLate() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_deadline_) return;
  next_deadline_ = std::chrono::steady_clock::time_point::max();
  std::vector<std::string> late;
  for (const auto& [id, live] : requests_) {
    const auto deadline = live.shared->request.deadline;
    if (deadline <= now) {
      late.push_back(id);
    } else {
      next_deadline_ = std::min(next_deadline_, deadline);
    }
  }
  for (const std::string& id : late) End(id, FinishReason::kTimeout);
}

absl::StatusOr<CommitResult> EngineLoop::Commit(StagedWeights& weights) {
  const auto before = std::chrono::steady_clock::now();
  const WeightManifest& manifest = weights.manifest;
  const absl::StatusOr<double> gap = ApplyWeights(decoder_, weights, config_.expert_layers() > 0);
  if (!gap.ok()) {
    BecomeUnhealthy("weight version " + std::to_string(manifest.version) + ": " +
                    std::string(gap.status().message()));
    return gap.status();
  }
  const double tolerance = std::max(manifest.probe_tolerance, decoder_.RoundingTolerance());
  if (*gap > tolerance) {
    const std::string why = "probe of weight version " + std::to_string(manifest.version) +
                            " differs by " + std::to_string(*gap) + ", more than " +
                            std::to_string(tolerance);
    BecomeUnhealthy(why);
    return absl::DataLossError(why);
  }
  gate_.Committed(manifest.version, manifest.trainer_epoch);
  scheduler_.OnWeightsChanged();
  // A trainer that went back to an older version has forgotten the newer ones: what they sampled
  // belongs to no history, and a rollout's versions never fall.
  if (manifest.version < stats_.version) AbortAll(FinishReason::kAborted);
  stats_.version = manifest.version;
  stats_.healthy = true;
  stats_.unhealthy_reason.clear();
  inbox_.SetServing(absl::OkStatus());
  const CommitResult result{manifest.version, SecondsSince(before), *gap};
  metrics_.Swapped(result);
  RefreshStats();
  return result;
}

void EngineLoop::Step() {
  const auto before = std::chrono::steady_clock::now();
  if (options_.ngram_draft_tokens > 0 || options_.mtp_draft) AddDrafts();
  const StepPlan& plan = scheduler_.Plan();
  const absl::StatusOr<LogitRows> logits = decoder_.Forward(plan);
  if (!logits.ok()) {
    BecomeUnhealthy("a step failed: " + std::string(logits.status().message()));
    AbortAll(FinishReason::kError);
    return;
  }
  routes_.Record(plan, decoder_.routes());
  if (options_.count_experts && plan.prefill_tokens == 0 && config_.expert_layers() > 0) {
    ++stats_.decode_steps;
    stats_.touched_experts += static_cast<uint64_t>(
        TouchedExperts(decoder_.routes(), config_.expert_layers(), config_.experts_per_token));
  }
  scheduler_.Complete();
  ++stats_.steps;
  stats_.preemptions = scheduler_.preemptions();
  stats_.cache_hit_tokens = scheduler_.cache_hit_tokens();
  stats_.sibling_hit_tokens = scheduler_.sibling_hit_tokens();
  const uint64_t generated_before = stats_.generated_tokens;
  stats_.prompt_tokens += plan.prefill_tokens;
  const int32_t prompt_tokens = plan.prefill_tokens;
  StepEnd end;
  if (plan.logit_rows > 0) end = Sample(plan, *logits);
  if (options_.mtp_draft && end.broken.empty()) {
    if (const absl::Status foreseen = Foresee(plan, end); !foreseen.ok())
      end.broken = "a step failed: " + std::string(foreseen.message());
  }
  const double seconds = SecondsSince(before);
  stats_.busy_seconds += seconds;
  RefreshStats();
  metrics_.Step(stats_, seconds, static_cast<int32_t>(stats_.generated_tokens - generated_before),
                prompt_tokens);
  if (!end.broken.empty()) BecomeUnhealthy(end.broken);  // before anybody hears of it
  for (const auto& [sequence_id, reason] : end.finished) Finish(sequence_id, reason);
  if (!end.broken.empty()) AbortAll(FinishReason::kAborted);
  if (options_.segment_tokens > 0) EndSegments();
}

// A new id is a new place: behind everybody, and everybody now waiting is ahead of it.
void EngineLoop::EndSegments() {
  int32_t waiting = scheduler_.waiting();
  if (waiting == 0) return;
  std::vector<uint64_t> over;
  for (const auto& [id, live] : samples_) {
    const Sequence& sequence = live.sample.sequence();
    if (sequence.state == SequenceState::kRunning &&
        sequence.size() - live.segment_begin >= options_.segment_tokens)
      over.push_back(id);
  }
  std::ranges::sort(over);
  for (const uint64_t id : over) {
    if (waiting-- == 0) break;
    auto node = samples_.extract(id);
    LiveSample& live = node.mapped();
    Sequence& sequence = live.sample.sequence();
    scheduler_.Remove(sequence);
    node.key() = sequence.id = next_sequence_++;
    live.segment_begin = sequence.size();
    scheduler_.Add(sequence);
    std::vector<uint64_t>& siblings = requests_.at(live.sample.request().request.id).sequences;
    std::ranges::replace(siblings, id, sequence.id);
    samples_.insert(std::move(node));
    ++stats_.segments_ended;
  }
}

EngineLoop::StepEnd EngineLoop::Sample(const StepPlan& plan, const LogitRows& logits) {
  int64_t row = 0;
  StepEnd end;
  auto& [finished, broken] = end;
  for (const StepItem& item : plan.items) {
    if (item.logit_rows == 0) continue;
    LiveSample& live = samples_.at(item.sequence->id);
    if (live.prompt) ScorePrompt(live, item, logits, row);
    row += item.logit_rows;
    if (!item.samples) continue;
    const int32_t position = item.sequence->size() - item.drafts;
    const auto ended = Advance(live, item, logits, row - 1 - item.drafts);
    const ActiveSample& sample = live.sample;
    if (absl::IsDataLoss(ended.status())) {
      broken = "non-finite logits at weight version " + std::to_string(stats_.version) +
               ", request " + sample.request().request.id + ", sample " +
               std::to_string(sample.sample_index()) + ", position " + std::to_string(position);
      finished.emplace_back(item.sequence->id, FinishReason::kError);
      continue;
    }
    if (!ended.ok()) {
      LogWarn("sample_failed",
              {{"request", sample.request().request.id}, {"error", ended.status()}});
      finished.emplace_back(item.sequence->id, FinishReason::kError);
    } else if (ended->has_value()) {
      finished.emplace_back(item.sequence->id, **ended);
    }
  }
  return end;
}

void EngineLoop::AddDrafts() {
  std::vector<int32_t> draft;
  for (Sequence* sequence : scheduler_.Decoding()) {
    const LiveSample& live = samples_.at(sequence->id);
    const int32_t room = live.sample.request().size_limit - sequence->size() - 1;
    draft.clear();
    DraftByNgram(sequence->tokens, std::min(options_.ngram_draft_tokens, room), draft);
    if (draft.empty() && room > 0 && live.foreseen.position == sequence->size())
      draft.push_back(live.foreseen.token);
    sequence->AddDrafts(draft);
  }
}

absl::Status EngineLoop::Foresee(const StepPlan& plan, const StepEnd& end) {
  StepPlan known;
  for (StepItem item : plan.items) {
    const Sequence& sequence = *item.sequence;
    const auto is_this = [&](const auto& ended) { return ended.first == sequence.id; };
    item.count = std::min(item.count, sequence.size() - 1 - item.start);
    if (item.count <= 0 || std::ranges::any_of(end.finished, is_this)) continue;
    item.logit_rows = item.start + item.count == sequence.size() - 1 ? 1 : 0;
    known.items.push_back(item);
    known.tokens += item.count;
    known.logit_rows += item.logit_rows;
  }
  if (known.items.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, decoder_.Foresee(known));
  auto token = tokens.begin();
  for (const StepItem& item : known.items) {
    if (item.logit_rows > 0)
      samples_.at(item.sequence->id).foreseen = {item.sequence->size(), *token++};
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<FinishReason>> EngineLoop::Advance(LiveSample& live,
                                                                const StepItem& item,
                                                                const LogitRows& logits,
                                                                int64_t first_row) {
  Sequence& sequence = live.sample.sequence();
  const std::vector<int32_t> draft(sequence.tokens.end() - item.drafts, sequence.tokens.end());
  sequence.DropDrafts();
  const int32_t size = sequence.size();
  stats_.drafted_tokens += draft.size();
  std::optional<FinishReason> ended;
  for (int32_t drawn = 0;; ++drawn) {
    ASSIGN_OR_RETURN(const SampledToken token,
                     draw_.Draw(live.sample, live.rules, logits, first_row + drawn));
    if (!token.finite) return absl::DataLossError("non-finite logits");
    ASSIGN_OR_RETURN(ended, Take(live, token));
    // The next row's logits hold only if the sample goes on just as was guessed.
    const bool as_guessed = drawn < item.drafts && sequence.size() == size + drawn + 1 &&
                            sequence.tokens.back() == draft[static_cast<size_t>(drawn)];
    if (ended || !as_guessed) {
      sequence.cached = std::min(sequence.cached, size + drawn);
      stats_.accepted_draft_tokens += static_cast<uint64_t>(drawn);
      return ended;
    }
  }
}

void EngineLoop::ScorePrompt(LiveSample& live, const StepItem& item, const LogitRows& logits,
                             int64_t first_row) {
  const SampleRequest& asked = live.sample.request().request;
  const int32_t start = item.start + item.count - item.logit_rows;
  if (!draw_.ScorePrompt(asked, start, logits, first_row, item.logit_rows, *live.prompt)) return;
  asked.on_prompt(*std::move(live.prompt));
  live.prompt.reset();
}

absl::StatusOr<std::optional<FinishReason>> EngineLoop::Take(LiveSample& live,
                                                             const SampledToken& token) {
  ++stats_.generated_tokens;
  std::optional<FinishReason> ended = live.sample.Accept(token, stats_.version);
  const bool pauses = ended == FinishReason::kUnspecified;  // unless the rules end it here
  if ((ended && !pauses) || !live.rules) return ended;
  live.rules->Rewind(live.sample.kept_tokens());
  ASSIGN_OR_RETURN(const bool complete,
                   live.rules->Follow(live.sample.response(), live.sample.injected()));
  if (complete) ended = FinishReason::kStop;
  return ended;
}

void EngineLoop::Finish(uint64_t sequence_id, FinishReason reason) {
  auto node = samples_.extract(sequence_id);
  LiveSample& live = node.mapped();
  std::vector<uint8_t> routes;
  if (live.sample.request().request.wants_routes)
    routes = routes_.Read(live.sample.sequence(), live.sample.sequence().size() - 1);
  scheduler_.Remove(live.sample.sequence());
  metrics_.Finished(reason);
  if (reason != FinishReason::kUnspecified) metrics_.Thought(live.sample);
  // Id, blocks and statistics are up to date before the callback says that the sample has finished.
  const std::string& id = live.sample.request().request.id;
  const auto request = requests_.find(id);
  std::erase(request->second.sequences, sequence_id);
  if (request->second.sequences.empty()) {
    inbox_.Forget(id);
    requests_.erase(request);
  }
  RefreshStats();
  live.sample.Finish(reason, SecondsSince(live.started), std::move(routes));
}

void EngineLoop::AbortAll(FinishReason reason) {
  std::vector<uint64_t> ids;
  for (const auto& [id, live] : samples_) ids.push_back(id);
  std::ranges::sort(ids);
  for (uint64_t id : ids) Finish(id, reason);
}

void EngineLoop::BecomeUnhealthy(const std::string& why) {
  LogError("engine_unhealthy", {{"why", why}, {"version", stats_.version}});
  stats_.healthy = false;
  stats_.unhealthy_reason = why;
  inbox_.SetServing(absl::UnavailableError("the engine serves nothing: " + why));
  RefreshStats();
}

void EngineLoop::RefreshStats() {
  stats_.running_sequences = scheduler_.running();
  stats_.waiting_sequences = scheduler_.waiting();
  stats_.kv_blocks_used = scheduler_.pool().used();
  stats_.kv_blocks_kept = scheduler_.pool().kept();
  stats_.kv_blocks_total = scheduler_.pool().total();
  inbox_.SetWaiting(scheduler_.waiting());
  metrics_.Queue(stats_);
  std::lock_guard lock(published_mutex_);
  published_ = stats_;
}

EngineStats EngineLoop::stats() const {
  EngineStats stats;
  {
    std::lock_guard lock(published_mutex_);
    stats = published_;
  }
  stats.waiting_sequences += inbox_.arrived_samples();
  stats.uptime_seconds = SecondsSince(born_);
  return stats;
}

}  // namespace tramontane
