// Helpers of the engine's tests: a small random model, a byte tokenizer, a collector of rollouts
// and two oracles that never page, batch or share anything.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "common/rollout.h"
#include "generator/engine.h"
#include "model/attention.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace tramontane {

inline constexpr int32_t kEndToken = 256;

// Two layers, hidden size 32, grouped queries, vocabulary 264 (bytes, then specials). `spread` is
// the standard deviation of the weights: large enough that greedy choices are clear.
std::shared_ptr<Transformer> TinyModel(uint64_t seed, double spread = 0.2);

// The same size as a Mixtral of 4 experts, 2 a token.
std::shared_ptr<Transformer> TinyMixture(uint64_t seed);

// Token i < 256 is byte i; 256 is the end token. `fallback`: in the way of SentencePiece, where a run
// of bytes becomes text when it has ended.
std::shared_ptr<const Tokenizer> ByteTokenizer(bool fallback = false);

// Gathers finished samples and chunks by request id.
class Collector {
 public:
  // Callbacks filled in; chunks only when `stream`.
  SampleRequest Request(const std::string& id, std::vector<int32_t> prompt,
                        const SamplingParams& sampling, int32_t n = 1, bool stream = false);
  // Waits until `count` samples have finished; false after a minute.
  bool WaitFinished(size_t count);
  // From now on the engine thread is held in the callback once `count` tokens have been streamed.
  void AllowStreamed(size_t count);
  // Waits until `count` tokens have been streamed.
  bool WaitStreamed(size_t count);

  std::map<int32_t, Rollout> rollouts(const std::string& id) const;  // by sample
  std::vector<TokenChunk> chunks(const std::string& id) const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::map<int32_t, Rollout>> rollouts_;
  std::map<std::string, std::vector<TokenChunk>> chunks_;
  size_t finished_ = 0, streamed_ = 0, allowed_ = SIZE_MAX;
};

// Submits everything to a fresh engine and waits: rollouts by request id and sample.
struct Ask {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  int32_t n = 1;
};
std::vector<std::map<int32_t, Rollout>> RunAll(const EngineOptions& options,
                                               const std::shared_ptr<Transformer>& model,
                                               const std::vector<Ask>& asks,
                                               EngineStats* stats = nullptr);

// Submits requests of one sample each, whose ids are "0", "1", …, and waits.
std::vector<Rollout> RunEach(Engine& engine, Collector& collector,
                             std::vector<SampleRequest> requests, EngineStats* stats = nullptr);

// log p(next token) over the vocabulary after `tokens`, by a full forward pass.
std::vector<float> FullForward(Transformer& model, const std::vector<int32_t>& tokens);

// Keys and values kept as plain growing tensors: what one sequence alone would see.
class GrowingAttention final : public Attention {
 public:
  at::Tensor Run(int64_t layer, const at::Tensor& q_THD, const at::Tensor& k_TKD,
                 const at::Tensor& v_TKD, double scale, int64_t window_tokens) override;

 private:
  std::vector<at::Tensor> keys_, values_;
};

}  // namespace tramontane
