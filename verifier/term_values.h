// The closed forms behind the terms of terms.h. Lengths in tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tramontane {

// 0 up to max − cache tokens, then falling linearly to −1 at max and beyond.
double SoftOverlong(int32_t tokens, int32_t max_tokens, int32_t cache_tokens);

struct CosineLengths {
  int32_t fade_from_tokens = 25600;   // a right answer is worth 1 up to here
  int32_t max_tokens = 31744;         // and ½ from here on
  int32_t wrong_until_tokens = 3702;  // a wrong one -1 at length 0 and -½ from here on
};
// A completion that was cut off is worth -½, one with broken think tags -1.
double CosineReward(bool correct, int32_t tokens, bool finished, bool tags_in_order,
                    const CosineLengths& lengths);

// −max(share of n-grams that occur more than `most` times, frequency of the commonest one over what
// there is room for), in [-1, 0]. Words stand between blanks.
double RepetitionPenalty(std::string_view text, int n, int most);

// λ = ½ − (length − min) / (max − min) for right answers, min(0, λ) for wrong ones; 0 for all when
// every length is the same.
std::vector<double> KimiLength(const std::vector<int32_t>& tokens, const std::vector<bool>& correct);

enum class DifficultyTag { kAbsent, kEasy, kHard };
// [Easy] or [Hard] at the start, blanks aside.
DifficultyTag TagOf(std::string_view completion);

struct AdaCtrlSettings {
  double easy_above = 0.625;  // a group with a larger share of right answers is easy
  double length_weight = 0.5, tag_weight = 0.5;
};
struct AdaCtrlSample {
  bool correct = false;
  int32_t tokens = 0;
  DifficultyTag tag = DifficultyTag::kAbsent;
};
// ±1 for accuracy + length_weight · r_length + tag_weight · r_tag. r_tag: 1 when the tag is the
// group's difficulty, 0 when it is not, -1 without one. r_length: ½ (1 + cos(π · length / longest of
// the group)), of right answers tagged easy.
std::vector<double> AdaCtrl(const std::vector<AdaCtrlSample>& group, const AdaCtrlSettings& settings);

}  // namespace tramontane
