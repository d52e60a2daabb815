#include "generator/search/search.h"

#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/status.h"
#include "generator/search/methods.h"

namespace tramontane {
namespace {

absl::Status Bad(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError("search." + field + ": " + why);
}

absl::Status OneOf(const std::string& field, const std::string& value,
                   std::initializer_list<const char*> names) {
  std::string list;
  for (const char* name : names) {
    if (value == name) return absl::OkStatus();
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  return Bad(field, "\"" + value + "\" is none of " + list);
}

absl::Status Between(const std::string& field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Bad(field, "must be from " + std::to_string(least) + " to " + std::to_string(most) +
                        ", got " + std::to_string(value));
}

absl::Status Unit(const std::string& field, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return Bad(field, "must be in [0, 1], got " + std::to_string(value));
}

absl::Status CheckSearch(const SearchParams& s) {
  RETURN_IF_ERROR(
      OneOf("method", s.method,
            {"majority", "best_of_n", "weighted_best_of_n", "parallel", "beam", "dvts", "mcts"}));
  RETURN_IF_ERROR(Between("n", s.n, 1, 4096));
  RETURN_IF_ERROR(Between("expansion", s.expansion, 1, 256));
  RETURN_IF_ERROR(Between("max_steps", s.max_steps, 1, 10000));
  RETURN_IF_ERROR(Between("simulations", s.simulations, 1, 1000000));
  RETURN_IF_ERROR(Between("rollouts", s.rollouts, 1, 256));
  RETURN_IF_ERROR(Between("token_budget", s.token_budget, 0, int64_t{1} << 40));
  RETURN_IF_ERROR(OneOf("budget_scope", s.budget_scope, {"total", "path"}));
  RETURN_IF_ERROR(OneOf("aggregate", s.aggregate, {"last", "min", "prod"}));
  RETURN_IF_ERROR(OneOf("pick", s.pick, {"visits", "value"}));
  RETURN_IF_ERROR(Unit("gamma", s.gamma));
  RETURN_IF_ERROR(Unit("rollout_weight", s.rollout_weight));
  if (s.step_end.empty()) return Bad("step_end", "must not be empty");
  if ((s.method == "beam" || s.method == "dvts") && s.n % s.expansion != 0)
    return Bad("n", std::to_string(s.n) + " must be a multiple of expansion, " +
                        std::to_string(s.expansion));
  return absl::OkStatus();
}

// Defaults that differ from those of the struct.
void SetDefaults(SearchParams& search) {
  if (search.method == "parallel") search.n = 8;
  if (search.method == "mcts") search.expansion = 2;
}

absl::StatusOr<int64_t> Integer(const std::string& key, const nlohmann::json& value) {
  if (value.is_number_integer()) return value.get<int64_t>();
  return Bad(key, "must be an integer, got " + value.dump());
}

absl::Status ReadField(const std::string& key, const nlohmann::json& value, SearchParams& s) {
  const std::map<std::string, std::string*> texts = {{"method", &s.method},
                                                     {"step_end", &s.step_end},
                                                     {"aggregate", &s.aggregate},
                                                     {"budget_scope", &s.budget_scope},
                                                     {"pick", &s.pick}};
  const std::map<std::string, int32_t*> integers = {{"n", &s.n},
                                                    {"expansion", &s.expansion},
                                                    {"max_steps", &s.max_steps},
                                                    {"simulations", &s.simulations},
                                                    {"rollouts", &s.rollouts}};
  const std::map<std::string, double*> numbers = {{"gamma", &s.gamma},
                                                  {"rollout_weight", &s.rollout_weight}};
  if (const auto text = texts.find(key); text != texts.end()) {
    if (!value.is_string()) return Bad(key, "must be a text, got " + value.dump());
    *text->second = value.get<std::string>();
  } else if (const auto integer = integers.find(key); integer != integers.end()) {
    ASSIGN_OR_RETURN(const int64_t wide, Integer(key, value));
    RETURN_IF_ERROR(Between(key, wide, 0, INT32_MAX));
    *integer->second = static_cast<int32_t>(wide);
  } else if (const auto number = numbers.find(key); number != numbers.end()) {
    if (!value.is_number()) return Bad(key, "must be a number, got " + value.dump());
    *number->second = value.get<double>();
  } else if (key == "token_budget") {
    ASSIGN_OR_RETURN(s.token_budget, Integer(key, value));
  } else if (key == "prior") {
    if (!value.is_boolean()) return Bad(key, "must be true or false, got " + value.dump());
    s.prior = value.get<bool>();
  } else {
    return Bad(key, "unknown key");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SearchParams> SearchFromJson(const nlohmann::json& json) {
  if (!json.is_object())
    return absl::InvalidArgumentError("search: must be an object, got " + json.dump());
  SearchParams search;
  if (json.contains("method")) RETURN_IF_ERROR(ReadField("method", json["method"], search));
  SetDefaults(search);
  for (const auto& [key, value] : json.items()) RETURN_IF_ERROR(ReadField(key, value, search));
  RETURN_IF_ERROR(CheckSearch(search));
  return search;
}

absl::StatusOr<std::vector<double>> MeanLogprobs(const std::vector<const SearchPath*>& paths) {
  std::vector<double> scores;
  for (const SearchPath* path : paths) {
    const std::vector<float>& logprobs = path->rollout.logprobs;  // 0 for what was put in
    const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
    const auto sampled = static_cast<double>(logprobs.size()) -
                         static_cast<double>(CountTokens(path->rollout.injected));
    scores.push_back(sampled > 0 ? sum / sampled : 0);
  }
  return scores;
}

absl::StatusOr<SearchResult> Search(const SearchParams& params, int32_t max_tokens,
                                    const SearchTools& tools) {
  RETURN_IF_ERROR(CheckSearch(params));
  if (max_tokens < 1) return absl::InvalidArgumentError("max_new_tokens must be positive");
  if (!tools.score && params.method != "majority")
    return Bad("method", params.method + " needs a scorer");
  PathGrower grower(params, max_tokens, tools);
  if (params.method == "beam") return SearchBeam(params, grower);
  if (params.method == "dvts") return SearchDvts(params, grower);
  if (params.method == "mcts") return SearchMcts(params, grower);
  return SearchChains(params, tools, grower);
}

}  // namespace tramontane
