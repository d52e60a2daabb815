// One sample from its first token to its finished Rollout: stop rules, text, version spans.
// Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "common/rollout.h"
#include "generator/core/sampler.h"
#include "generator/core/sequence.h"
#include "generator/core/stop_strings.h"
#include "generator/engine.h"
#include "text/tokenizer.h"

namespace tramontane {

// What the samples of one request have in common.
struct ActiveRequest {
  SampleRequest request;
  std::vector<int32_t> stop_tokens;  // end tokens of the model, unless ignored, and the request's
  int32_t size_limit = 0;            // prompt and response together
  std::shared_ptr<const Tokenizer> tokenizer;  // may be null: no text
};

class ActiveSample {
 public:
  ActiveSample(std::shared_ptr<const ActiveRequest> request, int32_t sample_index,
               uint64_t sequence_id, uint64_t request_number);

  Sequence& sequence() { return sequence_; }
  const ActiveRequest& request() const { return *request_; }
  int32_t sample_index() const { return sample_index_; }

  // The draw for the next token: a function of seed, sample index and response position only.
  double NextDraw() const;
  // Takes the drawn token, streams it, and says whether it ended the sample.
  // `token.finite` must hold.
  std::optional<FinishReason> Accept(const SampledToken& token, int64_t version);
  // Streams what is left of the text and hands the rollout to the request's callback.
  void Finish(FinishReason reason, double generate_seconds);

 private:
  std::optional<FinishReason> Ended(int32_t token) const;
  void Stamp(int64_t version);
  void Stream(const SampledToken* token, int64_t version, size_t text_end);
  std::string FinalText() const;

  const std::shared_ptr<const ActiveRequest> request_;
  const int32_t sample_index_;
  Sequence sequence_;
  std::vector<float> logprobs_;
  std::vector<VersionSpan> spans_;
  bool ended_by_token_ = false;
  // Text while it grows; only for requests that stream or have stop strings.
  std::optional<IncrementalDecoder> decoder_;
  std::optional<StopStrings> stops_;
  size_t streamed_ = 0;  // bytes of text already sent
};

}  // namespace tramontane
