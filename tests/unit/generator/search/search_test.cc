// Searches over models that can be enumerated: what they find is compared with all there is.
#include "generator/search/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "generator/search/mcts.h"
#include "generator/search/path_grower.h"
#include "generator/search/votes.h"
#include "tests/unit/generator/search/choice_tree.h"

namespace tramontane {
namespace {

using ::testing::HasSubstr;

std::map<std::string, double> RandomLeaves(const ChoiceTree& tree, uint32_t seed) {
  std::mt19937 random(seed);
  std::map<std::string, double> values;
  for (const std::string& leaf : tree.Leaves())
    values[leaf] = std::uniform_real_distribution<>()(random);
  return values;
}

// The exact value of the beginning of a response: the best that it can become.
std::function<double(const std::string&)> Exact(const std::map<std::string, double>& leaves) {
  return [leaves](const std::string& text) {
    double best = -1;
    for (const auto& [leaf, value] : leaves)
      if (leaf.starts_with(text)) best = std::max(best, value);
    return best;
  };
}

std::string BestLeaf(const std::map<std::string, double>& leaves) {
  return std::ranges::max_element(leaves, {}, [](const auto& leaf) { return leaf.second; })->first;
}

TEST(Search, BeamAndDvtsFindTheOptimumOfATreeWithExactValues) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    ChoiceTree tree(4, 3);
    const auto leaves = RandomLeaves(tree, seed);
    const SearchTools tools = tree.Tools(Exact(leaves));
    for (const char* params :
         {R"({"method":"beam","n":6,"expansion":3})", R"({"method":"dvts","n":3,"expansion":3})"}) {
      const auto result = Search(Params(params), 100, tools);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->best.rollout.text, BestLeaf(leaves)) << params << seed;
      EXPECT_EQ(result->best.score, leaves.at(BestLeaf(leaves)));
      EXPECT_TRUE(result->best.ended);
      EXPECT_EQ(result->best.answer, result->best.rollout.text);
    }
  }
}

// Values of the eight leaves apart from each other: averages over visits tell near ties slowly.
TEST(Search, MctsOverADepthThreeTreeEqualsBruteForce) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    ChoiceTree tree(3, 2);
    std::map<std::string, double> leaves;
    std::vector<double> values = {0, .125, .25, .375, .5, .625, .75, 1};
    std::shuffle(values.begin(), values.end(), std::mt19937(seed));
    for (const std::string& leaf : tree.Leaves()) {
      leaves[leaf] = values.back();
      values.pop_back();
    }
    const SearchTools tools = tree.Tools(Exact(leaves));
    for (const char* pick : {"visits", "value"}) {
      SearchParams params = Params(R"({"method":"mcts","gamma":1,"simulations":3000})");
      params.pick = pick;
      const auto result = Search(params, 100, tools);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->best.rollout.text, BestLeaf(leaves)) << seed << pick;
    }
  }
}

void ExpectVisitsAreConserved(const MctsNode& node) {
  if (node.children.empty()) return;
  int64_t below = 0;
  for (const auto& child : node.children) {
    below += child->visits;
    ExpectVisitsAreConserved(*child);
  }
  EXPECT_EQ(node.visits, below + (node.parent == nullptr ? 0 : 1));
}

TEST(Mcts, VisitsAreConservedAndConcentrateOnTheBestArm) {
  ChoiceTree bandit(1, 4);
  const SearchTools tools = bandit.Tools([](const std::string& text) {
    return text == "2" ? 0.9 : text == "1" ? 0.6 : 0.3;
  });
  const SearchParams params = Params(R"({"method":"mcts","expansion":4,"simulations":400})");
  PathGrower grower(params, 10, tools);
  MctsTree tree(params, grower);
  ASSERT_TRUE(tree.Run().ok());
  ASSERT_EQ(tree.root().children.size(), 4u);
  std::vector<int64_t> visits;
  for (const auto& child : tree.root().children) visits.push_back(child->visits);
  EXPECT_GT(visits[2], 4 * visits[1]);
  EXPECT_GT(visits[2], tree.root().visits * 3 / 4);
  EXPECT_GT(visits[1], visits[0]);

  ChoiceTree deep(5, 2);
  const SearchTools deep_tools = deep.Tools(Exact(RandomLeaves(deep, 1)));
  PathGrower deep_grower(params, 10, deep_tools);
  MctsTree deep_tree(params, deep_grower);
  ASSERT_TRUE(deep_tree.Run().ok());
  ExpectVisitsAreConserved(deep_tree.root());
}

TEST(Mcts, RolloutsAndPriorsEnterTheValues) {
  ChoiceTree tree(3, 2);
  // The value misleads at the first step; finishing the responses tells.
  const auto value = [](const std::string& text) {
    if (text.size() < 3) return text.starts_with("0") ? 1.0 : 0.0;
    return text.starts_with("1") ? 1.0 : 0.0;
  };
  SearchParams params =
      Params(R"({"method":"mcts","simulations":3,"rollout_weight":1,"prior":true})");
  const SearchTools tools = tree.Tools(value);
  PathGrower grower(params, 10, tools);
  MctsTree searched(params, grower);
  ASSERT_TRUE(searched.Run().ok());
  EXPECT_GT(searched.root().children[1]->value, searched.root().children[0]->value);
  EXPECT_DOUBLE_EQ(searched.root().children[0]->prior, 0.5);
}

// Every outcome of N responses, each correct with probability p, with its probability.
double SuccessOver(int32_t n, double p, const SearchParams& params, bool perfect_verifier) {
  double success = 0;
  for (uint32_t outcome = 0; outcome < (1u << n); ++outcome) {
    SearchTools tools;
    tools.grow = [&](const std::vector<PathAsk>& asks) -> absl::StatusOr<std::vector<PathGrowth>> {
      std::vector<PathGrowth> grown(asks.size());
      for (size_t i = 0; i < asks.size(); ++i) {
        const bool correct = (outcome >> asks[i].path->rollout.sample_index) & 1;
        grown[i].rollout.tokens = {correct};
        grown[i].rollout.logprobs = {0};
        grown[i].draws = 1;
        grown[i].rollout.text = correct ? "right" : "wrong";
        grown[i].stop = PathStop::kEnded;
      }
      return grown;
    };
    tools.score =
        [&](const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
      std::vector<double> scores;
      for (const SearchPath* path : paths)
        scores.push_back(perfect_verifier && path->rollout.text == "right" ? 1 : 0.5);
      return scores;
    };
    tools.answer = [](const std::string& text) { return std::optional<std::string>(text); };
    tools.same = SameText;
    const auto result = Search(params, 10, tools);
    EXPECT_TRUE(result.ok()) << result.status();
    const int32_t right = std::popcount(outcome);
    if (result->best.rollout.text == "right")
      success += std::pow(p, right) * std::pow(1 - p, n - right);
  }
  return success;
}

TEST(Search, MajorityOfThreeOfTwoAnswersIsRightWithProbabilityPoint648) {
  EXPECT_NEAR(SuccessOver(3, .6, Params(R"({"method":"majority","n":3})"), false), .648, 1e-12);
}

TEST(Search, BestOfNWithAPerfectVerifierFailsOnlyWhenAllAreWrong) {
  for (const char* method : {"best_of_n", "weighted_best_of_n", "parallel"}) {
    for (int32_t n : {1, 2, 5}) {
      SearchParams params;
      params.method = method;
      params.n = n;
      const double found = SuccessOver(n, .3, params, true);
      if (std::string(method) == "weighted_best_of_n") {
        EXPECT_LE(found, 1 - std::pow(.7, n) + 1e-12);  // many wrong ones outvote one right one
      } else {
        EXPECT_NEAR(found, 1 - std::pow(.7, n), 1e-12);
      }
    }
  }
}

TEST(Search, BestOfNWithAConstantVerifierIsOneSample) {
  EXPECT_NEAR(SuccessOver(5, .3, Params(R"({"n":5})"), false), .3, 1e-12);
}

// A random text model: the token is a function of stream and position. Steps end at token 0, the
// response at token 1.
PathGrowth RandomGrowth(const PathAsk& ask) {
  PathGrowth growth;
  growth.rollout = ask.path->rollout;
  const auto stream = static_cast<uint32_t>(ask.path->rollout.sample_index);
  size_t position = ask.path->rollout.tokens.size();
  const size_t most = position + static_cast<size_t>(ask.max_tokens);
  while (growth.rollout.tokens.size() < most) {
    std::seed_seq seeds{stream, static_cast<uint32_t>(position++)};
    std::mt19937 random(seeds);
    const auto token = static_cast<int32_t>(random() % 12);
    growth.rollout.tokens.push_back(token);
    growth.rollout.logprobs.push_back(-1);
    growth.rollout.text += static_cast<char>('a' + token);
    if (token == 1) growth.stop = PathStop::kEnded;
    if (token == 0 && !ask.to_end) growth.stop = PathStop::kStep;
    if (growth.stop != PathStop::kCut) break;
  }
  growth.draws = static_cast<int32_t>(growth.rollout.tokens.size());
  growth.rollout.finish_reason = FinishReason::kStop;
  return growth;
}

SearchTools RandomTools() {
  SearchTools tools;
  tools.grow = [](const std::vector<PathAsk>& asks) -> absl::StatusOr<std::vector<PathGrowth>> {
    std::vector<PathGrowth> grown;
    for (const PathAsk& ask : asks) {
      EXPECT_FALSE(ask.path->ended);  // what has ended is never expanded
      grown.push_back(RandomGrowth(ask));
    }
    return grown;
  };
  tools.score =
      [](const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
    std::vector<double> scores;
    for (const SearchPath* path : paths)
      scores.push_back(static_cast<double>(std::hash<std::string>()(path->rollout.text) % 1000));
    return scores;
  };
  tools.answer = [](const std::string& text) { return std::optional(text.substr(0, 1)); };
  tools.same = SameText;
  return tools;
}

TEST(Search, OneBeamOfOneChildIsPlainSamplingTokenForToken) {
  SearchPath empty;
  const PathGrowth plain = RandomGrowth({&empty, 30, true});
  for (const char* params :
       {R"({"method":"beam","n":1,"expansion":1})", R"({"method":"dvts","n":1,"expansion":1})",
        R"({"method":"beam","n":1,"expansion":1,"token_budget":1000})",
        R"({"n":1,"aggregate":"min"})", R"({"method":"majority","n":1})"}) {
    const auto result = Search(Params(params), 30, RandomTools());
    EXPECT_EQ(result->best.rollout.tokens, plain.rollout.tokens) << params;
    EXPECT_EQ(result->best.rollout.text, plain.rollout.text);
    EXPECT_EQ(result->sampled_tokens, static_cast<int64_t>(plain.rollout.tokens.size()));
  }
}

const char* const kEveryMethod[] = {
    R"({"method":"majority","n":6})",
    R"({"method":"best_of_n","n":6})",
    R"({"method":"parallel"})",
    R"({"method":"weighted_best_of_n","aggregate":"prod"})",
    R"({"method":"beam"})",
    R"({"method":"beam","n":8,"expansion":2,"max_steps":3})",
    R"({"method":"dvts","n":8})",
    R"({"method":"mcts","simulations":30})",
    R"({"method":"mcts","rollout_weight":0.5,"rollouts":2,"simulations":20})"};

TEST(Search, EveryMethodIsDeterministicAndKeepsItsTotalBudgetToTheToken) {
  for (const char* text : kEveryMethod) {
    SearchParams params = Params(text);
    const auto first = Search(params, 40, RandomTools());
    const auto second = Search(params, 40, RandomTools());
    ASSERT_TRUE(first.ok()) << text << first.status();
    EXPECT_EQ(first->best.rollout.tokens, second->best.rollout.tokens);
    EXPECT_EQ(first->sampled_tokens, second->sampled_tokens);
    EXPECT_FALSE(first->out_of_budget);
    for (int64_t budget : {1, 3, 10, 47, 200}) {
      params.token_budget = budget;
      const auto limited = Search(params, 40, RandomTools());
      ASSERT_TRUE(limited.ok()) << text << limited.status();
      EXPECT_LE(limited->sampled_tokens, budget) << text;
      EXPECT_EQ(limited->out_of_budget, limited->sampled_tokens == budget) << text;
      EXPECT_EQ(limited->out_of_budget, budget <= first->sampled_tokens) << text;
      EXPECT_FALSE(limited->best.rollout.tokens.empty()) << text;
    }
  }
}

TEST(Search, ABudgetPerPathBoundsEachOfThem) {
  for (const char* text : kEveryMethod) {
    SearchParams params = Params(text);
    params.token_budget = 4;
    params.budget_scope = "path";
    const auto result = Search(params, 40, RandomTools());
    ASSERT_TRUE(result.ok()) << text << result.status();
    for (const SearchPath& path : result->candidates) EXPECT_LE(path.rollout.tokens.size(), 4u);
    EXPECT_FALSE(result->out_of_budget);
  }
}

TEST(Search, ScoresThatAreNoNumbersAndBadParametersAreRefused) {
  SearchTools tools = RandomTools();
  tools.score =
      [](const std::vector<const SearchPath*>& paths) -> absl::StatusOr<std::vector<double>> {
    return std::vector<double>(paths.size(), NAN);
  };
  EXPECT_EQ(Search(Params("{}"), 10, tools).status().code(), absl::StatusCode::kDataLoss);
  tools.score = nullptr;
  EXPECT_FALSE(Search(Params("{}"), 10, tools).ok());
  for (const auto& [text, field] : {std::pair{R"({"n":0})", "search.n"},
                                    {R"({"n":1.5})", "search.n"},
                                    {R"({"method":"guess"})", "search.method"},
                                    {R"({"method":"beam","n":5})", "search.n"},
                                    {R"({"gamma":2})", "search.gamma"},
                                    {R"({"token_budget":-1})", "search.token_budget"},
                                    {R"({"budget_scope":"all"})", "search.budget_scope"},
                                    {R"({"step_end":""})", "search.step_end"},
                                    {R"({"breadth":2})", "search.breadth: unknown key"},
                                    {"[]", "search"}}) {
    const absl::Status status = SearchFromJson(nlohmann::json::parse(text)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

TEST(Votes, NullsDoNotVoteAndTiesGoToTheFirstSeen) {
  EXPECT_EQ(MajorityVote({std::nullopt, "b", "a", "a", "b"}, SameText), 1u);
  EXPECT_EQ(MajorityVote({std::nullopt, std::nullopt, std::nullopt, "a"}, SameText), 3u);
  EXPECT_EQ(MajorityVote({std::nullopt, std::nullopt}, SameText), 0u);
  const auto same_sign = [](const std::string& x, const std::string& y) {
    return (x[0] == '-') == (y[0] == '-');
  };
  EXPECT_EQ(MajorityVote({"1", "-2", "-3"}, same_sign), 1u);
}

TEST(Votes, ScoresAreSummedPerAnswer) {
  EXPECT_EQ(WeightedVote({"a", "b", "b", std::nullopt}, {.5, .3, .4, 9}, SameText), 2u);
  EXPECT_EQ(WeightedVote({std::nullopt, std::nullopt}, {.1, .2}, SameText), 1u);
}

TEST(Votes, PassAtKAndMajorityAtKEqualTheirDefinitions) {
  EXPECT_NEAR(PassAtK(10, 3, 1), .3, 1e-12);
  EXPECT_NEAR(PassAtK(10, 3, 2), 1 - 42.0 / 90, 1e-12);
  EXPECT_EQ(PassAtK(10, 3, 8), 1);
  EXPECT_EQ(PassAtK(10, 0, 5), 0);
  Answers answers;
  std::vector<uint8_t> correct;
  for (int i = 0; i < 10; ++i) {
    answers.push_back(i < 6 ? "right" : "wrong");
    correct.push_back(i < 6);
  }
  // C(6,3) + C(6,2)·4 of C(10,3) subsets.
  EXPECT_NEAR(MajorityAtK(answers, correct, 3, SameText), 80.0 / 120, 1e-12);
  EXPECT_NEAR(MajorityAtK(answers, correct, 1, SameText), .6, 1e-12);
  EXPECT_NEAR(MajorityAtK(answers, correct, 3, SameText, /*most_subsets=*/100), 80.0 / 120, .15);
}

TEST(Votes, AggregatesStepScores) {
  EXPECT_EQ(AggregateScores({.5, .2, .4}, "last"), .4);
  EXPECT_EQ(AggregateScores({.5, .2, .4}, "min"), .2);
  EXPECT_NEAR(AggregateScores({.5, .2, .4}, "prod"), .04, 1e-15);
}

}  // namespace
}  // namespace tramontane
