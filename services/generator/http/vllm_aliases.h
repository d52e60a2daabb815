// The page of /metrics once more under the names that vLLM's dashboards, autoscalers and collectors
// know. Pure.
#pragma once

#include <string>

namespace tramontane {

// `page` in Prometheus' text format. What it lacks is left out.
std::string VllmAliases(const std::string& page, const std::string& model_name);

}  // namespace tramontane
