#include "common/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "common/host_port.h"
#include "common/metric_names.h"
#include "common/process_memory.h"

namespace tramontane {
namespace {

const MetricSpec& SpecOf(const std::string& name, MetricKind kind) {
  const auto& all = AllMetrics();
  auto spec =
      std::find_if(all.begin(), all.end(), [&](const MetricSpec& s) { return s.name == name; });
  if (spec == all.end() || spec->kind != kind) {
    std::fprintf(stderr, "metric %s is not declared with this kind in common/metric_names.cc\n",
                 name.c_str());
    std::abort();
  }
  return *spec;
}

prometheus::ClientMetric MemorySeries(const std::string& kind, int64_t bytes) {
  prometheus::ClientMetric metric;
  metric.label = {{"kind", kind}};
  metric.gauge.value = static_cast<double>(bytes);
  return metric;
}

// With the process's memory, which is read when somebody looks.
class ProcessRegistry final : public prometheus::Registry {
 public:
  ProcessRegistry() : Registry(InsertBehavior::Merge) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families = Registry::Collect();
    const MetricSpec& spec = SpecOf("tramontane_process_memory_bytes", MetricKind::kGauge);
    const ProcessMemory memory = ReadProcessMemory();
    prometheus::MetricFamily& family = families.emplace_back();
    family.name = spec.name;
    family.help = spec.help;
    family.type = prometheus::MetricType::Gauge;
    family.metric = {MemorySeries("resident", memory.resident_bytes),
                     MemorySeries("peak", memory.peak_bytes)};
    return families;
  }
};

}  // namespace

void Counter::Add(double value) { counter_->Increment(value); }
double Counter::Value() const { return counter_->Value(); }
void Gauge::Set(double value) { gauge_->Set(value); }
void Gauge::Add(double value) { gauge_->Increment(value); }
double Gauge::Value() const { return gauge_->Value(); }
void Histogram::Observe(double value) { histogram_->Observe(value); }

MetricsRegistry::MetricsRegistry() : registry_(std::make_shared<ProcessRegistry>()) {}
MetricsRegistry::~MetricsRegistry() = default;

Counter MetricsRegistry::MakeCounter(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kCounter);
  Counter out;
  out.counter_ =
      &prometheus::BuildCounter().Name(spec.name).Help(spec.help).Register(*registry_).Add(labels);
  return out;
}

Gauge MetricsRegistry::MakeGauge(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kGauge);
  Gauge out;
  out.gauge_ =
      &prometheus::BuildGauge().Name(spec.name).Help(spec.help).Register(*registry_).Add(labels);
  return out;
}

Histogram MetricsRegistry::MakeHistogram(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kHistogram);
  Histogram out;
  out.histogram_ = &prometheus::BuildHistogram()
                        .Name(spec.name)
                        .Help(spec.help)
                        .Register(*registry_)
                        .Add(labels, prometheus::Histogram::BucketBoundaries(spec.buckets.begin(),
                                                                             spec.buckets.end()));
  return out;
}

std::string MetricsRegistry::Render() const {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

absl::StatusOr<std::string> MetricsRegistry::Serve(const std::string& bind) {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(bind, /*num_threads=*/1);
  } catch (const std::exception& error) {
    return absl::UnavailableError("metrics.bind " + bind + ": " + error.what());
  }
  exposer_->RegisterCollectable(registry_);
  const auto ports = exposer_->GetListeningPorts();
  return HostOf(bind) + ":" + std::to_string(ports.empty() ? 0 : ports.front());
}

}  // namespace tramontane
