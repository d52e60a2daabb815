#include "trainer/ledger/prompt_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace tramontane {
namespace {

std::vector<PromptRow> MakeRows(int count, const std::function<void(int, PromptRow&)>& fill = {}) {
  std::vector<PromptRow> rows(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    PromptRow& row = rows[static_cast<size_t>(i)];
    row.row_id = "row:" + std::to_string(i);
    row.verifier = "math";
    if (fill) fill(i, row);
  }
  return rows;
}

PromptSource MakeSource(const std::vector<PromptRow>& rows, const PromptSection& section,
                        uint64_t seed = 7) {
  return {rows, [section](int64_t) { return section; }, seed, /*shuffle=*/true};
}

std::vector<int> DrawCounts(PromptSource& source, size_t rows, int draws, int64_t step = 1) {
  std::vector<int> counts(rows, 0);
  for (int c = 0; c < draws; ++c) ++counts[source.Draw(static_cast<uint64_t>(c), step)];
  return counts;
}

Json Outcome(int row, int groups, int samples, int right) {
  return {{"row:" + std::to_string(row), {groups, samples, right}}};
}

TEST(PromptSourceTest, WithoutWishesItIsThePlainOrder) {
  const std::vector<PromptRow> rows = MakeRows(31);
  PromptSource source = MakeSource(rows, {}, 3);
  source.Record(Outcome(4, 1, 8, 8));
  PromptOrder order(31, 3, true);
  for (uint64_t cursor = 0; cursor < 200; ++cursor)
    EXPECT_EQ(source.Draw(cursor, 1), order.RowAt(cursor));
}

TEST(PromptSourceTest, DomainsAreDrawnByTheirWeightsAndTheirRowsEvenly) {
  const std::vector<PromptRow> rows = MakeRows(50, [](int i, PromptRow& row) {
    if (i < 10) row.params["domain"] = "code";  // the others go by their verifier
  });
  PromptSection section;
  section.domain_weights = {{"code", 3.0}, {"math", 1}};
  PromptSource source = MakeSource(rows, section);
  const std::vector<int> counts = DrawCounts(source, 50, 4000);
  int code = 0;
  for (int i = 0; i < 10; ++i) code += counts[static_cast<size_t>(i)];
  EXPECT_NEAR(code, 3000, 4 * std::sqrt(4000 * .75 * .25));
  for (int i = 0; i < 10; ++i) EXPECT_NEAR(counts[static_cast<size_t>(i)], code / 10.0, 1);
  for (int i = 10; i < 50; ++i)
    EXPECT_NEAR(counts[static_cast<size_t>(i)], (4000 - code) / 40.0, 1);

  EXPECT_TRUE(PromptSource::Check(rows, section).ok());
  section.domain_weights["law"] = 1;
  const absl::Status status = PromptSource::Check(rows, section);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("prompts.domain_weights.law"));
}

TEST(PromptSourceTest, PriorityIsOneMinusThePassRate) {
  const std::vector<PromptRow> rows = MakeRows(4);
  PromptSection section;
  section.order = "priority";
  PromptSource source = MakeSource(rows, section);
  source.Record(Outcome(0, 1, 8, 8));  // solved: never again
  source.Record(Outcome(1, 1, 8, 6));
  source.Record(Outcome(2, 1, 8, 4));
  source.Record(Outcome(3, 1, 4, 4));  // too few samples to know
  const std::vector<int> counts = DrawCounts(source, 4, 7000);
  EXPECT_EQ(counts[0], 0);
  EXPECT_NEAR(counts[1], 1000, 130);
  EXPECT_NEAR(counts[2], 2000, 160);
  EXPECT_NEAR(counts[3], 4000, 170);
}

TEST(PromptSourceTest, LabelsMakeACurriculum) {
  const std::vector<PromptRow> rows = MakeRows(30, [](int i, PromptRow& row) {
    if (i < 25) row.params["difficulty"] = i / 5;  // 0 … 4; the last five have none
  });
  PromptSource source(
      rows,
      [](int64_t step) {
        PromptSection section;
        section.label_low = step < 10 ? 0 : 3;
        section.label_high = step < 10 ? 1 : 4;
        return section;
      },
      7, true);
  const std::vector<int> early = DrawCounts(source, 30, 300, 1),
                         late = DrawCounts(source, 30, 300, 10);
  for (size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(early[i] > 0, i < 10 || i >= 25) << i;
    EXPECT_EQ(late[i] > 0, (i >= 15 && i < 25) || i >= 25) << i;
  }
}

TEST(PromptSourceTest, SolvedRowsGoToAPoolThatIsDrawnFromNowAndThen) {
  const std::vector<PromptRow> rows = MakeRows(40);
  PromptSection section;
  section.pass_low = 0.01;
  section.pass_high = 0.999;
  section.outside_probability = 0.1;
  PromptSource source = MakeSource(rows, section);
  for (int i = 0; i < 10; ++i) source.Record(Outcome(i, 1, 8, i < 5 ? 8 : 0));
  for (int i = 10; i < 20; ++i) source.Record(Outcome(i, 1, 8, 3));
  const std::vector<int> counts = DrawCounts(source, 40, 6000);
  int outside = 0;
  for (int i = 0; i < 10; ++i) outside += counts[static_cast<size_t>(i)];
  EXPECT_NEAR(outside, 600, 4 * std::sqrt(6000 * .1 * .9));
  // Nobody but them: the window alone takes them out altogether.
  section.outside_probability = 0;
  PromptSource strict = MakeSource(rows, section);
  strict.Record(Outcome(0, 1, 8, 8));
  EXPECT_EQ(DrawCounts(strict, 40, 1000)[0], 0);
  // When every row is outside, something is drawn all the same.
  for (int i = 0; i < 40; ++i) strict.Record(Outcome(i, 1, 8, 8));
  EXPECT_GT(DrawCounts(strict, 40, 1000)[7], 0);
}

TEST(PromptSourceTest, TargetsFollowTheMovingGaussianWhateverTheDataIs) {
  // Ten times as many easy rows as hard ones.
  std::vector<double> rates;
  for (int i = 0; i < 1100; ++i)
    rates.push_back(i < 1000 ? 0.5 + 0.5 * i / 1000 : 0.5 * (i - 1000) / 100);
  const std::vector<PromptRow> rows = MakeRows(1100, [&](int i, PromptRow& row) {
    row.params["pass_rate"] = rates[static_cast<size_t>(i)];
  });
  PromptSource source(
      rows,
      [](int64_t step) {
        PromptSection section;
        section.order = "gaussian";
        section.target_pass_rate = step == 1 ? 0.7 : 0.3;
        section.target_deviation = 0.1;
        return section;
      },
      7, true);
  uint64_t cursor = 0;
  for (int64_t step : {1, 2}) {
    const double mean = step == 1 ? 0.7 : 0.3;
    constexpr int kDraws = 4000;
    double sum = 0, squares = 0;
    std::vector<int> bins(6, 0);  // by deviations: below −2, −2…−1, −1…0, 0…1, 1…2, above 2
    for (int i = 0; i < kDraws; ++i) {
      const double rate = rates[source.Draw(cursor++, step)];
      sum += rate;
      squares += rate * rate;
      const double z = (rate - mean) / 0.1;
      ++bins[static_cast<size_t>(std::clamp(static_cast<int>(std::floor(z)) + 3, 0, 5))];
    }
    EXPECT_NEAR(sum / kDraws, mean, 0.01);
    EXPECT_NEAR(std::sqrt(squares / kDraws - std::pow(sum / kDraws, 2)), 0.1, 0.01);
    const double expected[] = {.02275, .13591, .34134, .34134, .13591, .02275};
    double chi2 = 0;
    for (size_t b = 0; b < bins.size(); ++b) {
      chi2 += std::pow(bins[b] - kDraws * expected[b], 2) / (kDraws * expected[b]);
    }
    // 20.5 is the 0.999 quantile with 5 degrees of freedom; rows near a target blur the bins'
    // edges.
    EXPECT_LT(chi2, 40);
  }
}

TEST(PromptSourceTest, CountersComeBackFromTheJournal) {
  const std::vector<PromptRow> rows = MakeRows(5);
  PromptSection section;
  section.order = "priority";
  section.pass_min_samples = 4;
  PromptSource source = MakeSource(rows, section);
  std::vector<JournalRecord> records(4);
  records[0].kind = "epoch";
  records[1].kind = "batch";
  records[1].detail = {{"verifiers", Json::object()}, {"rows", Outcome(2, 1, 4, 1)}};
  records[2].kind = "drop";
  records[2].detail = {{"reason", "zero_variance"}, {"rows", Outcome(3, 2, 8, 8)}};
  records[3].kind = "drop";
  records[3].detail = {{"reason", "dead"}};
  source.Restore(records);
  EXPECT_EQ(source.PassRate(2), 0.25);
  EXPECT_EQ(source.PassRate(3), 1);
  EXPECT_EQ(source.PassRate(1), std::nullopt);

  // The same history gives the same draws.
  PromptSource other = MakeSource(rows, section);
  other.Restore(records);
  for (uint64_t cursor = 0; cursor < 100; ++cursor)
    EXPECT_EQ(source.Draw(cursor, 1), other.Draw(cursor, 1));
}

TEST(PromptSourceTest, OldSamplesFadeWhenTheMemoryIsShort) {
  const std::vector<PromptRow> rows = MakeRows(1);
  PromptSection section;
  section.pass_memory_samples = 16;
  PromptSource source = MakeSource(rows, section);
  for (int i = 0; i < 10; ++i) source.Record(Outcome(0, 1, 8, 0));
  for (int i = 0; i < 2; ++i) source.Record(Outcome(0, 1, 8, 8));
  EXPECT_NEAR(*source.PassRate(0), 0.75, 1e-12);  // 8 of 16, then the half of it and 8 more
}

TEST(PromptSourceTest, OutcomesCountGroupsSamplesAndRightAnswers) {
  RowOutcomes outcomes;
  EXPECT_TRUE(outcomes.empty());
  Group group;
  group.task.row.row_id = "row:1";
  group.rollouts.resize(3);
  group.rollouts[1].verdict.correct = true;
  outcomes.Add(group);
  outcomes.Add(group);
  group.task.row.row_id = "row:0";
  outcomes.Add(group);
  EXPECT_EQ(outcomes.ToJson(), Json::parse(R"({"row:0": [1, 3, 1], "row:1": [2, 6, 2]})"));
}

}  // namespace
}  // namespace tramontane
