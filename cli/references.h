// Reference pages made from the lists that the program itself uses: docs/configuration.md,
// docs/metrics.md. A test compares them with what is committed.
#pragma once

#include <string>

namespace tramontane {

std::string MetricsReferenceMarkdown();

}  // namespace tramontane
