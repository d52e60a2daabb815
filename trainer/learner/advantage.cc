#include "trainer/learner/advantage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "common/status.h"
#include "trainer/learner/gae.h"

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

absl::Status CheckInput(const AdvantageInput& input, const AlgorithmConfig& algorithm) {
  const FilterConfig& filter = algorithm.filter;
  const size_t n = input.reward.size();
  if (input.group.size() != n || input.tokens.size() != n) {
    return absl::InvalidArgumentError("group, reward and tokens differ in length");
  }
  if (filter.truncated != "keep" && input.truncated.size() != n) {
    return absl::InvalidArgumentError(
        "algorithm.filter.truncated needs `truncated` for every sequence");
  }
  if (filter.zero_variance == "drop" && filter.on == "accuracy" && input.correct.size() != n) {
    return absl::InvalidArgumentError(
        "algorithm.filter.on: accuracy needs `correct` for every sequence");
  }
  if (!input.masked.empty() && input.masked.size() != n)
    return absl::InvalidArgumentError("masked: needs an entry for every sequence");
  const auto tokens =
      static_cast<size_t>(std::accumulate(input.tokens.begin(), input.tokens.end(), int64_t{0}));
  if (!input.token_reward.empty() && input.token_reward.size() != tokens)
    return absl::InvalidArgumentError("token_reward: needs one a sampled token");
  if (algorithm.advantage.baseline == "value" && input.value.size() != tokens) {
    return absl::InvalidArgumentError(
        "algorithm.advantage.baseline: value needs one `value` a sampled token");
  }
  return absl::OkStatus();
}

bool AllEqual(const Members& members, auto value) {
  return std::all_of(members.begin(), members.end(),
                     [&](size_t i) { return value(i) == value(members[0]); });
}

// τ·log mean exp(r/τ): the exact normaliser of mirror descent. The largest reward is taken out, so
// that nothing overflows.
double LogMeanExp(const AdvantageInput& input, const Members& members, double tau) {
  double largest = input.reward[members[0]];
  for (size_t j : members) largest = std::max(largest, input.reward[j]);
  double sum = 0;
  for (size_t j : members) sum += std::exp((input.reward[j] - largest) / tau);
  return largest + tau * std::log(sum / static_cast<double>(members.size()));
}

// What a member of a group is compared with.
double Baseline(const AdvantageInput& input, const Members& members, size_t i,
                const AlgorithmConfig& algorithm) {
  const std::string& kind = algorithm.advantage.baseline;
  if (kind == "none") return 0;
  if (algorithm.objective.kind == "opmd" && algorithm.objective.log_z == "logsumexp") {
    return LogMeanExp(input, members, *algorithm.objective.tau);
  }
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

double GroupDivisor(const AdvantageInput& input, const Members& members,
                    const AdvantageConfig& advantage) {
  const auto reward = [&](size_t i) { return input.reward[i]; };
  return WeightedMoments(
             members, reward, [](size_t) { return 1.0; }, advantage.ddof)
             .deviation +
         advantage.epsilon;
}

// Centres (and for group_std scales) one group's members in place of `result.advantage`.
void CentreGroup(const AdvantageInput& input, const Members& members,
                 const AlgorithmConfig& algorithm, AdvantageResult& result) {
  const AdvantageConfig& advantage = algorithm.advantage;
  const bool by_group = advantage.scale == "group_std";
  if (members.size() == 1) {
    const double reward = input.reward[members[0]];
    ++result.singleton_groups;
    if (advantage.baseline == "none" && !by_group) {
      result.advantage[members[0]] = reward;
    } else if (algorithm.conventions.singleton_group == "raw") {
      // As if the mean were 0 and the deviation 1.
      result.advantage[members[0]] = reward / (by_group ? 1 + advantage.epsilon : 1);
    }
    return;
  }
  const double divisor = by_group ? GroupDivisor(input, members, advantage) : 1;
  for (size_t i : members) {
    result.advantage[i] = (input.reward[i] - Baseline(input, members, i, algorithm)) / divisor;
  }
}

// The scales that look across groups, on one value a sequence or, with `by_token`, a token:
// `counted` indexes `values`, weight(i) says how often entry i counts.
template <class Weight>
void ScaleAcross(const AdvantageInput& input, const Members& counted, const Members& sequences,
                 Weight weight, const AlgorithmConfig& algorithm, std::vector<double>& values) {
  const AdvantageConfig& advantage = algorithm.advantage;
  const bool whiten = advantage.scale == "token_whiten";
  if (!whiten && advantage.scale != "minibatch_std" && advantage.scale != "batch_std") return;
  const Moments centred = WeightedMoments(
      counted, [&](size_t i) { return values[i]; }, weight, advantage.ddof);
  // batch_std divides by the deviation of the raw rewards (TRL), the others by that of the
  // centred advantages (Magistral).
  const bool by_token = algorithm.conventions.batch_std_over == "tokens";
  const auto times = [&](size_t i) {
    return by_token ? static_cast<double>(input.tokens[i]) : 1.0;
  };
  const Moments spread =
      advantage.scale == "batch_std"
          ? WeightedMoments(
                sequences, [&](size_t i) { return input.reward[i]; }, times, advantage.ddof)
          : centred;
  const double shift = whiten || algorithm.conventions.recentre ? centred.mean : 0;
  const double divisor = spread.defined ? spread.deviation + advantage.epsilon : 1;
  for (size_t i : counted) values[i] = (values[i] - shift) / divisor;
}

// What is scaled together: the minibatches for minibatch_std, everything for the other scales.
std::vector<Members> Together(const AdvantageInput& input, const Members& counted,
                              const AlgorithmConfig& algorithm) {
  if (input.minibatch.empty() || algorithm.advantage.scale != "minibatch_std") return {counted};
  std::map<int64_t, Members> parts;
  for (size_t i : counted) parts[input.minibatch[i]].push_back(i);
  std::vector<Members> together;
  for (auto& [id, members] : parts) together.push_back(std::move(members));
  return together;
}

// One advantage a sequence.
void CompareWithGroups(const AdvantageInput& input, const std::vector<Members>& groups,
                       const Members& counted, const AlgorithmConfig& algorithm,
                       AdvantageResult& result) {
  for (const Members& members : groups) CentreGroup(input, members, algorithm, result);
  const bool by_token = algorithm.advantage.scale == "token_whiten" ||
                        algorithm.conventions.batch_std_over == "tokens";
  const auto weight = [&](size_t i) {
    return by_token ? static_cast<double>(input.tokens[i]) : 1.0;
  };
  for (const Members& part : Together(input, counted, algorithm)) {
    ScaleAcross(input, part, part, weight, algorithm, result.advantage);
  }
}

// One advantage a token.
void CompareWithValues(const AdvantageInput& input, const std::vector<Members>& groups,
                       const Members& counted, const AlgorithmConfig& algorithm,
                       AdvantageResult& result) {
  result.token_advantage.assign(input.value.size(), 0.0);
  result.value_target = input.value;
  std::vector<size_t> first(input.tokens.size() + 1, 0);
  for (size_t i = 0; i < input.tokens.size(); ++i)
    first[i + 1] = first[i] + static_cast<size_t>(input.tokens[i]);
  for (size_t i : counted) {
    const size_t begin = first[i], count = first[i + 1] - begin;
    if (count == 0) continue;
    std::vector<double> reward(count, 0.0);
    if (!input.token_reward.empty())
      std::copy_n(input.token_reward.begin() + begin, count, reward.begin());
    reward.back() += input.reward[i];
    const GaeResult gae = EstimateAdvantages(reward, std::span(input.value).subspan(begin, count),
                                             algorithm.advantage);
    std::copy(gae.advantage.begin(), gae.advantage.end(), result.token_advantage.begin() + begin);
    std::copy(gae.value_target.begin(), gae.value_target.end(),
              result.value_target.begin() + begin);
  }
  for (const Members& members : groups) {
    result.singleton_groups += members.size() == 1;
    if (algorithm.advantage.scale != "group_std" || members.size() < 2) continue;
    const double divisor = GroupDivisor(input, members, algorithm.advantage);
    for (size_t i : members) {
      for (size_t t = first[i]; t < first[i + 1]; ++t) result.token_advantage[t] /= divisor;
    }
  }
  for (const Members& part : Together(input, counted, algorithm)) {
    Members tokens;
    for (size_t i : part) {
      for (size_t t = first[i]; t < first[i + 1]; ++t) tokens.push_back(t);
    }
    ScaleAcross(
        input, tokens, part, [](size_t) { return 1.0; }, algorithm, result.token_advantage);
  }
}

// Signs, masks, and for values the sequences' means.
void Finish(const AdvantageInput& input, const AlgorithmConfig& algorithm,
            AdvantageResult& result) {
  const auto final_value = [&](size_t i, double value) {
    if (!input.masked.empty() && input.masked[i] != 0) return 0.0;
    if (algorithm.filter.truncated == "mask_after" && input.truncated[i] != 0) return 0.0;
    return algorithm.advantage.sign == "positive_only" ? std::max(value, 0.0) : value;
  };
  for (size_t i = 0; i < result.advantage.size(); ++i)
    result.advantage[i] = final_value(i, result.advantage[i]);
  if (result.token_advantage.empty()) return;
  size_t t = 0;
  for (size_t i = 0; i < input.tokens.size(); ++i) {
    for (int64_t n = 0; n < input.tokens[i]; ++n, ++t) {
      result.token_advantage[t] = final_value(i, result.token_advantage[t]);
      result.advantage[i] += result.token_advantage[t] / static_cast<double>(input.tokens[i]);
    }
  }
}

// Of baselines that give a sequence one number: token t's advantage is that and its own reward,
// which earlier tokens get nothing of.
void AddTokenRewards(const AdvantageInput& input, const AlgorithmConfig& algorithm,
                     AdvantageResult& result) {
  result.token_advantage.assign(input.token_reward.size(), 0.0);
  size_t t = 0;
  for (size_t i = 0; i < input.tokens.size(); ++i) {
    const bool masked =
        (algorithm.filter.truncated.starts_with("mask") && input.truncated[i] != 0) ||
        (!input.masked.empty() && input.masked[i] != 0);
    const double whole = result.advantage[i];
    for (int64_t n = 0; n < input.tokens[i]; ++n, ++t) {
      if (masked || !result.kept[i]) continue;
      result.token_advantage[t] = whole + input.token_reward[t];
      result.advantage[i] += input.token_reward[t] / static_cast<double>(input.tokens[i]);
    }
  }
}

}  // namespace

absl::StatusOr<AdvantageResult> ComputeAdvantages(const AdvantageInput& input,
                                                  const AlgorithmConfig& algorithm) {
  RETURN_IF_ERROR(CheckInput(input, algorithm));
  const FilterConfig& filter = algorithm.filter;
  const size_t n = input.reward.size();
  AdvantageResult result;
  result.advantage.assign(n, 0.0);
  result.kept.assign(n, 1);

  std::map<int64_t, Members> all;  // members that take part in statistics
  for (size_t i = 0; i < n; ++i) {
    Members& members = all[input.group[i]];
    const bool truncated = filter.truncated != "keep" && input.truncated[i] != 0;
    result.truncated_sequences += truncated;
    if (truncated && filter.truncated == "drop") result.kept[i] = 0;
    if (!truncated || filter.truncated == "mask_after") members.push_back(i);
  }
  result.groups = static_cast<int64_t>(all.size());

  for (const auto& [id, members] : all) {
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

  std::vector<Members> groups;
  Members counted;  // in statistics across groups
  for (const auto& [id, members] : all) {
    if (members.empty() || !result.kept[members[0]]) continue;
    groups.push_back(members);
    counted.insert(counted.end(), members.begin(), members.end());
  }
  std::sort(counted.begin(), counted.end());
  if (algorithm.advantage.baseline == "value") {
    CompareWithValues(input, groups, counted, algorithm, result);
  } else {
    CompareWithGroups(input, groups, counted, algorithm, result);
  }
  Finish(input, algorithm, result);
  if (algorithm.advantage.baseline != "value" && !input.token_reward.empty())
    AddTokenRewards(input, algorithm, result);
  return result;
}

void KeepPositive(AdvantageResult& result) {
  for (size_t i = 0; i < result.kept.size(); ++i) {
    if (!(result.advantage[i] > 0)) result.kept[i] = 0;
  }
}

}  // namespace tramontane
