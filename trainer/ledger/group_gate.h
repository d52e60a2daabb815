// Which of a finished group's samples are trained on, and whether the group is at all. Pure, and a
// function of group and configuration alone (but for staleness), so that replaying the journal gives
// the same batches.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/config.h"
#include "common/rollout.h"
#include "trainer/ledger/staleness.h"

namespace tramontane {

// Takes out the samples that say nothing about the policy: aborted or failed generation, an
// infrastructure failure or timeout of the verifier, a score that is missing or not finite; and by
// algorithm.filter those cut at the token limit, gibberish, and those that repeat themselves, where
// these are dropped rather than masked. Counts them by reason.
std::map<std::string, int64_t> RemoveInvalidSamples(Group& group, const FilterConfig& filter);

// Why the group (invalid samples removed) is not trained on; empty when it is:
//   too_few_valid   fewer than 2 samples left of a group that had them
//   stale           its oldest token is older than max_staleness_versions
//   future_version  tokens of a version that this lineage never reached (a rolled-back trainer)
//   mixed_verifiers its samples were judged by different versions of a verifier
//   pass_rate       its share of right answers lies outside algorithm.filter.accept_low … accept_high
//   zero_variance   all samples alike in what algorithm.filter.on says
std::string RejectReason(const Group& group, const FilterConfig& filter, const StalenessGate& gate,
                         int64_t version);

int64_t OldestVersion(const Group& group);  // of any token; the issued version when there are none

}  // namespace tramontane
