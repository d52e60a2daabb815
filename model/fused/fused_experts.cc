// The stages of a layer with experts.
#include <cstring>

#include "model/fused/fused_model.h"
#include "model/fused/stage.h"

namespace tramontane {

void FusedModel::Experts(int64_t l, int64_t nth, const PackedLayer& layer, int64_t rows) {
  const int64_t hidden = config_.hidden_size, k = config_.experts_per_token;
  Norm(layer.post_norm, rows);
  Multiply(layer.router, kernels::Epilogue::kStore, rows, normed_.get(), hidden,
           router_logits_.get(), router_stride_);
  ChooseRoutes(nth, config_.layers[l].experts, rows);
  groups_.Sort(chosen_, config_.layers[l].experts);
  Share(team_, rows * k, rows * k * hidden, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(slot_inputs_.get() + i * hidden, normed_.get() + groups_.slots[i] / k * hidden,
                  static_cast<size_t>(hidden) * sizeof(float));
    }
  });
  MultiplyByExperts(layer, &PackedMlp::gate_up, kernels::Epilogue::kSwiGlu, slot_inputs_.get(),
                    hidden, h_.get(), h_stride_);
  MultiplyByExperts(layer, &PackedMlp::down, kernels::Epilogue::kStore, h_.get(), h_stride_,
                    slot_outputs_.get(), x_stride_);
  AddByShares(rows);
}

void FusedModel::ChooseRoutes(int64_t nth, int64_t experts, int64_t rows) {
  const auto k = static_cast<size_t>(config_.experts_per_token);
  chosen_.resize(rows * k);
  shares_.resize(rows * k);
  const std::span<uint8_t> chosen(chosen_);
  const std::span<float> shares(shares_);
  for (int64_t r = 0; r < rows; ++r) {
    ChooseExperts({router_logits_.get() + r * router_stride_, static_cast<size_t>(experts)},
                  config_.normalise_experts, chosen.subspan(r * k, k), shares.subspan(r * k, k));
    std::memcpy(routes_.data() + r * config_.route_size() + nth * k, chosen_.data() + r * k, k);
  }
}

void FusedModel::MultiplyByExperts(const PackedLayer& layer, PackedMatrix PackedMlp::*matrix,
                                   kernels::Epilogue epilogue, const float* x, int64_t x_stride,
                                   float* y, int64_t y_stride) {
  calls_.clear();
  int64_t panels = 0, work = 0;
  for (size_t e = 0; e < layer.mlps.size(); ++e) {
    const int64_t first = groups_.begin[e], count = groups_.begin[e + 1] - first;
    if (count == 0) continue;
    const PackedMatrix& weights = layer.mlps[e].*matrix;
    panels = CeilDiv(weights.outputs, gemm_.panel);
    work += count * weights.inputs * weights.outputs;
    calls_.push_back(CallOf(weights, epilogue, count, x + first * x_stride, x_stride,
                            y + first * y_stride, y_stride, panels));
  }
  if (calls_.empty()) return;
  const auto calls = static_cast<int64_t>(calls_.size());
  const int64_t parts = std::min(panels, CeilDiv(Pieces(work, team_.members()), calls));
  Share(team_, calls * parts, work, [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      kernels::GemmCall call = calls_[piece / parts];
      call.first_panel = panels * (piece % parts) / parts;
      call.end_panel = panels * (piece % parts + 1) / parts;
      gemm_.multiply(call);
    }
  });
}

// x += each row's experts' outputs by their shares, the likeliest first.
void FusedModel::AddByShares(int64_t rows) {
  const int64_t hidden = config_.hidden_size, k = config_.experts_per_token;
  Share(team_, rows, rows * k * hidden, [&](int64_t begin, int64_t end, int) {
    for (int64_t slot = begin * k; slot < end * k; ++slot) {
      float* x = x_.get() + slot / k * x_stride_;
      const float* y = slot_outputs_.get() + groups_.place[slot] * x_stride_;
      const float share = shares_[slot];
      for (int64_t i = 0; i < hidden; ++i) x[i] += share * y[i];
    }
  });
}

}  // namespace tramontane
