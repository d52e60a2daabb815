#include "model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tramontane {

namespace {

// Positions kept ready; longer contexts pay for their cosines when they come.
constexpr int64_t kMostTablePositions = 16384;

at::Tensor Exponents(int64_t dim) {
  return at::arange(0, dim, 2, at::TensorOptions().dtype(at::kLong)).to(at::kFloat) /
         static_cast<double>(dim);
}

at::Tensor InverseFrequencies(double base, int64_t dim) {
  return 1.0 / at::pow(base, Exponents(dim));
}

// NTK-aware growth of the base with the sequence length.
double DynamicBase(const ModelConfig& config, int64_t length) {
  const double dim = static_cast<double>(config.head_dim);
  const double most = static_cast<double>(config.max_position_embeddings);
  const double stretch = config.rope_scaling.factor * static_cast<double>(length) / most -
                         (config.rope_scaling.factor - 1);
  return config.rope_theta * std::pow(stretch, dim / (dim - 2));
}

at::Tensor Llama3Frequencies(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  const double old_length = static_cast<double>(s.original_max_position_embeddings);
  const double low_wavelength = old_length / s.low_freq_factor;
  const double high_wavelength = old_length / s.high_freq_factor;
  const at::Tensor inv_freq = InverseFrequencies(config.rope_theta, config.head_dim);
  const at::Tensor wavelength = 2 * std::numbers::pi / inv_freq;
  const at::Tensor scaled = at::where(wavelength > low_wavelength, inv_freq / s.factor, inv_freq);
  const at::Tensor smooth =
      (old_length / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  const at::Tensor smoothed = (1 - smooth) * scaled / s.factor + smooth * scaled;
  const at::Tensor medium =
      at::logical_and(wavelength >= high_wavelength, wavelength <= low_wavelength);
  return at::where(medium, smoothed, scaled);
}

double YarnMscale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

double YarnAttentionFactor(const RopeScaling& s) {
  if (s.attention_factor) return *s.attention_factor;
  if (s.mscale.value_or(0) != 0 && s.mscale_all_dim.value_or(0) != 0) {
    return YarnMscale(s.factor, *s.mscale) / YarnMscale(s.factor, *s.mscale_all_dim);
  }
  return YarnMscale(s.factor, 1);
}

// Interpolates slow dimensions, keeps fast ones, with a linear ramp between.
at::Tensor YarnFrequencies(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  const double dim = static_cast<double>(config.head_dim);
  const auto dimension_of = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(s.original_max_position_embeddings) /
                    (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  double low = dimension_of(s.beta_fast), high = dimension_of(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(config.head_dim / 2, at::TensorOptions().dtype(at::kFloat)) - low) /
       (high - low))
          .clamp(0, 1);
  const at::Tensor frequency = at::pow(config.rope_theta, Exponents(config.head_dim));
  const at::Tensor keep = 1 - ramp;
  return 1.0 / (s.factor * frequency) * (1 - keep) + 1.0 / frequency * keep;
}

at::Tensor FrequenciesOf(const ModelConfig& config) {
  const std::string& kind = config.rope_scaling.kind;
  if (kind == "llama3") return Llama3Frequencies(config);
  if (kind == "yarn") return YarnFrequencies(config);
  const at::Tensor inv_freq = InverseFrequencies(config.rope_theta, config.head_dim);
  return kind == "linear" ? inv_freq / config.rope_scaling.factor : inv_freq;
}

int64_t Largest(const at::Tensor& positions_cpu) {
  const int64_t* p = positions_cpu.const_data_ptr<int64_t>();
  int64_t largest = -1;
  for (int64_t t = 0; t < positions_cpu.numel(); ++t) largest = std::max(largest, p[t]);
  return largest;
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config, at::Device device, at::ScalarType dtype)
    : config_(config),
      device_(device),
      dtype_(dtype),
      inv_freq_H_(FrequenciesOf(config)),
      attention_scaling_(
          config.rope_scaling.kind == "yarn" ? YarnAttentionFactor(config.rope_scaling) : 1.0),
      table_positions_(
          std::clamp<int64_t>(config.max_position_embeddings, 1, kMostTablePositions)) {
  const RopeRows all =
      Compute(at::arange(table_positions_, at::TensorOptions().dtype(at::kLong)), inv_freq_H_);
  cos_PH_ = all.cos_PH;
  sin_PH_ = all.sin_PH;
}

RopeRows RopeTable::Compute(const at::Tensor& positions_T, const at::Tensor& inv_freq_or_TH) const {
  const at::Tensor angles = positions_T.to(at::kFloat).unsqueeze(1) * inv_freq_or_TH;
  const auto finish = [&](const at::Tensor& t) {
    return (t * attention_scaling_).to(device_, dtype_).contiguous();
  };
  return {finish(angles.cos()), finish(angles.sin()),
          at::arange(positions_T.numel(), at::TensorOptions().dtype(at::kLong).device(device_))};
}

RopeRows RopeTable::First(int64_t n) const {
  return Compute(at::arange(n, at::TensorOptions().dtype(at::kLong)), inv_freq_H_);
}

RopeRows RopeTable::For(const at::Tensor& positions_T, const Attention& attention) const {
  const at::Tensor positions = positions_T.to(at::kCPU).contiguous();
  const bool dynamic = config_.rope_scaling.kind == "dynamic";
  if (dynamic) {
    const int64_t* p = positions.const_data_ptr<int64_t>();
    const std::vector<int64_t> lengths =
        attention.RopeLengths(std::vector<int64_t>(p, p + positions.numel()));
    const int64_t most = config_.max_position_embeddings;
    if (std::any_of(lengths.begin(), lengths.end(), [&](int64_t n) { return n > most; })) {
      std::vector<at::Tensor> rows;
      int64_t of_length = -1;
      at::Tensor row;
      for (int64_t length : lengths) {
        if (std::max(length, most) != of_length) {
          of_length = std::max(length, most);
          row = InverseFrequencies(DynamicBase(config_, of_length), config_.head_dim);
        }
        rows.push_back(row);
      }
      return Compute(positions, at::stack(rows));
    }
  }
  if (Largest(positions) >= table_positions_) return Compute(positions, inv_freq_H_);
  return {cos_PH_, sin_PH_, positions.to(device_)};
}

}  // namespace tramontane
