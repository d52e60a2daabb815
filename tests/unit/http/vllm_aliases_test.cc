#include "services/generator/http/vllm_aliases.h"

#include <gtest/gtest.h>

#include "common/metrics.h"

namespace tramontane {
namespace {

bool Has(const std::string& page, const std::string& line) {
  return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

TEST(VllmAliasesTest, EverySeriesThatDashboardsKnowIsThereWithOurValue) {
  MetricsRegistry metrics;
  metrics.MakeGauge("tramontane_generator_running_sequences").Set(3);
  metrics.MakeGauge("tramontane_generator_waiting_sequences").Set(2);
  metrics.MakeGauge("tramontane_generator_kv_blocks", {{"state", "used"}}).Set(25);
  metrics.MakeGauge("tramontane_generator_kv_blocks", {{"state", "total"}}).Set(100);
  metrics.MakeCounter("tramontane_generator_tokens_total", {{"kind", "generated"}}).Add(7);
  metrics.MakeCounter("tramontane_generator_tokens_total", {{"kind", "prompt"}}).Add(9);
  metrics.MakeCounter("tramontane_generator_preemptions_total").Add(1);
  metrics.MakeCounter("tramontane_generator_finished_total", {{"reason", "stop"}}).Add(4);
  metrics.MakeCounter("tramontane_generator_finished_total", {{"reason", "aborted"}}).Add(5);
  for (const char* name : {"tramontane_http_time_to_first_token_seconds",
                           "tramontane_http_inter_token_seconds", "tramontane_http_request_seconds"})
    metrics.MakeHistogram(name).Observe(0.02);

  const std::string page = VllmAliases(metrics.Render(), "my \"model\"");
  const std::string who = R"({model_name="my \"model\"",engine="0")";
  EXPECT_TRUE(Has(page, "vllm:num_requests_running" + who + "} 3")) << page;
  EXPECT_TRUE(Has(page, "vllm:num_requests_waiting" + who + "} 2"));
  EXPECT_TRUE(Has(page, "vllm:kv_cache_usage_perc" + who + "} 0.250000"));
  EXPECT_TRUE(Has(page, "vllm:generation_tokens_total" + who + "} 7"));
  EXPECT_TRUE(Has(page, "vllm:prompt_tokens_total" + who + "} 9"));
  EXPECT_TRUE(Has(page, "vllm:num_preemptions_total" + who + "} 1"));
  EXPECT_TRUE(Has(page, "vllm:request_success_total" + who + ",finished_reason=\"stop\"} 4"));
  EXPECT_TRUE(Has(page, "vllm:request_success_total" + who + ",finished_reason=\"abort\"} 5"));
  for (const char* name :
       {"time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"}) {
    EXPECT_TRUE(Has(page, "vllm:" + std::string(name) + "_count" + who + "} 1")) << page;
    EXPECT_TRUE(Has(page, "vllm:" + std::string(name) + "_bucket" + who + ",le=\"0.025\"} 1"));
    EXPECT_TRUE(Has(page, "# TYPE vllm:" + std::string(name) + " histogram"));
  }
}

TEST(VllmAliasesTest, WhatIsNotMeasuredIsLeftOut) {
  EXPECT_EQ(VllmAliases("# HELP x y\nsomething_else 1\n", "m"), "");
}

}  // namespace
}  // namespace tramontane
