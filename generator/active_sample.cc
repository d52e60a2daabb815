#include "generator/active_sample.h"

#include <algorithm>
#include <utility>

#include "generator/core/philox.h"
#include "generator/usage.h"

namespace tramontane {
namespace {

constexpr size_t kReservedTokens = 4096;  // beyond it vectors grow by themselves

}  // namespace

ActiveSample::ActiveSample(std::shared_ptr<const ActiveRequest> request, int32_t sample_index,
                           uint64_t sequence_id, uint64_t request_number)
    : request_(std::move(request)), sample_index_(sample_index) {
  const SampleRequest& asked = request_->request;
  sequence_.id = sequence_id;
  sequence_.request = request_number;
  sequence_.prompt_size = static_cast<int32_t>(asked.prompt_tokens.size());
  const size_t new_tokens =
      std::min<size_t>(request_->size_limit - sequence_.prompt_size, kReservedTokens);
  sequence_.tokens.reserve(sequence_.prompt_size + new_tokens);
  sequence_.tokens = asked.prompt_tokens;
  logprobs_.reserve(new_tokens);
  const bool controlled = asked.plan != nullptr && asked.plan->controlled;
  const bool text = asked.on_chunk != nullptr || !asked.sampling.stop.empty() || controlled ||
                    !asked.pause.at_text.empty();
  if (text && request_->tokenizer != nullptr) {
    decoder_.emplace(request_->tokenizer);
    stops_.emplace(asked.sampling.stop);
  }
  if (controlled) control_.emplace(asked.plan);
  if (asked.sampling.repetition_tokens > 0)
    repetition_.emplace(asked.sampling.repetition_tokens, asked.sampling.repetition_times);
  if (asked.begun != nullptr) {
    TakeUp(*asked.begun);
  } else if (controlled) {
    prefilled_ = Inject(asked.plan->prefill, /*version=*/0);
    FollowRepetition();
  }
}

void ActiveSample::TakeUp(const OpenResponse& open) {
  const Rollout& begun = open.rollout;
  sequence_.tokens.insert(sequence_.tokens.end(), begun.tokens.begin(), begun.tokens.end());
  logprobs_ = begun.logprobs;
  spans_ = begun.spans;
  injected_ = begun.injected;
  draws_ = static_cast<uint32_t>(open.draws);
  begun_routes_ = begun.routes;
  begun_tokens_ = sequence_.size();
  FollowRepetition();
  if (!decoder_) return;
  RebuildText();
  text_begin_ = streamed_ = stops_->text().size();
  if (control_) FollowControl();
}

// The first part was sampled by its own routes; those of its recomputation, perhaps under other
// weights, are not they. A token that was taken back has no say.
void ActiveSample::KeepBegunRoutes(std::vector<uint8_t>& routes) const {
  if (begun_routes_.empty() || routes.empty()) return;
  const size_t route_bytes = routes.size() / static_cast<size_t>(sequence_.size() - 1);
  const size_t kept = route_bytes * static_cast<size_t>(begun_tokens_ - 1);
  std::copy_n(begun_routes_.begin(), std::min(kept, begun_routes_.size()), routes.begin());
}

// Tells control what became of the response so far.
void ActiveSample::FollowControl() {
  const ThinkingPlan& plan = *request_->request.plan;
  IncrementalDecoder decoder(request_->tokenizer);
  const std::span<const int32_t> tokens = response();
  auto injected = injected_.begin();
  if (!plan.prefill.empty()) ++injected;  // the plan's start is behind it
  const size_t begin = plan.prefill.size();
  for (size_t i = 0; i < begin; ++i) decoder.Push(tokens[i]);
  for (size_t i = begin; i < tokens.size(); ++i) {
    const bool put_in = injected != injected_.end() && i == static_cast<size_t>(injected->begin);
    if (!put_in) {
      control_->Offer(decoder.Push(tokens[i]), /*stops=*/false, static_cast<int32_t>(i));
      continue;
    }
    control_->Injected(tokens.subspan(i, static_cast<size_t>(injected->count)));
    for (const size_t end = i + static_cast<size_t>(injected->count); i < end; ++i)
      decoder.Push(tokens[i]);
    --i;
    ++injected;
  }
}

void ActiveSample::FollowRepetition() {
  if (!repetition_) return;
  repetition_->Clear();
  repetition_begin_ = injected_.empty() ? 0
                                        : static_cast<size_t>(injected_.back().begin) +
                                              static_cast<size_t>(injected_.back().count);
  const std::span<const int32_t> sampled = response().subspan(repetition_begin_);
  for (size_t n = 1; n <= sampled.size(); ++n) repetition_->Push(sampled.first(n));
}

double ActiveSample::NextDraw() const {
  const SampleRequest& asked = request_->request;
  return UniformDraw(asked.sampling.seed, static_cast<uint32_t>(asked.first_sample + sample_index_),
                     draws_);
}

std::optional<int32_t> ActiveSample::GuidedRemaining() const {
  if (!control_ || !request_->request.plan->guided || !control_->inside()) return std::nullopt;
  if (!control_->at_start() && !ends_line_) return std::nullopt;
  return std::max(control_->remaining(), 1);
}

std::string ActiveSample::Decode(int32_t token) {
  std::string piece = decoder_->Push(token);
  ends_line_ = piece.find('\n') != std::string::npos;
  return piece;
}

std::optional<FinishReason> ActiveSample::Accept(const SampledToken& token, int64_t version) {
  ++draws_;
  kept_tokens_ = response_tokens();
  if (prefilled_ > 0) Stamp(version, std::exchange(prefilled_, 0));
  const bool stops = Stops(token.token);
  std::optional<FinishReason> ended;
  if (const ThinkRuling ruling = Rule(token.token, stops); ruling.keep) {
    Append(token.token, token.logprob, version, /*injected=*/false);
    if (!unsent_.empty() && !token.alternatives.empty()) {
      unsent_.back().alternatives = {token.alternatives};
    }
    Stamp(version, 1);
    ended_by_token_ = stops;
    // The token that ends a sample is not part of its text.
    ended_by_string_ = !stops && decoder_ && stops_->Push(Decode(token.token));
    if (stops || ended_by_string_) ended = FinishReason::kStop;
    const bool repeats = repetition_ && repetition_->Push(response().subspan(repetition_begin_));
    if (!ended && repeats) ended = FinishReason::kRepetition;
  } else {
    Drop(ruling.drop);
    Stamp(version, Inject(*ruling.inject, version));
    FollowRepetition();
  }
  if (!ended && sequence_.size() >= request_->size_limit) ended = FinishReason::kLength;
  if (!ended && Pauses()) ended = FinishReason::kUnspecified;
  if (!control_ || control_->pending() == 0) Flush(stops_ ? stops_->certain() : 0);
  return ended;
}

bool ActiveSample::Pauses() {
  const PauseRule& pause = request_->request.pause;
  if (!pause.any()) return false;
  const auto before = request_->request.begun == nullptr ? 0 : request_->request.begun->draws;
  if (static_cast<int32_t>(draws_) - before >= pause.after_draws) return true;
  if (pause.at_text.empty()) return false;
  const std::string& text = stops_->text();
  // What was looked through already is looked at again only as far as a match may reach back.
  const size_t seen = std::min(searched_, text.size());
  const size_t from = std::max(text_begin_, seen - std::min(seen, pause.at_text.size() - 1));
  searched_ = text.size();
  return text.find(pause.at_text, from) != std::string::npos;
}

bool ActiveSample::Stops(int32_t token) const {
  return std::ranges::binary_search(request_->stop_tokens, token);
}

ThinkRuling ActiveSample::Rule(int32_t token, bool stops) {
  if (!control_) return {};
  IncrementalDecoder probe = *decoder_;  // a token that is refused leaves no trace
  return control_->Offer(probe.Push(token), stops, response_tokens());
}

void ActiveSample::Append(int32_t token, float logprob, int64_t version, bool injected) {
  sequence_.tokens.push_back(token);
  logprobs_.push_back(logprob);
  if (!request_->request.on_chunk) return;
  unsent_.push_back({.sample_index = sample_index_,
                     .tokens = {token},
                     .logprobs = {logprob},
                     .version = version,
                     .injected = injected,
                     .text = {}});
}

int32_t ActiveSample::Inject(const std::vector<int32_t>& tokens, int64_t version) {
  const int32_t room = request_->size_limit - sequence_.size();
  const int32_t count = std::min(room, static_cast<int32_t>(tokens.size()));
  if (count <= 0) return 0;
  injected_.push_back({response_tokens(), count});
  for (int32_t i = 0; i < count; ++i) {
    Append(tokens[i], 0, version, /*injected=*/true);
    stops_->Append(Decode(tokens[i]));
  }
  return count;
}

void ActiveSample::Drop(int32_t count) {
  if (count == 0) return;
  kept_tokens_ = response_tokens() - count;
  sequence_.Rewind(sequence_.size() - count);
  begun_tokens_ = std::min(begun_tokens_, sequence_.size());
  logprobs_.resize(response_tokens());
  if (!unsent_.empty()) unsent_.resize(unsent_.size() - count);
  for (int32_t left = count; left > 0;) {
    VersionSpan& span = spans_.back();
    const int32_t taken = std::min(left, span.count);
    span.count -= taken;
    left -= taken;
    if (span.count == 0) spans_.pop_back();
  }
  RebuildText();
}

void ActiveSample::RebuildText() {
  decoder_.emplace(request_->tokenizer);
  stops_.emplace(request_->request.sampling.stop);
  ends_line_ = false;
  auto injected = injected_.begin();
  for (int32_t i = 0; i < response_tokens(); ++i) {
    while (injected != injected_.end() && i >= injected->begin + injected->count) ++injected;
    const std::string piece = Decode(sequence_.tokens[sequence_.prompt_size + i]);
    const bool sampled = injected == injected_.end() || i < injected->begin;
    if (sampled) {
      stops_->Push(piece);
    } else {
      stops_->Append(piece);
    }
  }
}

void ActiveSample::Stamp(int64_t version, int32_t count) {
  if (count == 0) return;
  if (spans_.empty() || spans_.back().version != version) spans_.push_back({version, 0});
  spans_.back().count += count;
}

// Sends what is held, and text up to `text_end`.
void ActiveSample::Flush(size_t text_end) {
  if (!request_->request.on_chunk) return;
  if (stops_ && text_end > streamed_) {
    if (unsent_.empty())
      unsent_.push_back({.sample_index = sample_index_,
                         .tokens = {},
                         .logprobs = {},
                         .version = spans_.empty() ? 0 : spans_.back().version,
                         .text = {}});
    unsent_.back().text = stops_->text().substr(streamed_, text_end - streamed_);
    streamed_ = text_end;
  }
  for (TokenChunk& chunk : unsent_) request_->request.on_chunk(std::move(chunk));
  unsent_.clear();
}

void ActiveSample::Finish(FinishReason reason, double generate_seconds,
                          std::vector<uint8_t> routes) {
  if (prefilled_ > 0) {  // no version ever sampled here: there is no response
    sequence_.Rewind(sequence_.prompt_size);
    logprobs_.clear();
    injected_.clear();
    unsent_.clear();
    RebuildText();
  }
  Rollout rollout;
  rollout.sample_index = sample_index_;
  rollout.tokens.assign(sequence_.tokens.begin() + sequence_.prompt_size, sequence_.tokens.end());
  rollout.logprobs = std::move(logprobs_);
  rollout.finish_reason = reason;
  rollout.generate_seconds = generate_seconds;
  if (decoder_) {
    // Bytes that were held back cannot complete a stop string any more than the text could.
    if (!ended_by_string_) stops_->Push(decoder_->Finish());
    rollout.text = stops_->text();
    Flush(rollout.text.size());
  } else {
    rollout.text = FinalText();
  }
  rollout.spans = std::move(spans_);
  rollout.injected = std::move(injected_);
  rollout.cached_prompt_tokens = std::clamp(sequence_.found, 0, sequence_.prompt_size);
  KeepBegunRoutes(routes);
  if (!rollout.tokens.empty()) rollout.routes = std::move(routes);
  if (request_->request.plan != nullptr)
    rollout.usage =
        CountUsage(*request_->request.plan, rollout, ended_by_token_, request_->tokenizer);
  if (request_->request.on_open) {
    request_->request.on_open({std::move(rollout), static_cast<int32_t>(draws_)});
  } else {
    request_->request.on_finished(std::move(rollout));
  }
}

std::string ActiveSample::FinalText() const {
  if (request_->tokenizer == nullptr) return {};
  const std::vector<int32_t> response(sequence_.tokens.begin() + sequence_.prompt_size,
                                      sequence_.tokens.end() - (ended_by_token_ ? 1 : 0));
  // Sampled ids are inside the vocabulary the model was loaded with; ids that only the padded
  // embedding knows have no text.
  return request_->tokenizer->Decode(response, /*skip_special_tokens=*/false).value_or("");
}

}  // namespace tramontane
