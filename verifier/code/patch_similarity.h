// How alike two patches are, in [0, 1]: the measure of SWE-RL (arXiv 2502.18449 §2.1) in CWM's form
// (arXiv 2510.02387 §5; facebookresearch/cwm cwm/rl/swerl/similarities.py). Pure.
#pragma once

#include <string_view>
#include <vector>

#include "verifier/code/unified_diff.h"

namespace tramontane {

// Ratcliff and Obershelp's ratio 2M/T over code points, as Python's difflib.SequenceMatcher(None,
// a, b, autojunk=False).ratio(). The work is counted, not timed: after 500 million steps (texts of
// some 100 KiB) what is left counts as unlike, so the result is the same on every machine.
double SequenceRatio(std::string_view a, std::string_view b);

// The mean, over the files that `gold` changes, of the ratio of the hunks' texts; 0 for a file that
// `predicted` leaves alone. Other files of `predicted` do not count. 0 when `gold` changes nothing.
double PatchSimilarity(const std::vector<FileDiff>& predicted, const std::vector<FileDiff>& gold);

}  // namespace tramontane
