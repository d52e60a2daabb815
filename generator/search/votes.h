// Choosing among finished responses: votes, sums of scores, and the usual figures over samples.
// Pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tramontane {

using SameAnswer = std::function<bool(const std::string&, const std::string&)>;
using Answers = std::vector<std::optional<std::string>>;

// Index of the first response with the answer that most give; ties go to the answer seen first,
// responses without an answer do not vote. 0 when nobody answers.
size_t MajorityVote(const Answers& answers, const SameAnswer& same);

// The answer with the largest sum of scores; of its responses the best, the first among equals.
// Without any answer, the best response.
size_t WeightedVote(const Answers& answers, const std::vector<double>& scores,
                    const SameAnswer& same);

// 1 − C(n−c, k) / C(n, k): the chance that k of n samples hold a correct one.
double PassAtK(int64_t n, int64_t correct, int64_t k);

// The mean, over the subsets of k samples in their order, of whether the majority's answer is
// correct. All subsets when there are at most `most_subsets`, else that many drawn by `seed`.
double MajorityAtK(const Answers& answers, const std::vector<uint8_t>& correct, int64_t k,
                   const SameAnswer& same, int64_t most_subsets = 2000, uint64_t seed = 0);

// last | min | prod; 0 without scores.
double AggregateScores(const std::vector<double>& scores, const std::string& how);

}  // namespace tramontane
