#include "trainer/learner/loss_tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace tramontane {
namespace {

using ::testing::HasSubstr;

// Two groups of two, with an empty row, a masked token and distances that clip on both sides.
Json Request() {
  return Json::parse(R"({
    "dtype": "float64",
    "algorithm": {"advantage": {"baseline": "group_mean", "scale": "none"}, "filter": {"zero_variance": "keep"}},
    "batch": {
      "group": [0, 0, 1, 1], "reward": [1, 0, 0.5, 2],
      "logprob":           [[-1.0, -0.5, -2.0], [-0.3, -1.2], [], [-0.7, -0.1, -3.0, -0.4]],
      "logprob_behaviour": [[-1.6, -0.5, -1.4], [-0.9, -0.8], [], [-0.7, -0.2, -2.0, -0.5]],
      "logprob_proximal":  [[-1.3, -0.5, -1.7], [-0.6, -1.0], [], [-0.7, -0.15, -2.5, -0.45]],
      "logprob_reference": [[-1.1, -0.9, -2.2], [-0.4, -1.9], [], [-0.2, -0.3, -2.9, -0.6]],
      "entropy": [[0.5, 0.25, 1], [2, 0.5], [], [1, 1, 0.125, 3]],
      "mask": [[1, 1, 1], [1, 0], [], [1, 1, 1, 1]]
    }})");
}

Json With(const std::string& pointer, const Json& value) {
  Json request = Request();
  request[Json::json_pointer(pointer)] = value;
  return request;
}

double Loss(const Json& request) {
  const absl::StatusOr<Json> result = LossTool(request);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? (*result)["loss"].get<double>() : NAN;
}

absl::Status Error(const Json& request) { return LossTool(request).status(); }

// Applies `term(i, t, A, ratio)` to the sampled tokens and sums; the reference for a changed knob.
double SumTokens(
    const Json& request,
    const std::function<double(double a, double ratio, double logp, size_t, size_t)>& term) {
  const Json& b = request["batch"];
  const double advantage[] = {0.5, -0.5, -0.75, 0.75};
  double sum = 0;
  for (size_t i = 0; i < 4; ++i) {
    for (size_t t = 0; t < b["logprob"][i].size(); ++t) {
      if (b["mask"][i][t] == 0) continue;
      const double logp = b["logprob"][i][t];
      sum += term(advantage[i], std::exp(logp - b["logprob_behaviour"][i][t].get<double>()), logp,
                  i, t);
    }
  }
  return sum;
}

double Clip(double x, double low, double high) { return std::min(std::max(x, low), high); }
double Ppo(double a, double r, double, size_t, size_t) {
  return -std::min(r * a, Clip(r, 0.8, 1.28) * a);
}

TEST(LossToolTest, DefaultObjectiveIsAsymmetricallyClippedAndAveragedOverSampledTokens) {
  EXPECT_NEAR(Loss(Request()), SumTokens(Request(), Ppo) / 8, 1e-14);
}

TEST(LossToolTest, AdvantageIsPerSampledTokenAndEmptyRowsStay) {
  const Json result = LossTool(Request()).value();
  EXPECT_EQ(result["advantage"], Json::parse("[[0.5,0.5,0.5],[-0.5,0],[],[0.75,0.75,0.75,0.75]]"));
  EXPECT_EQ(result["grad_logprob"][1][1], 0);
  EXPECT_EQ(result["grad_logprob"][2], Json::array());
  EXPECT_EQ(result["metrics"]["tokens"], 8);
}

TEST(LossToolTest, EachObjectiveKnobChangesTheLossByTheComputedAmount) {
  const auto mean = [](const Json& request, auto term) { return SumTokens(request, term) / 8; };
  Json r = With("/algorithm/objective/clip_high", 0.05);
  EXPECT_NEAR(Loss(r),
              mean(r, [](double a, double x, double, size_t,
                         size_t) { return -std::min(x * a, Clip(x, 0.8, 1.05) * a); }),
              1e-14);
  r = With("/algorithm/objective/clip_low", 0.5);
  EXPECT_NEAR(Loss(r),
              mean(r, [](double a, double x, double, size_t,
                         size_t) { return -std::min(x * a, Clip(x, 0.5, 1.28) * a); }),
              1e-14);
  r = With("/algorithm/objective/dual_clip", 1.5);
  EXPECT_NEAR(Loss(r),
              mean(r,
                   [](double a, double x, double, size_t, size_t) {
                     const double loss = -std::min(x * a, Clip(x, 0.8, 1.28) * a);
                     return a < 0 ? std::min(loss, -1.5 * a) : loss;
                   }),
              1e-14);
  r = With("/algorithm/objective/ratio_cap", 1.1);
  EXPECT_NEAR(
      Loss(r),
      mean(r, [](double a, double x, double, size_t,
                 size_t) { return -std::min(std::min(x, 1.1) * a, Clip(x, 0.8, 1.28) * a); }),
      1e-14);
  r = With("/algorithm/objective/kind", "pg");
  EXPECT_NEAR(Loss(r), mean(r, [](double a, double x, double, size_t, size_t) { return -x * a; }),
              1e-14);
  r["algorithm"]["objective"]["ratio"] = "none";
  EXPECT_NEAR(Loss(r),
              mean(r, [](double a, double, double logp, size_t, size_t) { return -a * logp; }),
              1e-14);
  r = With("/algorithm/objective/kind", "cispo");
  EXPECT_NEAR(Loss(r),
              mean(r, [](double a, double x, double logp, size_t,
                         size_t) { return -Clip(x, 0.8, 1.28) * a * logp; }),
              1e-14);
  r["algorithm"]["conventions"]["cispo_bound"] = "absolute";
  r["algorithm"]["objective"]["clip_high"] = 1.2;
  EXPECT_NEAR(Loss(r),
              mean(r, [](double a, double x, double logp, size_t,
                         size_t) { return -std::min(x, 1.2) * a * logp; }),
              1e-14);
  r = With("/algorithm/conventions/log_ratio_clamp", 0.3);
  EXPECT_NEAR(Loss(r),
              mean(r,
                   [](double a, double x, double, size_t, size_t) {
                     const double clamped = std::exp(Clip(std::log(x), -0.3, 0.3));
                     return -std::min(clamped * a, Clip(clamped, 0.8, 1.28) * a);
                   }),
              1e-14);
}

TEST(LossToolTest, NllIsTheMeanOverSequencesWithAPositiveAdvantage) {
  Json r = With("/algorithm/objective", {{"kind", "nll"}, {"ratio", "none"}});
  r["algorithm"]["advantage"] = {
      {"baseline", "none"}, {"scale", "none"}, {"sign", "positive_only"}};
  r["batch"]["reward"] = {1, 0, 0, 0};
  EXPECT_NEAR(Loss(r), (1.0 + 0.5 + 2.0) / 3, 1e-14);
}

TEST(LossToolTest, KlTermsAreTheEstimatorsTimesTheCoefficient) {
  const double base = Loss(Request());
  const auto mean_k = [](auto k) {
    const Json request = Request();
    return SumTokens(request,
                     [&](double, double, double logp, size_t i, size_t t) {
                       return k(request["batch"]["logprob_reference"][i][t].get<double>() - logp);
                     }) /
           8;
  };
  const auto expect = [&](const std::string& kind, auto k) {
    EXPECT_NEAR(Loss(With("/algorithm/kl", {{"kind", kind}, {"coefficient", 0.1}})),
                base + 0.1 * mean_k(k), 1e-14);
  };
  expect("k1", [](double d) { return -d; });
  expect("k2", [](double d) { return d * d / 2; });
  expect("k3", [](double d) { return std::exp(d) - d - 1; });
  Json clamped = With("/algorithm/kl", {{"kind", "k3"}, {"coefficient", 0.1}});
  clamped["algorithm"]["conventions"]["k3_clamp"] = 0.02;
  EXPECT_NEAR(Loss(clamped),
              base + 0.1 * mean_k([](double d) { return std::min(std::exp(d) - d - 1, 0.02); }),
              1e-14);
}

TEST(LossToolTest, KlInTheRewardMovesTheAdvantage) {
  Json r = With("/algorithm/kl", {{"kind", "k1"}, {"coefficient", 0.1}, {"where", "reward"}});
  const Json result = LossTool(r).value();
  // Σ k1 of the anchor (behaviour): −0.7 and −0.5 (one token masked), so rewards 1.07 and 0.05.
  const double first = 1 - 0.1 * ((-1.6 + 1.1) + (-0.5 + 0.9) + (-1.4 + 2.2));
  const double second = 0 - 0.1 * (-0.9 + 0.4);
  EXPECT_NEAR(result["advantage"][0][0].get<double>(), (first - second) / 2, 1e-14);
}

TEST(LossToolTest, KlOfATokenMovesItsOwnAdvantageAndTheRewardMayCountNothing) {
  Json r =
      With("/algorithm/kl", {{"kind", "k1"}, {"coefficient", 0.1}, {"where", "token_advantage"}});
  const double k1[] = {-1.6 + 1.1, -0.5 + 0.9, -1.4 + 2.2};
  for (const double weight : {1.0, 0.0}) {
    r["algorithm"]["advantage"]["reward_weight"] = weight;
    const Json advantage = LossTool(r).value()["advantage"];
    for (size_t t = 0; t < 3; ++t)
      EXPECT_NEAR(advantage[0][t].get<double>(), 0.5 * weight - 0.1 * k1[t], 1e-14);
    EXPECT_EQ(advantage[1][1], 0);  // not sampled
  }
  r["algorithm"]["kl"]["coefficient"] = 0;
  EXPECT_FALSE(LossTool(r).ok());  // nothing would be taught
}

TEST(LossToolTest, EntropyAndPositiveNllAddTheirTerms) {
  const double base = Loss(Request());
  EXPECT_NEAR(Loss(With("/algorithm/entropy", {{"kind", "fixed"}, {"coefficient", 0.01}})),
              base - 0.01 * (0.5 + 0.25 + 1 + 2 + 1 + 1 + 0.125 + 3) / 8, 1e-14);
  // Rewarded: all but sequence 1.
  EXPECT_NEAR(Loss(With("/algorithm/auxiliary/positive_nll", 0.2)),
              base + 0.2 * (1.0 + 0.5 + 2.0 + 0.7 + 0.1 + 3.0 + 0.4) / 7, 1e-14);
}

TEST(LossToolTest, PositiveNllIsOfRightAnswersWhereTheBatchSaysWhichAre) {
  Json request = With("/algorithm/auxiliary/positive_nll", 0.2);
  request["batch"]["correct"] = {0, 0, 0, 1};  // the first earned its reward by its form
  const Json rows = request["batch"]["logprob"];
  double nll = 0;
  for (double logprob : rows[3]) nll -= logprob / static_cast<double>(rows[3].size());
  EXPECT_NEAR(Loss(request), Loss(Request()) + 0.2 * nll, 1e-14);
}

TEST(LossToolTest, CorrectionsWeightTheTokenLossByConstants) {
  const Json request = Request();
  // Proximal objective with weights w = π_p/μ.
  const auto expected = [&](auto weight) {
    return SumTokens(request,
                     [&](double a, double, double logp, size_t i, size_t t) {
                       const double proximal = request["batch"]["logprob_proximal"][i][t];
                       const double behaviour = request["batch"]["logprob_behaviour"][i][t];
                       return weight(std::exp(proximal - behaviour), i) *
                              Ppo(a, std::exp(logp - proximal), 0, 0, 0);
                     }) /
           8;
  };
  const auto correction = [](Json knobs) {
    knobs["anchor"] = "recomputed";
    return With("/algorithm/correction", knobs);
  };
  EXPECT_NEAR(Loss(correction({{"kind", "none"}})), expected([](double, size_t) { return 1.0; }),
              1e-14);
  EXPECT_NEAR(Loss(correction({{"kind", "truncate"}, {"cap", 1.1}})),
              expected([](double w, size_t) { return std::min(w, 1.1); }), 1e-14);
  EXPECT_NEAR(Loss(correction({{"kind", "mask"}, {"low", 0.9}, {"high", 1.2}})),
              expected([](double w, size_t) { return w >= 0.9 && w <= 1.2 ? w : 0.0; }), 1e-14);
  // Per sequence: log-weights 0.3+0−0.3, 0.3 (second token masked), –, 0+0.05−0.5+0.05.
  const double sequence[] = {1, std::exp(0.3), 1, std::exp(-0.4)};
  EXPECT_NEAR(Loss(correction({{"kind", "truncate"}, {"cap", 1.1}, {"level", "sequence"}})),
              expected([&](double, size_t i) { return std::min(sequence[i], 1.1); }), 1e-14);
  Json reject = {{"kind", "geometric_reject"}, {"level", "sequence"}, {"low", 0.89}, {"high", 1.2}};
  EXPECT_NEAR(Loss(correction(reject)),
              expected([&](double, size_t i) { return i == 1 ? 0.0 : 1.0; }), 1e-14);
  reject["level"] = "token";  // each token by itself, kept whole or not at all
  EXPECT_NEAR(Loss(correction(reject)),
              expected([&](double w, size_t) { return w >= 0.89 && w <= 1.2 ? 1.0 : 0.0; }), 1e-14);
}

Json Opmd() {
  Json request = With("/algorithm/objective", {{"kind", "opmd"}, {"ratio", "none"}, {"tau", 0.4}});
  request["algorithm"]["aggregation"]["mode"] = "seq_mean_token_mean";
  request["algorithm"]["kl"]["reference"] = "iterate";
  return request;
}

TEST(LossToolTest, GradientsAgreeWithFiniteDifferences) {
  std::vector<Json> requests;
  for (const std::string kind : {"ppo_clip", "pg"})
    requests.push_back(With("/algorithm/objective/kind", kind));
  requests.push_back(With("/algorithm/objective", {{"kind", "pg"}, {"ratio", "none"}}));
  requests.push_back(With("/algorithm/objective/dual_clip", 1.5));
  requests.push_back(With("/algorithm/objective/ratio", "sequence"));
  requests.back()["algorithm"]["aggregation"]["mode"] = "seq_mean_token_sum";
  for (const std::string kind : {"k1", "k2", "k3"}) {
    requests.push_back(With("/algorithm/kl", {{"kind", kind}, {"coefficient", 0.3}}));
  }
  requests.push_back(With("/algorithm/auxiliary/positive_nll", 0.3));
  requests.push_back(Opmd());
  for (const Json& request : requests) {
    SCOPED_TRACE(request["algorithm"].dump());
    const Json gradient = LossTool(request).value()["grad_logprob"];
    for (size_t i = 0; i < 4; ++i) {
      for (size_t t = 0; t < gradient[i].size(); ++t) {
        Json up = request, down = request;
        const double step = 1e-6, x = request["batch"]["logprob"][i][t];
        up["batch"]["logprob"][i][t] = x + step;
        down["batch"]["logprob"][i][t] = x - step;
        EXPECT_NEAR(gradient[i][t].get<double>(), (Loss(up) - Loss(down)) / (2 * step), 1e-8)
            << i << "," << t;
      }
    }
  }
}

TEST(LossToolTest, OnPolicyAllObjectivesShareOneGradient) {
  Json request = Request();
  request["batch"]["logprob_behaviour"] = request["batch"]["logprob"];
  const Json ppo = LossTool(request).value()["grad_logprob"];
  for (const std::string kind : {"pg", "cispo"}) {
    request["algorithm"]["objective"]["kind"] = kind;
    const Json other = LossTool(request).value()["grad_logprob"];
    for (size_t i = 0; i < 4; ++i) {
      for (size_t t = 0; t < ppo[i].size(); ++t) {
        EXPECT_NEAR(ppo[i][t].get<double>(), other[i][t].get<double>(), 1e-15);
      }
    }
  }
}

TEST(LossToolTest, BeyondTheUpperClipPpoIsSilentAndCispoIsNot) {
  Json request = Request();  // sequence 0, token 0: A > 0, ratio e^0.6 > 1.28
  EXPECT_EQ(LossTool(request).value()["grad_logprob"][0][0], 0);
  EXPECT_GT(LossTool(request).value()["metrics"]["clip_high"], 0);
  request["algorithm"]["objective"]["kind"] = "cispo";
  EXPECT_NE(LossTool(request).value()["grad_logprob"][0][0], 0);
}

TEST(LossToolTest, DecoupledWithProximalEqualToBehaviourIsPlainPpo) {
  Json request = Request();
  request["batch"]["logprob_proximal"] = request["batch"]["logprob_behaviour"];
  request["algorithm"]["correction"] = {{"kind", "truncate"}, {"cap", 5}, {"anchor", "recomputed"}};
  const Json decoupled = LossTool(request).value(), plain = LossTool(Request()).value();
  EXPECT_NEAR(decoupled["loss"].get<double>(), plain["loss"].get<double>(), 1e-14);
  EXPECT_EQ(decoupled["grad_logprob"], plain["grad_logprob"]);
}

TEST(LossToolTest, MaskedAndDroppedNumbersMayBeAnything) {
  Json request = Request();
  const double expected = Loss(request);
  request["batch"]["logprob_behaviour"][1][1] = -1e300;
  request["batch"]["logprob"][1][1] = 1e300;
  EXPECT_NEAR(Loss(request), expected, 1e-15);

  request = Request();
  request["algorithm"]["filter"]["zero_variance"] = "drop";
  request["batch"]["reward"] = {1, 0, 2, 2};
  const Json before = LossTool(request).value();
  request["batch"]["logprob_behaviour"][3] = {-1e6, -1e6, -1e6, -1e6};
  EXPECT_EQ(LossTool(request).value(), before);
  EXPECT_EQ(before["grad_logprob"][3], Json::parse("[0.0,0.0,0.0,0.0]"));
}

TEST(LossToolTest, DegenerateBatchesAreLegal) {
  const Json batch = {
      {"group", {0, 0, 3}},
      {"reward", {1, 0, 1}},
      {"logprob", {Json::array(), Json::array({-1.0}), Json::array({-2.0})}},
      {"logprob_behaviour", {Json::array(), Json::array({-1.0}), Json::array({-2.0})}},
      {"mask", {Json::array(), Json::array({0}), Json::array({1})}}};
  for (const std::string mode : {"token_mean", "seq_mean_token_mean", "seq_mean_token_sum"}) {
    Json request = {{"batch", batch}, {"algorithm", {{"aggregation", {{"mode", mode}}}}}};
    EXPECT_EQ(Loss(request), 0) << mode;  // the only token belongs to a group of one
  }
  const Json nothing = {{"group", Json::array()},
                        {"reward", Json::array()},
                        {"logprob", Json::array()},
                        {"logprob_behaviour", Json::array()}};
  EXPECT_EQ(Loss({{"batch", nothing}}), 0);
}

TEST(LossToolTest, OpmdIsTheSquaredResidualOfEachSequence) {
  const Json request = Opmd();
  const double advantage[] = {0.5, -0.5, -0.75, 0.75};
  // Σ log π/π_ref over the sampled tokens; the third sequence is empty and is skipped.
  const double log_ratio[] = {0.1 + 0.4 + 0.2, 0.1, 0, -0.5 + 0.2 - 0.1 + 0.2};
  double expected = 0;
  for (size_t i : {0, 1, 3})
    expected += std::pow(advantage[i] - 0.4 * log_ratio[i], 2) / (2 * 0.4) / 3;
  EXPECT_NEAR(Loss(request), expected, 1e-14);
  const Json gradient = LossTool(request).value()["grad_logprob"];
  // −(A·∇log π − (τ/2)·∇s²), the same at every sampled token.
  for (size_t i : {0, 1, 3}) {
    EXPECT_NEAR(gradient[i][0].get<double>(), -(advantage[i] - 0.4 * log_ratio[i]) / 3, 1e-14) << i;
  }
  EXPECT_EQ(gradient[1][1], 0);
  // Without a reference of its own the batch is compared with the policy that sampled it.
  Json iterate = request;
  iterate["batch"].erase("logprob_reference");
  Json same = request;
  same["batch"]["logprob_reference"] = same["batch"]["logprob_behaviour"];
  EXPECT_EQ(LossTool(iterate).value(), LossTool(same).value());
}

TEST(LossToolTest, FullKlAndValueLossAddTheirTerms) {
  const double base = Loss(Request());
  Json full = With("/algorithm/kl", {{"kind", "full"}, {"coefficient", 0.1}});
  full["batch"]["kl_full"] = full["batch"]["entropy"];
  EXPECT_NEAR(Loss(full), base + 0.1 * (0.5 + 0.25 + 1 + 2 + 1 + 1 + 0.125 + 3) / 8, 1e-14);

  Json value = With("/algorithm/advantage/baseline", "value");
  value["algorithm"]["auxiliary"] = {{"value_coefficient", 0.5}};
  value["batch"]["value"] = {{0.1, 0.2, 0.3}, {-0.5, 9.0}, Json::array(), {1, 1, 1, 1}};
  const Json with = LossTool(value).value();
  EXPECT_NEAR(with["advantage"][0][2].get<double>(), 0.7, 1e-14);
  // Targets are the rewards 1, 0, 2: ½ of squared errors, the masked value left out.
  EXPECT_NEAR(with["metrics"]["value_loss"].get<double>(), 0.5 * (.81 + .64 + .49 + .25 + 4) / 8,
              1e-14);
  EXPECT_NEAR(with["grad_value"][1][0].get<double>(), 0.5 * -0.5 / 8, 1e-14);
  EXPECT_EQ(with["grad_value"][1][1], 0);
  value["algorithm"]["auxiliary"]["value_coefficient"] = 0;
  EXPECT_NEAR(with["loss"].get<double>() - Loss(value),
              0.5 * with["metrics"]["value_loss"].get<double>(), 1e-14);
}

TEST(LossToolTest, AdaptiveEntropyActsBelowItsTargetAndMovesTowardsIt) {
  const double mean = (0.5 + 0.25 + 1 + 2 + 1 + 1 + 0.125 + 3) / 8;
  const auto with_target = [&](double target) {
    return LossTool(With("/algorithm/entropy", {{"kind", "adaptive"},
                                                {"coefficient", 0.02},
                                                {"target", target},
                                                {"step", 0.005},
                                                {"max", 0.022}}))
        .value();
  };
  const Json below = with_target(mean + 0.1), above = with_target(mean - 0.1);
  EXPECT_NEAR(below["loss"].get<double>(), Loss(Request()) - 0.02 * mean, 1e-14);
  EXPECT_NEAR(below["metrics"]["entropy_coefficient_next"].get<double>(), 0.022, 1e-14);
  EXPECT_NEAR(above["loss"].get<double>(), Loss(Request()), 1e-14);
  EXPECT_NEAR(above["metrics"]["entropy_coefficient_next"].get<double>(), 0.015, 1e-14);
}

TEST(LossToolTest, ErrorsNameTheKey) {
  const auto expect = [](const Json& request, absl::StatusCode code, const std::string& part) {
    const absl::Status status = Error(request);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  expect(With("/batch/logprob_behaviour/0", {1.0}), invalid, "batch.logprob_behaviour[0]");
  expect(With("/batch/logits", Json::array()), invalid, "batch.logits");
  expect(With("/batch/reward", {1.0}), invalid, "batch.reward");
  expect(With("/batch/reward/0", "x"), invalid, "batch.reward");
  expect(With("/batch/mask/0/0", 0.5), invalid, "batch.mask");
  expect(With("/dtype", "float16"), invalid, "dtype");
  expect(With("/algorithm/objective/kind", "dpo"), invalid, "algorithm.objective.kind");
  expect(With("/algorithm/objective/klip", 1), invalid, "klip");
  expect(With("/algorithm/filter/truncated", "drop"), invalid, "truncated");
  Json request = Request();
  request["batch"].erase("logprob_behaviour");
  expect(request, invalid, "batch.logprob_behaviour");
  request = With("/algorithm/kl", {{"kind", "k3"}, {"coefficient", 0.1}});
  request["batch"].erase("logprob_reference");
  expect(request, invalid, "batch.logprob_reference");
  expect(With("/algorithm/correction", {{"kind", "truncate"}, {"anchor", "recomputed"}}), invalid,
         "cap");
  expect(With("/algorithm/advantage/baseline", "value"), invalid, "batch.value");
  expect(With("/algorithm/kl", {{"kind", "full"}, {"coefficient", 0.1}}), invalid, "batch.kl_full");
  expect(With("/algorithm/entropy/kind", "adaptive"), invalid, "algorithm.entropy.target");
}

}  // namespace
}  // namespace tramontane
