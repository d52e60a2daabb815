// What each kind of run (run.kind) needs, and combinations that it cannot work with.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/config.h"

namespace tramontane {

// InvalidArgument: `field` holds no kind; names them all.
absl::Status CheckKind(const std::string& kind, const std::string& field);
// Kinds whose output is a model folder; reject_sample's is a file of rows.
inline bool GivesModel(const std::string& kind) { return kind != "reject_sample"; }
// Kinds that rows can be had from: selected already, or stored rollouts to select from.
inline bool GivesRows(const std::string& kind) { return kind == "reject_sample" || kind == "rl"; }
// Selects pairs for dpo; else rows with a completion.
inline bool KeepsPairs(const RejectSection& reject) { return reject.keep.starts_with("pairs"); }
// Learns from the rows of sft.data, without generators and verifiers.
bool IsSupervised(const RunConfig& config);
// The trainer alone does it.
inline bool RunsAlone(const RunConfig& config) {
  return IsSupervised(config) || config.run.kind == "merge";
}

// InvalidArgument names the field and the rule it breaks.
absl::Status CheckKindRules(const RunConfig& config);

}  // namespace tramontane
