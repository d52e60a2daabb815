// Which rows of a step go to which experts, for the fused engine. Plain arrays, pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tramontane {

// The experts of the `chosen.size()` largest logits, largest first, ties by number, and their
// shares: softmax probabilities over all experts, scaled to sum to 1 where `normalise`. At most 255
// experts, and no fewer than are chosen.
void ChooseExperts(std::span<const float> logits, bool normalise, std::span<uint8_t> chosen,
                   std::span<float> share);

// Slots (row r's i-th expert is slot r k + i) sorted by expert; within one, by slot.
struct ExpertGroups {
  std::vector<int32_t> slots;
  std::vector<int32_t> begin;  // experts + 1: where each expert's slots start
  std::vector<int32_t> place;  // of each slot among the sorted ones

  void Sort(std::span<const uint8_t> chosen, int64_t experts);

 private:
  std::vector<int32_t> next_;
};

}  // namespace tramontane
