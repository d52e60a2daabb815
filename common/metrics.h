// Prometheus metrics over prometheus-cpp. Every metric of the project is declared in
// common/metric_names.h, so that dashboards, docs and code share one list. Label sets are fixed
// when a metric is made; values such as prompt or rollout ids are never labels.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
class Exposer;
}  // namespace prometheus

namespace tramontane {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  void Add(double value = 1);
  double Value() const;

 private:
  friend class MetricsRegistry;
  prometheus::Counter* counter_ = nullptr;
};

class Gauge {
 public:
  void Set(double value);
  void Add(double value);
  double Value() const;

 private:
  friend class MetricsRegistry;
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram {
 public:
  void Observe(double value);

 private:
  friend class MetricsRegistry;
  prometheus::Histogram* histogram_ = nullptr;
};

// Hands out metrics; asking twice for the same name and labels gives the same series.
// An ordinary object: main makes one and passes it down. Outlives everything it handed out.
class MetricsRegistry {
 public:
  MetricsRegistry();
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  // `name` must be declared in metric_names.h; an unknown one aborts (a programmer's error).
  Counter MakeCounter(const std::string& name, const Labels& labels = {});
  Gauge MakeGauge(const std::string& name, const Labels& labels = {});
  Histogram MakeHistogram(const std::string& name, const Labels& labels = {});

  std::string Render() const;  // Prometheus text format

  // Serves /metrics at host:port (port 0 picks one); returns the address served.
  absl::StatusOr<std::string> Serve(const std::string& bind);

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace tramontane
