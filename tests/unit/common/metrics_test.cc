#include "common/metrics.h"

#include <gmock/gmock.h>

#include <regex>
#include <set>
#include <string>
#include <vector>

#include "common/metric_names.h"

namespace tramontane {
namespace {

TEST(Metrics, TheSameNameAndLabelsGiveTheSameSeries) {
  MetricsRegistry registry;
  registry.MakeCounter("tramontane_generator_tokens_total", {{"kind", "generated"}}).Add(2);
  Counter again =
      registry.MakeCounter("tramontane_generator_tokens_total", {{"kind", "generated"}});
  again.Add(3);
  EXPECT_EQ(again.Value(), 5);
  EXPECT_THAT(registry.Render(),
              ::testing::HasSubstr("tramontane_generator_tokens_total{kind=\"generated\"} 5"));
}

TEST(Metrics, EveryNameFollowsPrometheusRulesOnce) {
  std::set<std::string> names;
  for (const MetricSpec& spec : AllMetrics()) {
    EXPECT_TRUE(std::regex_match(spec.name, std::regex("tramontane_[a-z0-9_]+"))) << spec.name;
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name << " stands twice";
    EXPECT_EQ(spec.kind == MetricKind::kCounter, spec.name.ends_with("_total")) << spec.name;
    EXPECT_EQ(spec.kind == MetricKind::kHistogram, !spec.buckets.empty()) << spec.name;
    EXPECT_FALSE(spec.help.empty()) << spec.name;
  }
}

TEST(Metrics, AnUndeclaredNameDies) {
  MetricsRegistry registry;
  EXPECT_DEATH(registry.MakeGauge("tramontane_surprise"), "not declared");
}

double SeriesOf(const MetricsRegistry& registry, const std::string& series) {
  const std::string text = registry.Render();
  const size_t at = text.find("\n" + series + " ");
  return at == text.npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

TEST(Metrics, MemoryIsReadAtEachScrape) {
  const MetricsRegistry registry;
  const std::string resident = "tramontane_process_memory_bytes{kind=\"resident\"}";
  const std::string peak = "tramontane_process_memory_bytes{kind=\"peak\"}";
  const double before = SeriesOf(registry, resident), peak_before = SeriesOf(registry, peak);
  EXPECT_GT(before, 1 << 20);
  EXPECT_GE(peak_before, before * 0.9);  // the kernel counts pages of a thread late
  constexpr size_t kBlock = 64 << 20;
  {
    const std::vector<char> block(kBlock, 'x');
    EXPECT_EQ(block[kBlock / 2], 'x');
    EXPECT_GT(SeriesOf(registry, resident), before + kBlock / 2);
  }
  EXPECT_GT(SeriesOf(registry, peak), before + kBlock / 2);
}

TEST(Metrics, ServesOnAPortItPicks) {
  MetricsRegistry registry;
  auto address = registry.Serve("127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_THAT(*address, ::testing::MatchesRegex("127.0.0.1:[1-9][0-9]+"));
  MetricsRegistry second;
  EXPECT_FALSE(second.Serve(*address).ok());
}

}  // namespace
}  // namespace tramontane
