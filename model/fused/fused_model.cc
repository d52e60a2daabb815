#include "model/fused/fused_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "model/fused/stage.h"

namespace tramontane {
namespace {

// Of the other stages, in the same unit: what touching one element costs.
constexpr int64_t kNormCost = 3, kRotateCost = 4;

int64_t DropBehind(const ModelConfig& config) {
  if (config.expert_layers() > 0 || config.mtp) return config.num_layers;
  int64_t l = config.num_layers - 1;
  while (l >= 0 && config.layers[l].kv_heads == 0) --l;
  return l;
}

int64_t MostExperts(const ModelConfig& config) {
  int64_t most = 0;
  for (const LayerShape& layer : config.layers) most = std::max(most, layer.experts);
  return most;
}

}  // namespace

PagedKv::PagedKv(const ModelConfig& config, int32_t blocks, int32_t block_tokens)
    : blocks_(blocks), block_tokens_(block_tokens) {
  int64_t floats = 0;
  for (size_t l = 0; l < config.layers.size(); ++l) {
    layers_.push_back({floats, config.kv_size(static_cast<int64_t>(l)) * block_tokens});
    floats += 2 * layers_.back().block_floats * blocks_;
  }
  data_ = FloatBuffer(floats);
}

void PagedKv::CopyBlock(int32_t from, int32_t to) const {
  for (size_t l = 0; l < layers_.size(); ++l) {
    const int64_t size = layers_[l].block_floats;
    for (float* cache : {keys(static_cast<int64_t>(l)), values(static_cast<int64_t>(l))})
      std::memcpy(cache + to * size, cache + from * size,
                  static_cast<size_t>(size) * sizeof(float));
  }
}

void FusedStep::Clear() {
  tokens.clear();
  positions.clear();
  wanted_rows.clear();
  paged.Clear();
}

FusedModel::FusedModel(const ModelConfig& config, RopeAngles angles, int64_t max_rows,
                       int64_t max_wanted, ThreadTeam& team)
    : config_(config),
      angles_(std::move(angles)),
      team_(team),
      ops_(kernels::Kernels<float>()),
      gemm_(kernels::Gemm()),
      x_stride_(WholeVectors(config.hidden_size)),
      qkv_stride_(WholeVectors(config.q_size() + 2 * config.most_kv_heads() * config.head_dim)),
      h_stride_(WholeVectors(config.most_mlp_width())),
      logit_stride_(WholeVectors(config.vocab_size)),
      drop_behind_(DropBehind(config)),
      router_stride_(WholeVectors(MostExperts(config))) {
  Reserve(max_rows, max_wanted, angles_.positions, 16);
}

void FusedModel::Reserve(int64_t rows, int64_t wanted, int64_t positions, int32_t block_tokens) {
  if (rows > rows_) {
    rows_ = rows;
    x_ = FloatBuffer(rows * x_stride_);
    normed_ = FloatBuffer(rows * config_.hidden_size);
    qkv_ = FloatBuffer(rows * qkv_stride_);
    attended_ = FloatBuffer(rows * config_.q_size());
    const int64_t slots = rows * config_.experts_per_token;
    h_ = FloatBuffer(std::max(rows, slots) * h_stride_);
    if (config_.mtp) {
      hidden_ = FloatBuffer(rows * config_.hidden_size);
      joint_ = FloatBuffer(rows * 2 * config_.hidden_size);
    }
    if (config_.expert_layers() > 0) {
      router_logits_ = FloatBuffer(rows * router_stride_);
      slot_inputs_ = FloatBuffer(slots * config_.hidden_size);
      slot_outputs_ = FloatBuffer(slots * x_stride_);
    }
  }
  if (wanted > wanted_) {
    wanted_ = wanted;
    logits_ = FloatBuffer(wanted * logit_stride_);
  }
  const int64_t scratch =
      WholeVectors(kernels::PagedScratch(config_.head_dim, block_tokens, positions));
  if (scratch > scratch_floats_) {
    scratch_floats_ = scratch;
    scratch_ = FloatBuffer(scratch * team_.members());
  }
}

LogitRows FusedModel::Forward(const PackedWeights& weights, const FusedStep& step,
                              const PagedKv& kv) {
  int64_t rows = static_cast<int64_t>(step.tokens.size());
  const int64_t wanted = static_cast<int64_t>(step.wanted_rows.size());
  Reserve(rows, wanted, angles_.positions, kv.block_tokens());
  Embed(weights, step);
  routes_.resize(rows * config_.route_size());
  const auto drop_unwanted = [&] {
    if (wanted < rows) KeepWanted(step);
    rows = wanted;
  };
  if (drop_behind_ < 0) drop_unwanted();
  int64_t with_experts = 0;
  for (int64_t l = 0; l < config_.num_layers; ++l) {
    const PackedLayer& layer = weights.layer(l);
    if (config_.layers[l].kv_heads > 0) {
      ProjectQkv(l, layer, step, kv);
      if (l == drop_behind_ && wanted == 0) return {};
      Attend(l, step, kv);
      if (l == drop_behind_) drop_unwanted();
      Multiply(layer.o, kernels::Epilogue::kAdd, rows, attended_.get(), config_.q_size(), x_.get(),
               x_stride_);
    }
    if (config_.layers[l].experts > 0) {
      Experts(l, with_experts++, layer, rows);
    } else if (config_.layers[l].mlp_width > 0) {
      Mlp(layer.mlps[0], layer, rows);
    }
  }
  if (config_.mtp) {
    Norm(weights.final_norm(), rows);
    std::memcpy(hidden_.get(), normed_.get(),
                static_cast<size_t>(rows * config_.hidden_size) * sizeof(float));
  }
  if (drop_behind_ == config_.num_layers) drop_unwanted();
  if (wanted == 0) return {};
  Norm(weights.final_norm(), rows);
  Multiply(weights.head(), kernels::Epilogue::kStore, rows, normed_.get(), config_.hidden_size,
           logits_.get(), logit_stride_);
  return {logits_.get(), logit_stride_, config_.vocab_size, normed_.get(), config_.hidden_size};
}

LogitRows FusedModel::Foresee(const PackedWeights& weights, const FusedStep& step,
                              const std::vector<int32_t>& from, const PagedKv& kv) {
  const int64_t rows = static_cast<int64_t>(step.tokens.size()), hidden = config_.hidden_size;
  const int64_t wanted = static_cast<int64_t>(step.wanted_rows.size()), l = config_.num_layers;
  const PackedMtp& mtp = weights.mtp();
  const PackedLayer& layer = weights.layer(l);
  Reserve(rows, wanted, angles_.positions, kv.block_tokens());
  Embed(weights, step);
  Share(team_, rows, 2 * kNormCost * rows * hidden, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* joint = joint_.get() + r * 2 * hidden;
      ops_.rms_norm(1, hidden, hidden_.get() + from[r] * hidden, mtp.hidden_norm,
                    config_.rms_norm_eps, joint, nullptr);
      ops_.rms_norm(1, hidden, x_.get() + r * x_stride_, mtp.token_norm, config_.rms_norm_eps,
                    joint + hidden, nullptr);
    }
  });
  Multiply(mtp.joint, kernels::Epilogue::kStore, rows, joint_.get(), 2 * hidden, x_.get(),
           x_stride_);
  ProjectQkv(l, layer, step, kv);
  if (wanted == 0) return {};
  Attend(l, step, kv);
  KeepWanted(step);
  Multiply(layer.o, kernels::Epilogue::kAdd, wanted, attended_.get(), config_.q_size(), x_.get(),
           x_stride_);
  Mlp(layer.mlps[0], layer, wanted);
  Norm(mtp.final_norm, wanted);
  Multiply(weights.head(), kernels::Epilogue::kStore, wanted, normed_.get(), hidden, logits_.get(),
           logit_stride_);
  return {logits_.get(), logit_stride_, config_.vocab_size};
}

void FusedModel::ProjectQkv(int64_t l, const PackedLayer& layer, const FusedStep& step,
                            const PagedKv& kv) {
  const int64_t rows = static_cast<int64_t>(step.tokens.size());
  Norm(layer.input_norm, rows);
  Multiply(layer.qkv, kernels::Epilogue::kStore, rows, normed_.get(), config_.hidden_size,
           qkv_.get(), qkv_stride_);
  Rotate(l, layer, step);
  WriteCache(l, step, kv);
}

void FusedModel::Mlp(const PackedMlp& mlp, const PackedLayer& layer, int64_t rows) {
  Norm(layer.post_norm, rows);
  Multiply(mlp.gate_up, kernels::Epilogue::kSwiGlu, rows, normed_.get(), config_.hidden_size,
           h_.get(), h_stride_);
  Multiply(mlp.down, kernels::Epilogue::kAdd, rows, h_.get(), h_stride_, x_.get(), x_stride_);
}

void FusedModel::Embed(const PackedWeights& weights, const FusedStep& step) {
  const int64_t size = config_.hidden_size;
  for (size_t r = 0; r < step.tokens.size(); ++r) {
    std::memcpy(x_.get() + r * x_stride_, weights.embedding() + step.tokens[r] * size,
                static_cast<size_t>(size) * sizeof(float));
  }
}

// normed = x / rms(x) * weight
void FusedModel::Norm(const float* weight, int64_t rows) {
  const int64_t size = config_.hidden_size;
  Share(team_, rows, kNormCost * rows * size, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      ops_.rms_norm(1, size, x_.get() + r * x_stride_, weight, config_.rms_norm_eps,
                    normed_.get() + r * size, nullptr);
    }
  });
}

void FusedModel::Multiply(const PackedMatrix& matrix, kernels::Epilogue epilogue, int64_t rows,
                          const float* x, int64_t x_stride, float* y, int64_t y_stride) {
  const int64_t panels = CeilDiv(matrix.outputs, gemm_.panel);
  const kernels::GemmCall call = CallOf(matrix, epilogue, rows, x, x_stride, y, y_stride, panels);
  const int64_t pieces = Pieces(rows * matrix.inputs * matrix.outputs, team_.members());
  if (pieces == 1) return gemm_.multiply(call);
  // By panels first, so that each weight is read by one thread; by rows where panels are few.
  const int64_t by_panel = std::min(panels, pieces);
  const int64_t tiles = CeilDiv(rows, gemm_.tile_rows);
  const int64_t by_row = std::min(tiles, CeilDiv(pieces, by_panel));
  team_.For(static_cast<int>(by_panel * by_row), [&](int piece, int) {
    const int64_t p = piece % by_panel, r = piece / by_panel;
    const int64_t first_row = tiles * r / by_row * gemm_.tile_rows;
    kernels::GemmCall part = call;
    part.rows = std::min(rows, tiles * (r + 1) / by_row * gemm_.tile_rows) - first_row;
    part.x += first_row * x_stride;
    part.y += first_row * y_stride;
    part.first_panel = panels * p / by_panel;
    part.end_panel = panels * (p + 1) / by_panel;
    gemm_.multiply(part);
  });
}

void FusedModel::Rotate(int64_t l, const PackedLayer& layer, const FusedStep& step) {
  const int64_t rows = static_cast<int64_t>(step.tokens.size());
  const int64_t work = kRotateCost * rows * (config_.q_size() + config_.kv_size(l));
  Share(team_, rows, work, [&](int64_t begin, int64_t end, int) {
    kernels::HeadRope<float> args;
    args.rows = end - begin;
    args.heads = config_.num_heads;
    args.kv_heads = config_.layers[l].kv_heads;
    args.head_dim = config_.head_dim;
    args.x = qkv_.get() + begin * qkv_stride_;
    args.x_stride = qkv_stride_;
    args.q_weight = layer.q_norm;
    args.k_weight = layer.k_norm;
    args.eps = config_.rms_norm_eps;
    args.cos = angles_.cos.data();
    args.sin = angles_.sin.data();
    args.table_row = step.positions.data() + begin;
    ops_.head_rope(args, qkv_.get() + begin * qkv_stride_, qkv_stride_, nullptr);
  });
}

kernels::PagedRows<float> FusedModel::RowsOf(int64_t l, const PagedSequence& sequence,
                                             const FusedStep& step, const PagedKv& kv) const {
  const float* qkv = qkv_.get() + sequence.first_row * qkv_stride_;
  kernels::PagedRows<float> rows;
  rows.rows = sequence.num_rows;
  rows.first_position = sequence.first_position;
  rows.block_table = step.paged.block_tables.data() + sequence.table_begin;
  rows.block_tokens = kv.block_tokens();
  rows.heads = config_.num_heads;
  rows.kv_heads = config_.layers[l].kv_heads;
  rows.head_dim = config_.head_dim;
  rows.q = qkv;
  rows.k = qkv + config_.q_size();
  rows.v = rows.k + config_.kv_size(l);
  rows.q_stride = rows.k_stride = rows.v_stride = qkv_stride_;
  rows.k_cache = kv.keys(l);
  rows.v_cache = kv.values(l);
  rows.scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  rows.window = config_.layers[l].window;
  rows.out = attended_.get() + sequence.first_row * config_.q_size();
  return rows;
}

// All writes come before any attention: a sequence may share blocks with another one of the step.
void FusedModel::WriteCache(int64_t l, const FusedStep& step, const PagedKv& kv) {
  const auto& sequences = step.paged.sequences;
  const int64_t rows = static_cast<int64_t>(step.tokens.size());
  Share(team_, static_cast<int64_t>(sequences.size()), kRotateCost * rows * 2 * config_.kv_size(l),
        [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) ops_.paged_write(RowsOf(l, sequences[i], step, kv));
        });
}

void FusedModel::Attend(int64_t l, const FusedStep& step, const PagedKv& kv) {
  const auto& sequences = step.paged.sequences;
  const int64_t kv_heads = config_.layers[l].kv_heads;
  int64_t scores = 0;
  for (const PagedSequence& s : sequences) scores += s.num_rows * (s.first_position + s.num_rows);
  const int64_t items = static_cast<int64_t>(sequences.size()) * kv_heads;
  Share(team_, items, 3 * scores * config_.q_size(), [&](int64_t begin, int64_t end, int member) {
    for (int64_t item = begin; item < end;) {
      auto rows = RowsOf(l, sequences[item / kv_heads], step, kv);
      rows.first_kv_head = item % kv_heads;
      rows.end_kv_head = std::min(kv_heads, rows.first_kv_head + end - item);
      rows.scratch = scratch_.get() + member * scratch_floats_;
      ops_.paged_attend(rows);
      item += rows.end_kv_head - rows.first_kv_head;
    }
  });
}

// Moves what the layers behind the last attention need of the wanted rows to the front.
void FusedModel::KeepWanted(const FusedStep& step) {
  for (size_t i = 0; i < step.wanted_rows.size(); ++i) {
    const int64_t row = step.wanted_rows[i];  // ≥ i
    std::memmove(x_.get() + i * x_stride_, x_.get() + row * x_stride_,
                 static_cast<size_t>(config_.hidden_size) * sizeof(float));
    std::memmove(attended_.get() + i * config_.q_size(), attended_.get() + row * config_.q_size(),
                 static_cast<size_t>(config_.q_size()) * sizeof(float));
  }
}

}  // namespace tramontane
