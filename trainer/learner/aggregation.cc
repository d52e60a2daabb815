#include "trainer/learner/aggregation.h"

#include <map>

namespace tramontane {
namespace {

struct Scope {
  double tokens = 0;
  double sequences = 0;
};

}  // namespace

std::vector<double> TokenWeights(const std::vector<int64_t>& group,
                                 const std::vector<int64_t>& tokens,
                                 const std::vector<uint8_t>& kept,
                                 const AggregationConfig& aggregation,
                                 const ConventionsConfig& conventions) {
  const bool by_group = aggregation.scope == "group";
  const bool count_empty = conventions.empty_sequences == "count";
  const double epsilon = conventions.denominator_epsilon;
  const auto key = [&](size_t i) { return by_group ? group[i] : 0; };

  std::map<int64_t, Scope> scopes;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!kept[i] || (tokens[i] == 0 && !count_empty)) continue;
    Scope& scope = scopes[key(i)];
    scope.tokens += static_cast<double>(tokens[i]);
    scope.sequences += 1;
  }
  const double scope_count = static_cast<double>(scopes.size()) + (by_group ? epsilon : 0);

  std::vector<double> weights(tokens.size(), 0.0);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!kept[i] || tokens[i] == 0) continue;
    const Scope& scope = scopes[key(i)];
    double denominator = 1;
    if (aggregation.mode == "token_mean") {
      denominator = scope.tokens + epsilon;
    } else if (aggregation.mode == "seq_mean_token_mean") {
      denominator = (scope.sequences + epsilon) * (static_cast<double>(tokens[i]) + epsilon);
    } else if (aggregation.mode == "seq_mean_token_sum") {
      denominator = scope.sequences + epsilon;
    } else {
      denominator =
          *aggregation.constant * (conventions.constant_per == "sequence" ? scope.sequences : 1);
    }
    weights[i] = 1 / (denominator * scope_count);
  }
  return weights;
}

std::vector<double> PositiveTokenWeights(const std::vector<uint8_t>& positive,
                                         const std::vector<int64_t>& tokens,
                                         const std::vector<uint8_t>& kept) {
  const auto counts = [&](size_t i) { return kept[i] && positive[i] && tokens[i] > 0; };
  double total = 0;
  for (size_t i = 0; i < kept.size(); ++i) total += counts(i) ? static_cast<double>(tokens[i]) : 0;
  std::vector<double> weights(kept.size(), 0.0);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (counts(i)) weights[i] = 1 / total;
  }
  return weights;
}

}  // namespace tramontane
