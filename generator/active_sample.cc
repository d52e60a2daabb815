#include "generator/active_sample.h"

#include <algorithm>

#include "generator/core/philox.h"

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
  const bool text = asked.on_chunk != nullptr || !asked.sampling.stop.empty();
  if (text && request_->tokenizer != nullptr) {
    decoder_.emplace(request_->tokenizer);
    stops_.emplace(asked.sampling.stop);
  }
}

double ActiveSample::NextDraw() const {
  return UniformDraw(request_->request.sampling.seed, static_cast<uint32_t>(sample_index_),
                     static_cast<uint32_t>(logprobs_.size()));
}

std::optional<FinishReason> ActiveSample::Accept(const SampledToken& token, int64_t version) {
  sequence_.tokens.push_back(token.token);
  logprobs_.push_back(token.logprob);
  Stamp(version);
  std::optional<FinishReason> ended = Ended(token.token);
  ended_by_token_ = ended == FinishReason::kStop;
  // The token that ends a sample is not part of its text.
  if (decoder_ && !ended_by_token_ && stops_->Push(decoder_->Push(token.token)))
    ended = FinishReason::kStop;
  const size_t text_end = stops_ ? stops_->certain() : 0;
  if (request_->request.on_chunk) Stream(&token, version, text_end);
  return ended;
}

std::optional<FinishReason> ActiveSample::Ended(int32_t token) const {
  const std::vector<int32_t>& stops = request_->stop_tokens;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FinishReason::kStop;
  if (sequence_.size() >= request_->size_limit) return FinishReason::kLength;
  return std::nullopt;
}

void ActiveSample::Stamp(int64_t version) {
  if (spans_.empty() || spans_.back().version != version) spans_.push_back({version, 0});
  ++spans_.back().count;
}

// One chunk: a token if there is one, and text up to `text_end`.
void ActiveSample::Stream(const SampledToken* token, int64_t version, size_t text_end) {
  TokenChunk chunk;
  chunk.sample_index = sample_index_;
  chunk.version = version;
  if (token != nullptr) {
    chunk.tokens = {token->token};
    chunk.logprobs = {token->logprob};
  }
  if (stops_ && text_end > streamed_) {
    chunk.text = stops_->text().substr(streamed_, text_end - streamed_);
    streamed_ = text_end;
  }
  request_->request.on_chunk(std::move(chunk));
}

void ActiveSample::Finish(FinishReason reason, double generate_seconds) {
  Rollout rollout;
  rollout.sample_index = sample_index_;
  rollout.tokens.assign(sequence_.tokens.begin() + sequence_.prompt_size, sequence_.tokens.end());
  rollout.logprobs = std::move(logprobs_);
  rollout.finish_reason = reason;
  rollout.generate_seconds = generate_seconds;
  const bool stopped_by_string = decoder_ && reason == FinishReason::kStop && !ended_by_token_;
  if (decoder_) {
    // Bytes that were held back cannot complete a stop string any more than the text could.
    if (!stopped_by_string) stops_->Push(decoder_->Finish());
    rollout.text = stops_->text();
    if (request_->request.on_chunk && streamed_ < rollout.text.size())
      Stream(nullptr, spans_.empty() ? 0 : spans_.back().version, rollout.text.size());
  } else {
    rollout.text = FinalText();
  }
  rollout.spans = std::move(spans_);
  request_->request.on_finished(std::move(rollout));
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
