// The rules of the searches one by one: defaults, what is kept and what goes on, and Monte-Carlo
// search's own arithmetic, each against its definition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "generator/search/mcts.h"
#include "generator/search/path_grower.h"
#include "tests/unit/generator/search/choice_tree.h"

namespace tramontane {
namespace {

using ::testing::ElementsAre;

TEST(SearchRules, UnsaidParametersAreThoseOfThePapers) {
  const SearchParams beam = Params(R"({"method":"beam"})");
  EXPECT_EQ(beam.n, 4);
  EXPECT_EQ(beam.expansion, 4);
  EXPECT_EQ(beam.max_steps, 40);
  EXPECT_EQ(beam.step_end, "\n\n");
  EXPECT_EQ(beam.aggregate, "last");
  EXPECT_EQ(beam.token_budget, 0);
  const SearchParams mcts = Params(R"({"method":"mcts"})");
  EXPECT_EQ(mcts.expansion, 2);
  EXPECT_EQ(mcts.gamma, 0.96);
  EXPECT_EQ(mcts.rollout_weight, 0);
  EXPECT_EQ(mcts.pick, "visits");
  EXPECT_EQ(Params(R"({"method":"parallel"})").n, 8);
}

std::vector<std::string> Texts(const SearchResult& result) {
  std::vector<std::string> texts;
  for (const SearchPath& path : result.candidates) texts.push_back(path.rollout.text);
  return texts;
}

// Four first steps, the earlier the better: beams go on from the two best of all, each tree of DVTS
// from its own.
TEST(SearchRules, BeamsKeepTheBestOfAllAndDvtsTheBestOfEachTree) {
  ChoiceTree tree(2, 4);
  const SearchTools tools = tree.Tools([](const std::string& text) {
    double value = 0, digit = 1;
    for (const char c : text) value -= (c - '0') * (digit /= 10);
    return value;
  });
  const auto beam = Search(Params(R"({"method":"beam","n":4,"expansion":2})"), 100, tools);
  ASSERT_TRUE(beam.ok()) << beam.status();
  EXPECT_THAT(Texts(*beam), ElementsAre("00", "10", "01", "11"));
  const auto dvts = Search(Params(R"({"method":"dvts","n":4,"expansion":2})"), 100, tools);
  ASSERT_TRUE(dvts.ok()) << dvts.status();
  EXPECT_THAT(Texts(*dvts), ElementsAre("00", "20"));
}

TEST(SearchRules, TheLastStepRunsToTheEnd) {
  ChoiceTree tree(6, 2);
  for (const char* method : {R"({"method":"beam","n":2,"expansion":2,"max_steps":3})",
                             R"({"method":"dvts","n":2,"expansion":2,"max_steps":3})",
                             R"({"method":"best_of_n","n":2,"aggregate":"min","max_steps":3})"}) {
    SearchTools tools = tree.Tools([](const std::string&) { return 0.0; });
    std::vector<bool> to_end;
    tools.grow = [&to_end, grow = tools.grow](const std::vector<PathAsk>& asks) {
      to_end.push_back(asks[0].to_end);
      return grow(asks);
    };
    const auto found = Search(Params(method), 100, tools);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(to_end, ElementsAre(false, false, true)) << method;
    EXPECT_EQ(found->best.rollout.text.size(), 6u);
    EXPECT_TRUE(found->best.ended);
  }
}

// The end likes one chain, the worst step and the product like the other.
TEST(SearchRules, StepScoresAreJoinedAsAsked) {
  ChoiceTree tree(2, 2);
  const SearchTools tools = tree.Tools([](const std::string& text) {
    const std::map<std::string, double> values = {
        {"0", .9}, {"00", .4}, {"1", .2}, {"10", .8}, {"11", .8}};
    return values.at(text);
  });
  const auto found = [&](const char* params) {
    return Search(Params(params), 100, tools)->best.rollout.text.substr(0, 1);
  };
  EXPECT_EQ(found(R"({"n":2,"aggregate":"last"})"), "1");
  EXPECT_EQ(found(R"({"n":2,"aggregate":"min"})"), "0");
  EXPECT_EQ(found(R"({"n":2,"aggregate":"prod"})"), "0");
}

// Q̂(c) + √(N − 1)/(1 + N(c)) · (1.25 + ln((N + 19652)/19652)), with Q̂ scaled by all values so far,
// and Q(root) = γ ΣN(c)Q(c)/ΣN(c), played out by hand.
TEST(MctsRules, VisitsOfABanditAreThoseOfTheFormula) {
  const std::vector<double> arms = {.3, .6, .9, .35};
  ChoiceTree bandit(1, 4);
  const SearchTools tools =
      bandit.Tools([&arms](const std::string& text) { return arms[text[0] - '0']; });
  for (const bool prior : {false, true}) {
    SearchParams params =
        Params(R"({"method":"mcts","expansion":4,"simulations":150,"gamma":0.9})");
    params.prior = prior;  // all steps are as likely: a quarter each
    PathGrower grower(params, 10, tools);
    MctsTree tree(params, grower);
    ASSERT_TRUE(tree.Run().ok());

    double lowest = std::numeric_limits<double>::infinity(), highest = -lowest, root = 0;
    std::vector<int64_t> visits(arms.size(), 0);
    const auto note = [&](double value) {
      lowest = std::min(lowest, value);
      highest = std::max(highest, value);
    };
    const auto visit = [&](size_t arm) {
      ++visits[arm];
      double sum = 0, n = 0;
      for (size_t i = 0; i < arms.size(); ++i) {
        sum += .9 * static_cast<double>(visits[i]) * arms[i];
        n += static_cast<double>(visits[i]);
      }
      note(root = sum / n);
    };
    for (size_t i = 0; i < arms.size(); ++i) {  // the first simulation makes all of them
      note(arms[i]);
      visit(i);
    }
    for (int simulation = 1; simulation < 150; ++simulation) {
      double n = 0, best = -1;
      for (const int64_t count : visits) n += static_cast<double>(count);
      size_t chosen = 0;
      for (size_t i = 0; i < arms.size(); ++i) {
        const double bound =
            (arms[i] - lowest) / (highest - lowest) + (prior ? .25 : 1) * std::sqrt(n - 1) /
                                                          (1 + static_cast<double>(visits[i])) *
                                                          (1.25 + std::log((n + 19652) / 19652));
        if (bound <= best) continue;
        best = bound;
        chosen = i;
      }
      visit(chosen);
    }
    ASSERT_EQ(tree.root().children.size(), arms.size());
    for (size_t i = 0; i < arms.size(); ++i)
      EXPECT_EQ(tree.root().children[i]->visits, visits[i]) << i << prior;
    EXPECT_NEAR(tree.root().value, root, 1e-12);
  }
}

// Inner nodes: γ · ΣN(c)Q(c)/ΣN(c). Leaves: (1 − a)·V + a · score of the finished rollout, which in
// this model takes choice 0 to the end.
void ExpectValues(const MctsNode& node, const std::function<double(const std::string&)>& value,
                  double a, double gamma, int& inner, int& leaves) {
  if (node.children.empty()) {
    const std::string& text = node.path.rollout.text;
    std::string end = text;
    end.resize(4, '0');
    const double expected = node.path.ended ? value(text) : (1 - a) * value(text) + a * value(end);
    EXPECT_NEAR(node.value, expected, 1e-12) << text;
    ++leaves;
    return;
  }
  double sum = 0, n = 0;
  for (const auto& child : node.children) {
    ExpectValues(*child, value, a, gamma, inner, leaves);
    sum += static_cast<double>(child->visits) * gamma * child->value;
    n += static_cast<double>(child->visits);
  }
  EXPECT_NEAR(node.value, sum / n, 1e-12) << node.path.rollout.text;
  ++inner;
}

TEST(MctsRules, ValuesAreBackedUpAndMixedByTheFormula) {
  ChoiceTree deep(4, 2);
  const auto value = [](const std::string& text) {
    double x = 0.37;
    for (const char c : text) x = std::fmod(x * 3.9 * (1.1 + (c - '0')), 1.0);
    return x;
  };
  const SearchTools tools = deep.Tools(value);
  for (const double a : {0.0, 0.25, 1.0}) {
    SearchParams params = Params(R"({"method":"mcts","simulations":12,"gamma":0.8})");
    params.rollout_weight = a;
    PathGrower grower(params, 10, tools);
    MctsTree tree(params, grower);
    ASSERT_TRUE(tree.Run().ok());
    int inner = 0, leaves = 0;
    ExpectValues(tree.root(), value, a, 0.8, inner, leaves);
    EXPECT_GT(inner, 3);
    EXPECT_GT(leaves, 4);
  }
}

}  // namespace
}  // namespace tramontane
