#include "services/generator/http/http_metrics.h"

namespace tramontane {
namespace {

const char* ToString(Gone why) {
  switch (why) {
    case Gone::kClient: return "client_left";
    case Gone::kSlowReader: return "slow_reader";
    case Gone::kDeadline: return "deadline";
    case Gone::kShutdown: return "shutdown";
  }
  return "?";
}

}  // namespace

HttpMetrics::HttpMetrics(MetricsRegistry& registry)
    : registry_(registry),
      open_(registry.MakeGauge("tramontane_http_open_requests")),
      request_seconds_(registry.MakeHistogram("tramontane_http_request_seconds")),
      first_token_(registry.MakeHistogram("tramontane_http_time_to_first_token_seconds")),
      next_token_(registry.MakeHistogram("tramontane_http_inter_token_seconds")) {
  for (const Gone why : {Gone::kClient, Gone::kSlowReader, Gone::kDeadline, Gone::kShutdown}) {
    gone_[static_cast<size_t>(why)] =
        registry.MakeCounter("tramontane_http_unanswered_total", {{"reason", ToString(why)}});
  }
}

void HttpMetrics::Answered(const std::string& route, int status) {
  registry_
      .MakeCounter("tramontane_http_requests_total",
                   {{"route", route}, {"status", std::to_string(status)}})
      .Add();
}

void HttpMetrics::Opened() { open_.Add(1); }
void HttpMetrics::Closed(double seconds) {
  open_.Add(-1);
  request_seconds_.Observe(seconds);
}
void HttpMetrics::FirstToken(double seconds) { first_token_.Observe(seconds); }
void HttpMetrics::NextToken(double seconds) { next_token_.Observe(seconds); }
void HttpMetrics::Left(Gone why) { gone_[static_cast<size_t>(why)].Add(); }

}  // namespace tramontane
