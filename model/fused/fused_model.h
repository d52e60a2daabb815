// The decoder-only transformer as one fused pass over a step's tokens on the CPU, for generating.
// Torch-free; what it computes is what Transformer computes, to rounding.
//
// A layer is eight stages (norm; q, k, v; rotation and cache write; attention; output projection
// onto the residual; norm; gate and up with SwiGLU; down projection onto the residual) but for
// those of an absent attention or MLP, each shared out over the team when it is large enough. Where
// a layer has experts, rows are sorted by the expert they go to, so that each expert's weights are
// read once in a step. A token's result depends on its own sequence alone:
// neither on the batch it is computed in, nor on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/fused/expert_choice.h"
#include "model/fused/float_buffer.h"
#include "model/fused/packed_weights.h"
#include "model/fused/thread_team.h"
#include "model/logit_rows.h"
#include "model/model_config.h"
#include "model/ops/cpu/kernels.h"
#include "model/ops/paged_batch.h"

namespace tramontane {

// Rotation angles of positions 0, 1, …: [positions, head_dim / 2] each.
struct RopeAngles {
  std::vector<float> cos, sin;
  int64_t positions = 0;
};

// Keys and values of every layer, laid out as model/ops/paged_attention.h says.
class PagedKv {
 public:
  PagedKv(const ModelConfig& config, int32_t blocks, int32_t block_tokens);

  float* keys(int64_t layer) const { return data_.get() + layers_[layer].begin; }
  float* values(int64_t layer) const { return keys(layer) + layers_[layer].block_floats * blocks_; }
  int32_t block_tokens() const { return block_tokens_; }
  void CopyBlock(int32_t from, int32_t to) const;

 private:
  struct Layer {
    int64_t begin = 0, block_floats = 0;  // block_floats for keys, as many for values
  };

  const int64_t blocks_;
  const int32_t block_tokens_;
  std::vector<Layer> layers_;
  FloatBuffer data_;
};

// One step's input. Rows are tokens, in the order of paged.sequences.
struct FusedStep {
  std::vector<int32_t> tokens;
  std::vector<int64_t> positions;
  std::vector<int64_t> wanted_rows;  // whose logits are computed; ascending
  PagedBatch paged;

  void Clear();
};

class FusedModel {
 public:
  // Room for `max_rows` rows and the logits of `max_wanted` of them; more make it grow. `team`
  // outlives this. Positions must lie within `angles`.
  FusedModel(const ModelConfig& config, RopeAngles angles, int64_t max_rows, int64_t max_wanted,
             ThreadTeam& team);

  // Writes the step's keys and values into `kv` and returns float32 logits [wanted rows, vocab] and
  // what they were made of, valid until the next call. One thread at a time.
  LogitRows Forward(const PackedWeights& weights, const FusedStep& step, const PagedKv& kv);
  // The multi-token-prediction head, for models with one: logits [wanted rows, vocab] that foresee
  // the token behind each of `step`'s tokens, which followed rows `from` of the last Forward at
  // `step`'s positions. Writes the head's keys and values. Valid until the next call.
  LogitRows Foresee(const PackedWeights& weights, const FusedStep& step,
                    const std::vector<int32_t>& from, const PagedKv& kv);
  // Through which experts the last step's rows went: [rows, expert layers, experts per token], the
  // likeliest first; empty for models without experts. Valid until the next call.
  std::span<const uint8_t> routes() const { return routes_; }

 private:
  void Reserve(int64_t rows, int64_t wanted, int64_t positions, int32_t block_tokens);
  void Embed(const PackedWeights& weights, const FusedStep& step);
  void Norm(const float* weight, int64_t rows);
  void Multiply(const PackedMatrix& matrix, kernels::Epilogue epilogue, int64_t rows,
                const float* x, int64_t x_stride, float* y, int64_t y_stride);
  // q, k and v of the step's rows, rotated, keys and values in the cache.
  void ProjectQkv(int64_t l, const PackedLayer& layer, const FusedStep& step, const PagedKv& kv);
  void Mlp(const PackedMlp& mlp, const PackedLayer& layer, int64_t rows);
  // The nth layer of those with experts.
  void Experts(int64_t l, int64_t nth, const PackedLayer& layer, int64_t rows);
  void ChooseRoutes(int64_t nth, int64_t experts, int64_t rows);
  // One product of each expert that has rows, over its part of the sorted ones.
  void MultiplyByExperts(const PackedLayer& layer, PackedMatrix PackedMlp::*matrix,
                         kernels::Epilogue epilogue, const float* x, int64_t x_stride, float* y,
                         int64_t y_stride);
  void AddByShares(int64_t rows);
  void Rotate(int64_t l, const PackedLayer& layer, const FusedStep& step);
  void WriteCache(int64_t l, const FusedStep& step, const PagedKv& kv);
  void Attend(int64_t l, const FusedStep& step, const PagedKv& kv);
  void KeepWanted(const FusedStep& step);
  kernels::PagedRows<float> RowsOf(int64_t l, const PagedSequence& sequence, const FusedStep& step,
                                   const PagedKv& kv) const;

  const ModelConfig config_;
  const RopeAngles angles_;
  ThreadTeam& team_;
  const kernels::KernelTable<float>& ops_;
  const kernels::GemmTable& gemm_;
  // Row strides, in floats: whole vectors.
  const int64_t x_stride_, qkv_stride_, h_stride_, logit_stride_;
  // Behind this layer's attention only the wanted rows go on: no row meets another there. −1: from
  // the start; num_layers: never, because routes or hidden states are wanted of all.
  const int64_t drop_behind_;
  int64_t rows_ = 0, wanted_ = 0, scratch_floats_ = 0;  // what there is room for
  FloatBuffer x_, normed_, qkv_, attended_, h_, logits_, scratch_;
  FloatBuffer hidden_, joint_;  // for the multi-token-prediction head
  // Of layers with experts. Slots are a row's experts; sorted ones lie side by side by expert.
  const int64_t router_stride_;
  FloatBuffer router_logits_, slot_inputs_, slot_outputs_;
  std::vector<uint8_t> routes_, chosen_;
  std::vector<float> shares_;  // [rows, experts per token], like chosen_
  ExpertGroups groups_;
  std::vector<kernels::GemmCall> calls_;
};

}  // namespace tramontane
