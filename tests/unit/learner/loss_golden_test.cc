// Losses, advantages and gradients against tests/golden/learner: loss_golden.json holds the
// definitions of verl 0.9.1, TRL 1.16.0 and Magistral, computed by make_golden.py on padded tensors
// with autograd; peer_golden.json what the peers' own functions return, called by
// make_peer_golden.py.
#include <gtest/gtest.h>

#include <cmath>

#include "common/files.h"
#include "tests/support/source_file.h"
#include "trainer/learner/loss_tool.h"

namespace tramontane {
namespace {

double LargestDifference(const Json& actual, const Json& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].size(), expected[i].size()) << "row " << i;
    for (size_t t = 0; t < expected[i].size(); ++t) {
      largest =
          std::max(largest, std::abs(actual[i][t].get<double>() - expected[i][t].get<double>()));
    }
  }
  return largest;
}

Json Golden(const std::string& name) {
  return Json::parse(ReadFile(SourceFile("tests/golden/learner/" + name)).value());
}

TEST(LossGoldenTest, EveryCaseAgreesWithItsReference) {
  const Json cases = Golden("loss_golden.json");
  ASSERT_GE(cases.size(), 13u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const double tolerance = c["tolerance"];
    const absl::StatusOr<Json> result = LossTool(c["request"]);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_NEAR((*result)["loss"].get<double>(), c["loss"].get<double>(), tolerance);
    EXPECT_LE(LargestDifference((*result)["advantage"], c["advantage"]), tolerance);
    EXPECT_LE(LargestDifference((*result)["grad_logprob"], c["grad_logprob"]), tolerance);

    Json single = c["request"];
    single["dtype"] = "float32";
    const Json in_float = LossTool(single).value();
    EXPECT_NEAR(in_float["loss"].get<double>(), c["loss"].get<double>(), 2e-5);
    EXPECT_LE(LargestDifference(in_float["grad_logprob"], c["grad_logprob"]), 2e-5);
  }
}

TEST(LossGoldenTest, EveryCaseAgreesWithThePeersOwnCode) {
  constexpr double kTolerance = 1e-6;
  const Json golden = Golden("peer_golden.json");
  ASSERT_GE(golden["cases"].size(), 100u);
  for (const Json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>() + ": " + c["source"].get<std::string>());
    const absl::StatusOr<Json> result =
        LossTool({{"algorithm", c["algorithm"]},
                  {"batch", golden["batches"][c["batch"].get<std::string>()]},
                  {"dtype", "float64"}});
    ASSERT_TRUE(result.ok()) << result.status();
    const double loss = c["loss"];
    EXPECT_NEAR((*result)["loss"].get<double>(), loss, kTolerance * std::max(1.0, std::abs(loss)));
    EXPECT_LE(LargestDifference((*result)["advantage"], c["advantage"]), kTolerance);
    EXPECT_LE(LargestDifference((*result)["grad_logprob"], c["grad_logprob"]), kTolerance);
    if (c.contains("grad_value")) {
      EXPECT_LE(LargestDifference((*result)["grad_value"], c["grad_value"]), kTolerance);
    }
  }
}

}  // namespace
}  // namespace tramontane
