#include "model/fused/expert_choice.h"

#include <algorithm>
#include <cmath>

namespace tramontane {

void ChooseExperts(std::span<const float> logits, bool normalise, std::span<uint8_t> chosen,
                   std::span<float> share) {
  size_t held = 0;
  for (size_t e = 0; e < logits.size(); ++e) {
    size_t place = held;
    while (place > 0 && logits[e] > logits[chosen[place - 1]]) --place;
    if (place == chosen.size()) continue;
    held = std::min(held + 1, chosen.size());
    for (size_t i = held - 1; i > place; --i) chosen[i] = chosen[i - 1];
    chosen[place] = static_cast<uint8_t>(e);
  }
  const float top = logits[chosen[0]];
  float all = 0, kept = 0;
  for (const float logit : logits) all += std::exp(logit - top);
  for (size_t i = 0; i < chosen.size(); ++i) kept += share[i] = std::exp(logits[chosen[i]] - top);
  for (float& s : share) s /= normalise ? kept : all;
}

void ExpertGroups::Sort(std::span<const uint8_t> chosen, int64_t experts) {
  begin.assign(static_cast<size_t>(experts) + 1, 0);
  for (const uint8_t expert : chosen) ++begin[expert + 1];
  for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
  next_ = begin;
  slots.resize(chosen.size());
  place.resize(chosen.size());
  for (size_t slot = 0; slot < chosen.size(); ++slot) {
    place[slot] = next_[chosen[slot]]++;
    slots[place[slot]] = static_cast<int32_t>(slot);
  }
}

}  // namespace tramontane
