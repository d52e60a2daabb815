// Every metric Tramontane exports. Prometheus naming: one prefix, base units, _total for counters.
#pragma once

#include <string>
#include <vector>

namespace tramontane {

enum class MetricKind { kCounter, kGauge, kHistogram };

struct MetricSpec {
  std::string name;
  MetricKind kind;
  std::string help;
  std::vector<double> buckets;  // histograms only
};

const std::vector<MetricSpec>& AllMetrics();

}  // namespace tramontane
