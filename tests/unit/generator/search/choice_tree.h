// A model that can be enumerated, for the tests of searches.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "generator/search/search.h"

namespace tramontane {

inline SearchParams Params(const std::string& json) {
  const auto params = SearchFromJson(nlohmann::json::parse(json));
  EXPECT_TRUE(params.ok()) << params.status();
  return *params;
}

inline bool SameText(const std::string& a, const std::string& b) { return a == b; }

// A tree of steps: a path's text is the digits of its choices, one token each, and a step is one
// token. Of the paths that grow together from one place, the j-th takes choice j.
class ChoiceTree {
 public:
  ChoiceTree(int32_t depth, int32_t branching) : depth_(depth), branching_(branching) {}

  SearchTools Tools(std::function<double(const std::string&)> value) {
    SearchTools tools;
    tools.grow =
        [this](const std::vector<PathAsk>& asks) -> absl::StatusOr<std::vector<PathGrowth>> {
      std::vector<PathGrowth> grown;
      std::map<std::string, int32_t> siblings;
      for (const PathAsk& ask : asks) {
        EXPECT_FALSE(ask.path->ended);
        EXPECT_GT(ask.max_tokens, 0);
        grown.push_back(Grow(ask, siblings[ask.path->rollout.text]++));
      }
      return grown;
    };
    tools.score =
        [value](
            const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
      std::vector<double> scores;
      for (const SearchPath* path : paths) scores.push_back(value(path->rollout.text));
      return scores;
    };
    tools.answer = [](const std::string& text) { return std::optional<std::string>(text); };
    tools.same = SameText;
    return tools;
  }

  std::vector<std::string> Leaves() const {
    std::vector<std::string> texts = {""};
    for (int32_t level = 0; level < depth_; ++level) {
      std::vector<std::string> longer;
      for (const std::string& text : texts)
        for (int32_t c = 0; c < branching_; ++c) longer.push_back(text + Digit(c));
      texts = longer;
    }
    return texts;
  }

 private:
  static std::string Digit(int32_t choice) {
    return std::string(1, static_cast<char>('0' + choice));
  }

  PathGrowth Grow(const PathAsk& ask, int32_t choice) const {
    PathGrowth growth;
    growth.rollout = ask.path->rollout;
    const size_t levels =
        growth.rollout.tokens.size() + (ask.to_end ? static_cast<size_t>(ask.max_tokens) : 1);
    while (growth.rollout.tokens.size() < levels && !Ended(growth.rollout.text)) {
      growth.rollout.tokens.push_back(choice % branching_);
      growth.rollout.logprobs.push_back(-std::log(static_cast<float>(branching_)));
      growth.rollout.text += Digit(choice % branching_);
    }
    growth.draws = static_cast<int32_t>(growth.rollout.tokens.size());
    growth.rollout.finish_reason = FinishReason::kStop;
    growth.stop = Ended(growth.rollout.text) ? PathStop::kEnded
                  : ask.to_end               ? PathStop::kCut
                                             : PathStop::kStep;
    return growth;
  }
  bool Ended(const std::string& text) const { return text.size() == static_cast<size_t>(depth_); }

  const int32_t depth_, branching_;
};

}  // namespace tramontane
