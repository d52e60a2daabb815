#include "cli/references.h"

#include "common/metric_names.h"

namespace tramontane {
namespace {

const char* KindName(MetricKind kind) {
  switch (kind) {
    case MetricKind::kCounter: return "counter";
    case MetricKind::kGauge: return "gauge";
    case MetricKind::kHistogram: return "histogram";
  }
  return "?";
}

}  // namespace

std::string MetricsReferenceMarkdown() {
  std::string page =
      "# Metrics\n\nEvery process serves `/metrics` in Prometheus' text format. A run's addresses stand in\n"
      "`<run>/prometheus_targets.json`; `deploy/compose.yaml` starts a Prometheus that follows them.\n"
      "This page is made by `tramontane metrics-reference`.\n\n| Metric | Kind | Meaning |\n|---|---|---|\n";
  for (const MetricSpec& metric : AllMetrics()) {
    page += "| `" + metric.name + "` | " + KindName(metric.kind) + " | " + metric.help + " |\n";
  }
  return page;
}

}  // namespace tramontane
