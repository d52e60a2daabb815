// One sample from its first token to its finished Rollout: stop rules, thinking control, text,
// version spans. Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/rollout.h"
#include "generator/core/repetition.h"
#include "generator/core/sampler.h"
#include "generator/core/sequence.h"
#include "generator/core/stop_strings.h"
#include "generator/core/think_control.h"
#include "generator/engine.h"
#include "text/tokenizer.h"

namespace tramontane {

// What the samples of one request have in common.
struct ActiveRequest {
  SampleRequest request;
  // End tokens of the model, unless ignored, and the request's; ascending.
  std::vector<int32_t> stop_tokens;
  int32_t size_limit = 0;                      // prompt and response together
  std::shared_ptr<const Tokenizer> tokenizer;  // may be null: no text
};

class ActiveSample {
 public:
  ActiveSample(std::shared_ptr<const ActiveRequest> request, int32_t sample_index,
               uint64_t sequence_id, uint64_t request_number);

  Sequence& sequence() { return sequence_; }
  const Sequence& sequence() const { return sequence_; }
  const ActiveRequest& request() const { return *request_; }
  int32_t sample_index() const { return sample_index_; }
  const ThinkControl* thinking() const { return control_ ? &*control_ : nullptr; }
  int32_t injected_tokens() const { return static_cast<int32_t>(CountTokens(injected_)); }
  const std::vector<TokenSpan>& injected() const { return injected_; }
  std::span<const int32_t> response() const {
    return std::span(sequence_.tokens).subspan(static_cast<size_t>(sequence_.prompt_size));
  }
  // Tokens of the response that the last Accept left as they were.
  int32_t kept_tokens() const { return kept_tokens_; }

  // Tokens of the budget that are left, 1 at least, where the next token is to be guided: the first
  // thought, and those that follow a line's end.
  std::optional<int32_t> GuidedRemaining() const;
  // The draw for the next token: a function of seed, sample index and number of draws only.
  double NextDraw() const;
  // Takes the drawn token, or what thinking control puts in its place, streams it, and says
  // whether it ended the sample. `token.finite` must hold.
  std::optional<FinishReason> Accept(const SampledToken& token, int64_t version);
  // Streams what is left of the text and hands the rollout to the request's callback, with `routes`
  // of all its tokens but the last.
  void Finish(FinishReason reason, double generate_seconds, std::vector<uint8_t> routes);

 private:
  void TakeUp(const OpenResponse& open);
  void KeepBegunRoutes(std::vector<uint8_t>& routes) const;
  void FollowControl();
  // Looks anew at what was sampled behind the last injected token.
  void FollowRepetition();
  bool Pauses();
  int32_t response_tokens() const { return sequence_.size() - sequence_.prompt_size; }
  bool Stops(int32_t token) const;
  ThinkRuling Rule(int32_t token, bool stops);
  void Append(int32_t token, float logprob, int64_t version, bool injected);
  // As many as there is room for; the caller stamps them.
  int32_t Inject(const std::vector<int32_t>& tokens, int64_t version);
  void Drop(int32_t count);
  // Decodes the response anew, after tokens were taken back.
  void RebuildText();
  void Stamp(int64_t version, int32_t count);
  void Flush(size_t text_end);
  std::string FinalText() const;
  std::string Decode(int32_t token);

  const std::shared_ptr<const ActiveRequest> request_;
  const int32_t sample_index_;
  Sequence sequence_;
  std::vector<float> logprobs_;
  std::vector<VersionSpan> spans_;
  std::vector<TokenSpan> injected_;
  // Of the first part of a response that was taken up: through which experts its tokens went then.
  std::vector<uint8_t> begun_routes_;
  int32_t begun_tokens_ = 0;  // prompt and response that these are of, less what was taken back
  int32_t prefilled_ = 0;  // injected before any version sampled: stamped with the first draw
  uint32_t draws_ = 0;
  int32_t kept_tokens_ = 0;
  bool ended_by_token_ = false, ended_by_string_ = false;
  std::optional<ThinkControl> control_;
  bool ends_line_ = false;  // the newest token's text holds a line's end; where there is text
  std::optional<RepetitionRule> repetition_;
  size_t repetition_begin_ = 0;  // of the response: what was sampled in one go begins here
  // Text while it grows; only for requests that stream, have stop strings or control thinking.
  std::optional<IncrementalDecoder> decoder_;
  std::optional<StopStrings> stops_;
  std::vector<TokenChunk> unsent_;  // one per token; held while control may take them back
  size_t streamed_ = 0;             // bytes of text already sent
  // Of a pause's text: bytes that were there before this request, and that were looked through.
  size_t text_begin_ = 0, searched_ = 0;
};

}  // namespace tramontane
