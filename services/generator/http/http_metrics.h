// What the HTTP endpoint counts. Any thread.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "services/generator/http/http_exchange.h"

namespace tramontane {

class HttpMetrics {
 public:
  explicit HttpMetrics(MetricsRegistry& registry);

  void Answered(const std::string& route, int status);
  void Opened();
  void Closed(double seconds);
  void FirstToken(double seconds);
  void NextToken(double seconds);
  void Left(Gone why);

 private:
  MetricsRegistry& registry_;
  Gauge open_;
  Histogram request_seconds_, first_token_, next_token_;
  Counter gone_[4];
};

}  // namespace tramontane
