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

#include "common/metric_names.h"

namespace tramontane {
namespace {

const MetricSpec& SpecOf(const std::string& name, MetricKind kind) {
  const auto& all = AllMetrics();
  auto spec = std::find_if(all.begin(), all.end(), [&](const MetricSpec& s) { return s.name == name; });
  if (spec == all.end() || spec->kind != kind) {
    std::fprintf(stderr, "metric %s is not declared with this kind in common/metric_names.cc\n", name.c_str());
    std::abort();
  }
  return *spec;
}

}  // namespace

void Counter::Add(double value) { counter_->Increment(value); }
double Counter::Value() const { return counter_->Value(); }
void Gauge::Set(double value) { gauge_->Set(value); }
void Gauge::Add(double value) { gauge_->Increment(value); }
double Gauge::Value() const { return gauge_->Value(); }
void Histogram::Observe(double value) { histogram_->Observe(value); }

MetricsRegistry::MetricsRegistry()
    : registry_(std::make_shared<prometheus::Registry>(prometheus::Registry::InsertBehavior::Merge)) {}
MetricsRegistry::~MetricsRegistry() = default;

Counter MetricsRegistry::MakeCounter(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kCounter);
  Counter out;
  out.counter_ = &prometheus::BuildCounter().Name(spec.name).Help(spec.help).Register(*registry_).Add(labels);
  return out;
}

Gauge MetricsRegistry::MakeGauge(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kGauge);
  Gauge out;
  out.gauge_ = &prometheus::BuildGauge().Name(spec.name).Help(spec.help).Register(*registry_).Add(labels);
  return out;
}

Histogram MetricsRegistry::MakeHistogram(const std::string& name, const Labels& labels) {
  const MetricSpec& spec = SpecOf(name, MetricKind::kHistogram);
  Histogram out;
  out.histogram_ = &prometheus::BuildHistogram()
                        .Name(spec.name)
                        .Help(spec.help)
                        .Register(*registry_)
                        .Add(labels, prometheus::Histogram::BucketBoundaries(spec.buckets.begin(), spec.buckets.end()));
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
  const std::string host = bind.substr(0, bind.rfind(':'));
  return host + ":" + std::to_string(ports.empty() ? 0 : ports.front());
}

}  // namespace tramontane
