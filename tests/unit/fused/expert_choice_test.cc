#include "model/fused/expert_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tramontane {
namespace {

TEST(ChooseExperts, TakesTheLikeliestInOrderAndBreaksTiesByNumber) {
  const std::vector<float> logits = {1, 3, 2, 3, -1};
  std::vector<uint8_t> chosen(3);
  std::vector<float> share(3);
  ChooseExperts(logits, /*normalise=*/false, chosen, share);
  EXPECT_EQ(chosen, (std::vector<uint8_t>{1, 3, 2}));
  double all = 0;
  for (const float logit : logits) all += std::exp(logit);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(share[i], std::exp(logits[chosen[i]]) / all, 1e-6);
  ChooseExperts(logits, /*normalise=*/true, chosen, share);
  EXPECT_NEAR(share[0] + share[1] + share[2], 1, 1e-6);
  EXPECT_NEAR(share[0] / share[2], std::exp(1.0), 1e-5);
}

TEST(ChooseExperts, AgreesWithASortForAnyNumbers) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 30);
  for (int round = 0; round < 300; ++round) {
    std::vector<float> logits(1 + random() % 255);
    for (float& logit : logits) logit = std::round(normal(random));  // ties are common
    std::vector<uint8_t> order(logits.size());
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<uint8_t>(e);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint8_t a, uint8_t b) { return logits[a] > logits[b]; });
    std::vector<uint8_t> chosen(1 + random() % logits.size());
    std::vector<float> share(chosen.size());
    ChooseExperts(logits, true, chosen, share);
    ASSERT_TRUE(std::equal(chosen.begin(), chosen.end(), order.begin()));
  }
}

TEST(ChooseExperts, LetsNotANumberBeSeen) {
  const std::vector<float> logits = {0, std::numeric_limits<float>::quiet_NaN(), 1};
  std::vector<uint8_t> chosen(2);
  std::vector<float> share(2);
  ChooseExperts(logits, false, chosen, share);
  EXPECT_TRUE(std::isnan(share[0]));
  EXPECT_LT(chosen[0], 3);
  EXPECT_LT(chosen[1], 3);
}

TEST(ExpertGroups, SortSlotsByExpertAndKnowEachOnesPlace) {
  ExpertGroups groups;
  groups.Sort(std::vector<uint8_t>{2, 0, 2, 3, 0, 2}, 5);
  EXPECT_EQ(groups.slots, (std::vector<int32_t>{1, 4, 0, 2, 5, 3}));
  EXPECT_EQ(groups.begin, (std::vector<int32_t>{0, 2, 2, 5, 6, 6}));
  for (size_t i = 0; i < groups.slots.size(); ++i)
    EXPECT_EQ(groups.place[groups.slots[i]], static_cast<int32_t>(i));
  groups.Sort(std::vector<uint8_t>{1}, 2);
  EXPECT_EQ(groups.slots, (std::vector<int32_t>{0}));
  EXPECT_EQ(groups.begin, (std::vector<int32_t>{0, 0, 1}));
}

}  // namespace
}  // namespace tramontane
