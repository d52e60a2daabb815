// DPO's loss and gradients: TRL's own, label smoothing by hand.
#include "trainer/learner/preference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/files.h"
#include "common/rollout.h"
#include "tests/support/source_file.h"

namespace tramontane {
namespace {

struct Flattened {
  std::vector<double> values;
  std::vector<int64_t> lengths;
};

Flattened Flatten(const Json& rows) {
  Flattened flat;
  for (const Json& row : rows) {
    flat.lengths.push_back(static_cast<int64_t>(row.size()));
    for (double value : row) flat.values.push_back(value);
  }
  return flat;
}

TEST(PreferenceTest, LossAndEveryTokensGradientAreTrls) {
  const Json cases =
      Json::parse(ReadFile(SourceFile("tests/golden/learner/dpo_golden.json")).value());
  ASSERT_EQ(cases.size(), 4u);
  for (const Json& c : cases) {
    const Flattened policy = Flatten(c["policy"]), reference = Flatten(c["reference"]);
    const PreferenceLoss loss = ComputePreferenceLoss(
        policy.values, reference.values, policy.lengths,
        {.beta = c["beta"], .length_normalised = c["length_normalised"]});
    EXPECT_NEAR(loss.loss, c["loss"].get<double>(), 1e-12);
    for (size_t i = 0; i < policy.lengths.size(); ++i) {
      for (double gradient : c["grad_logprob"][i]) {
        EXPECT_NEAR(-loss.advantage[i] * loss.token_weight[i], gradient, 1e-12);
      }
    }
  }
}

TEST(PreferenceTest, SmoothingMixesBothDirections) {
  const DpoSection dpo = {.beta = 0.5, .label_smoothing = 0.2};
  const auto at = [&](double chosen) {
    return ComputePreferenceLoss({chosen, -2}, {-1.5, -1}, {1, 1}, dpo);
  };
  const double z = 0.5 * ((-1 + 1.5) - (-2 + 1)), sigma = 1 / (1 + std::exp(-z));
  const PreferenceLoss loss = at(-1);
  EXPECT_NEAR(loss.loss, -0.8 * std::log(sigma) - 0.2 * std::log(1 - sigma), 1e-14);
  EXPECT_NEAR(loss.metrics.at("dpo_margin"), z, 1e-14);
  EXPECT_EQ(loss.metrics.at("dpo_accuracy"), 1);
  const double step = 1e-6;
  EXPECT_NEAR((at(-1 + step).loss - at(-1 - step).loss) / (2 * step),
              -loss.advantage[0] * loss.token_weight[0], 1e-8);
}

TEST(PreferenceTest, FarApartPoliciesOverflowNothing) {
  const PreferenceLoss loss = ComputePreferenceLoss({-1e4, 0}, {0, -1e4}, {1, 1}, {.beta = 1});
  EXPECT_DOUBLE_EQ(loss.loss, 2e4);
  EXPECT_DOUBLE_EQ(loss.advantage[0], 1);
  EXPECT_EQ(ComputePreferenceLoss({0, -1e4}, {-1e4, 0}, {1, 1}, {.beta = 1}).loss, 0);
}

}  // namespace
}  // namespace tramontane
