#include "trainer/learner/advantage.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/status.h"

namespace tramontane {
namespace {

using Members = std::vector<size_t>;  // indices of sequences

struct Moments {
  double mean = 0;
  double deviation = 0;
  bool defined = false;  // enough observations for the deviation
};

// Each sequence counts `weight` times (1, or its tokens).
template <class Value, class Weight>
Moments WeightedMoments(const Members& members, Value value, Weight weight, int ddof) {
  double count = 0, sum = 0;
  for (size_t i : members) {
    count += weight(i);
    sum += weight(i) * value(i);
  }
  Moments moments;
  if (count <= 0) return moments;
  moments.mean = sum / count;
  double squares = 0;
  for (size_t i : members) squares += weight(i) * std::pow(value(i) - moments.mean, 2);
  moments.defined = count > ddof;
  if (moments.defined) moments.deviation = std::sqrt(squares / (count - ddof));
  return moments;
}

absl::Status CheckInput(const AdvantageInput& input, const AdvantageConfig& advantage,
                        const FilterConfig& filter) {
  const size_t n = input.reward.size();
  if (input.group.size() != n || input.tokens.size() != n) {
    return absl::InvalidArgumentError("group, reward and tokens differ in length");
  }
  if (filter.truncated != "keep" && input.truncated.size() != n) {
    return absl::InvalidArgumentError("algorithm.filter.truncated needs `truncated` for every sequence");
  }
  if (filter.zero_variance == "drop" && filter.on == "accuracy" && input.correct.size() != n) {
    return absl::InvalidArgumentError("algorithm.filter.on: accuracy needs `correct` for every sequence");
  }
  if (advantage.baseline == "value") {
    return absl::UnimplementedError("algorithm.advantage.baseline: value is not available yet");
  }
  return absl::OkStatus();
}

bool AllEqual(const Members& members, auto value) {
  return std::all_of(members.begin(), members.end(), [&](size_t i) { return value(i) == value(members[0]); });
}

// What a member of a group is compared with.
double Baseline(const AdvantageInput& input, const Members& members, size_t i, const std::string& kind) {
  if (kind == "none") return 0;
  double sum = 0, tokens = 0, weighted = 0;
  for (size_t j : members) {
    sum += input.reward[j];
    tokens += static_cast<double>(input.tokens[j]);
    weighted += static_cast<double>(input.tokens[j]) * input.reward[j];
  }
  const double count = static_cast<double>(members.size());
  if (kind == "leave_one_out") return (sum - input.reward[i]) / (count - 1);
  if (kind == "length_weighted_mean" && tokens > 0) return weighted / tokens;
  return sum / count;
}

// Centres (and for group_std scales) one group's members in place of `result.advantage`.
void CentreGroup(const AdvantageInput& input, const Members& members, const AdvantageConfig& advantage,
                 const ConventionsConfig& conventions, AdvantageResult& result) {
  const auto reward = [&](size_t i) { return input.reward[i]; };
  const bool by_group = advantage.scale == "group_std";
  if (members.size() == 1) {
    ++result.singleton_groups;
    if (advantage.baseline == "none" && !by_group) {
      result.advantage[members[0]] = reward(members[0]);
    } else if (conventions.singleton_group == "raw") {
      // As if the mean were 0 and the deviation 1.
      result.advantage[members[0]] = reward(members[0]) / (by_group ? 1 + advantage.epsilon : 1);
    }
    return;
  }
  double divisor = 1;
  if (by_group) {
    divisor = WeightedMoments(members, reward, [](size_t) { return 1.0; }, advantage.ddof).deviation +
              advantage.epsilon;
  }
  for (size_t i : members) {
    result.advantage[i] = (reward(i) - Baseline(input, members, i, advantage.baseline)) / divisor;
  }
}

// The scales that look across groups.
void ScaleBatch(const AdvantageInput& input, const Members& members, const AdvantageConfig& advantage,
                const ConventionsConfig& conventions, std::vector<double>& values) {
  const bool whiten = advantage.scale == "token_whiten";
  if (!whiten && advantage.scale != "minibatch_std" && advantage.scale != "batch_std") return;
  const bool by_token = whiten || conventions.batch_std_over == "tokens";
  const auto weight = [&](size_t i) { return by_token ? static_cast<double>(input.tokens[i]) : 1.0; };
  const Moments centred = WeightedMoments(members, [&](size_t i) { return values[i]; }, weight, advantage.ddof);
  // batch_std divides by the deviation of the raw rewards (TRL), the others by that of the
  // centred advantages (Magistral).
  const Moments spread =
      advantage.scale == "batch_std"
          ? WeightedMoments(members, [&](size_t i) { return input.reward[i]; }, weight, advantage.ddof)
          : centred;
  const double shift = whiten || conventions.recentre ? centred.mean : 0;
  const double divisor = spread.defined ? spread.deviation + advantage.epsilon : 1;
  for (size_t i : members) values[i] = (values[i] - shift) / divisor;
}

}  // namespace

absl::StatusOr<AdvantageResult> ComputeAdvantages(const AdvantageInput& input, const AdvantageConfig& advantage,
                                                  const ConventionsConfig& conventions,
                                                  const FilterConfig& filter) {
  RETURN_IF_ERROR(CheckInput(input, advantage, filter));
  const size_t n = input.reward.size();
  AdvantageResult result;
  result.advantage.assign(n, 0.0);
  result.kept.assign(n, 1);

  std::map<int64_t, Members> groups;  // members that take part in statistics
  for (size_t i = 0; i < n; ++i) {
    Members& members = groups[input.group[i]];
    const bool truncated = filter.truncated != "keep" && input.truncated[i] != 0;
    result.truncated_sequences += truncated;
    if (truncated && filter.truncated == "drop") result.kept[i] = 0;
    if (!truncated || filter.truncated == "mask_after") members.push_back(i);
  }
  result.groups = static_cast<int64_t>(groups.size());

  for (const auto& [id, members] : groups) {
    if (filter.zero_variance != "drop" || members.size() < 2) continue;
    const bool flat = filter.on == "accuracy"
                          ? AllEqual(members, [&](size_t i) { return input.correct[i] != 0; })
                          : AllEqual(members, [&](size_t i) { return input.reward[i]; });
    if (!flat) continue;
    ++result.zero_variance_groups;
    for (size_t i = 0; i < n; ++i) {
      if (input.group[i] == id) result.kept[i] = 0;
    }
  }

  Members counted;  // in batch statistics
  for (const auto& [id, members] : groups) {
    if (members.empty() || !result.kept[members[0]]) continue;
    CentreGroup(input, members, advantage, conventions, result);
    counted.insert(counted.end(), members.begin(), members.end());
  }
  std::sort(counted.begin(), counted.end());
  ScaleBatch(input, counted, advantage, conventions, result.advantage);

  for (size_t i = 0; i < n; ++i) {
    if (advantage.sign == "positive_only") result.advantage[i] = std::max(result.advantage[i], 0.0);
    if (filter.truncated == "mask_after" && input.truncated[i] != 0) result.advantage[i] = 0;
  }
  return result;
}

void KeepPositive(AdvantageResult& result) {
  for (size_t i = 0; i < result.kept.size(); ++i) {
    if (!(result.advantage[i] > 0)) result.kept[i] = 0;
  }
}

}  // namespace tramontane
