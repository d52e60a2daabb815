#include "generator/weighed_row.h"

#include <algorithm>
#include <cmath>

namespace tramontane {

RuledDraw::Row WeighedRow::Apply(const RuledDraw::Row& row, std::span<const float> weights_V,
                                 double temperature) {
  logits_.clear();
  ids_.clear();
  const auto size = static_cast<int32_t>(row.logits.size());
  const auto weight_of = [&](int32_t i) { return weights_V[static_cast<size_t>(row.IdOf(i))]; };
  float top = 0;
  for (int32_t i = 0; i < size; ++i) top = std::max(top, weight_of(i));
  kept_likeliest_ = !(top > 0);
  if (kept_likeliest_) {
    const auto likeliest = std::ranges::max_element(row.logits);
    ids_.push_back(row.IdOf(static_cast<int32_t>(likeliest - row.logits.begin())));
    logits_.push_back(*likeliest);
    return {logits_, ids_};
  }
  const double scale = temperature == 0 ? 1 : temperature;  // the sampler divides by it
  for (int32_t i = 0; i < size; ++i) {
    const float weight = weight_of(i);
    if (!(weight > 0)) continue;
    const double gain = scale * std::log(static_cast<double>(weight) / top);
    logits_.push_back(static_cast<float>(row.logits[static_cast<size_t>(i)] + gain));
    ids_.push_back(row.IdOf(i));
  }
  return {logits_, ids_};
}

}  // namespace tramontane
