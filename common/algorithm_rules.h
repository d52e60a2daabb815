// Which points in the space of `algorithm` knobs cannot work. One table: validation, its tests and
// docs/algorithm.md read it. Ranges and enumerations are config_validate.cc's.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "common/config.h"

namespace tramontane {

struct AlgorithmRule {
  const char* name;   // as errors and the documentation quote it
  const char* field;  // the key to change
  const char* why;    // one line, after "field: "
  bool (*holds)(const AlgorithmConfig&);
};

std::span<const AlgorithmRule> AlgorithmRules();

// InvalidArgument: the first rule that is broken, as "<field>: <why> (rule <name>)".
absl::Status CheckAlgorithmRules(const AlgorithmConfig& algorithm);

// What `tramontane loss` can compute but a run cannot (InvalidArgument): values that nobody learns,
// a reward that is final only after the queue has filtered on it.
absl::Status CheckRunnable(const AlgorithmConfig& algorithm);

}  // namespace tramontane
