// Thinking control under scripted models: texts of tokens in the order in which they are drawn.
#include "generator/core/think_control.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace tramontane {
namespace {

struct Token {
  std::string text;
  bool injected = false;
};

std::vector<int32_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }

ThinkingPlan Plan(int32_t budget) {
  ThinkingPlan plan;
  plan.controlled = true;
  plan.start = ThinkPhase::kInside;
  plan.budget = budget;
  plan.exhaustion = Bytes("!</think>");
  plan.extension = Bytes("Wait");
  return plan;
}

struct Played {
  std::vector<Token> response;
  std::vector<std::pair<size_t, size_t>> runs;     // put in: begin and count
  std::vector<const std::vector<int32_t>*> texts;  // of these; the plan's
  int32_t thinking = 0, draws = 0;
  ThinkControl::End end = ThinkControl::End::kOpen;

  std::string text() const {
    std::string all;
    for (const Token& token : response) all += token.text;
    return all;
  }
  int32_t injected() const {
    return static_cast<int32_t>(
        std::ranges::count_if(response, [](const Token& token) { return token.injected; }));
  }
};

// A control that knows of the response only what it holds, as one that takes it up does.
ThinkControl TakeUp(const std::shared_ptr<const ThinkingPlan>& plan, const Played& played) {
  ThinkControl control(plan);
  auto run = played.runs.begin();
  for (size_t i = 0; i < played.response.size();) {
    if (run != played.runs.end() && i == run->first) {
      control.Injected(*played.texts[static_cast<size_t>(run - played.runs.begin())]);
      i += run->second;
      ++run;
      continue;
    }
    const ThinkRuling ruling =
        control.Offer(played.response[i].text, false, static_cast<int32_t>(i));
    EXPECT_TRUE(ruling.keep) << played.text();
    ++i;
  }
  return control;
}

// Does what an engine does with the rulings. "$" ends the sample; the script's last text repeats.
// With `paused`, the response is taken up anew before every token.
Played Play(const ThinkingPlan& plan, const std::vector<std::string>& script, size_t limit = 40,
            bool paused = false) {
  // One for all controls: what they inject belongs to it.
  const auto shared = std::make_shared<const ThinkingPlan>(plan);
  std::optional<ThinkControl> own(std::in_place, shared);
  ThinkControl& control = *own;
  Played played;
  for (size_t i = 0; played.response.size() < limit; ++i) {
    const std::string& piece = script[std::min(i, script.size() - 1)];
    if (paused) {
      ThinkControl anew = TakeUp(shared, played);
      own.emplace(std::move(anew));
    }
    ++played.draws;
    const ThinkRuling ruling =
        control.Offer(piece, piece == "$", static_cast<int32_t>(played.response.size()));
    if (ruling.keep) {
      played.response.push_back({piece});
      if (piece == "$") break;
      continue;
    }
    EXPECT_LE(ruling.drop, static_cast<int32_t>(played.response.size()));
    played.response.resize(played.response.size() - ruling.drop);
    played.runs.emplace_back(played.response.size(), ruling.inject->size());
    played.texts.push_back(ruling.inject);
    for (int32_t byte : *ruling.inject)
      if (played.response.size() < limit)
        played.response.push_back({std::string(1, static_cast<char>(byte)), true});
  }
  played.thinking = control.thinking_tokens();
  played.end = control.end();
  return played;
}

// Counts by the definition: sampled tokens that lie wholly before the first closing tag.
int32_t CountFromText(const Played& played, const std::string& close = "</think>") {
  const size_t end = std::min(played.text().find(close), played.text().size());
  size_t at = 0;
  int32_t count = 0;
  for (const Token& token : played.response) {
    at += token.text.size();
    count += !token.injected && token.text != "$" && at <= end;
  }
  return count;
}

TEST(ThinkControl, AModelThatNeverClosesGetsItsBudgetExactlyAndIsClosed) {
  for (int32_t budget : {1, 2, 7}) {
    const Played played = Play(Plan(budget), {"x"});
    EXPECT_EQ(played.thinking, budget);
    EXPECT_EQ(CountFromText(played), budget);
    EXPECT_EQ(played.end, ThinkControl::End::kExhausted);
    EXPECT_EQ(played.text().find("!</think>"), static_cast<size_t>(budget));
    EXPECT_EQ(played.injected(), 9);
  }
}

TEST(ThinkControl, AModelThatClosesAtOnceThinksNothingAndIsLeftAlone) {
  for (int32_t budget : {-1, 1, 5}) {
    const Played played = Play(Plan(budget), {"</think>", "a", "$"});
    EXPECT_EQ(played.text(), "</think>a$");
    EXPECT_EQ(played.thinking, 0);
    EXPECT_EQ(played.end, ThinkControl::End::kModel);
  }
}

TEST(ThinkControl, ABudgetThatTheModelKeepsByItselfChangesNothing) {
  const std::vector<std::string> script = {"a", "b", "c", "</think>", "d", "$"};
  for (int32_t budget : {-1, 3, 4}) {
    const Played played = Play(Plan(budget), script);
    EXPECT_EQ(played.text(), "abc</think>d$") << budget;
    EXPECT_EQ(played.thinking, 3);
  }
  const Played cut = Play(Plan(2), script);
  EXPECT_EQ(cut.text(), "ab!</think></think>d$");
  EXPECT_EQ(cut.thinking, 2);
}

TEST(ThinkControl, ADelimiterMayBeSplitAnywhereAndGluedToItsNeighbours) {
  const std::string tag = "</think>";
  for (size_t first = 0; first <= tag.size(); ++first) {
    for (size_t second = first; second <= tag.size(); ++second) {
      std::vector<std::string> script = {"a",
                                         "b",
                                         "x" + tag.substr(0, first),
                                         tag.substr(first, second - first),
                                         tag.substr(second) + "y",
                                         "$"};
      std::erase(script, "");
      const Played free = Play(Plan(-1), script);
      EXPECT_EQ(free.end, ThinkControl::End::kModel);
      EXPECT_EQ(free.thinking, CountFromText(free));
      EXPECT_EQ(free.thinking, first == 0 ? 3 : 2);  // "x</" is not strictly between the tags
      const Played exact = Play(Plan(free.thinking), script);
      EXPECT_EQ(exact.text(), free.text());
      EXPECT_EQ(exact.injected(), 0);
    }
  }
}

TEST(ThinkControl, ATagBegunAtTheCapButNotFinishedIsTakenBack) {
  const Played played = Play(Plan(2), {"a", "b", "</", "thi", "s", "$"});
  EXPECT_EQ(played.text(), "ab!</think>$");
  EXPECT_EQ(played.thinking, 2);
  // With room for one of them the first stays, as a thought.
  const Played roomier = Play(Plan(3), {"a", "b", "</", "thi", "s", "$"});
  EXPECT_EQ(roomier.text(), "ab</!</think>$");
  EXPECT_EQ(roomier.thinking, 3);
}

TEST(ThinkControl, AStopOnTheCapsTokenEndsTheSampleAndInjectsNothing) {
  const Played played = Play(Plan(2), {"a", "b", "$"});
  EXPECT_EQ(played.text(), "ab$");
  EXPECT_EQ(played.injected(), 0);
  EXPECT_EQ(played.thinking, 2);
}

TEST(ThinkControl, AnEarlyEndIsExtendedAtMostNTimesAndWithinTheBudget) {
  ThinkingPlan plan = Plan(5);
  plan.extensions = 2;
  const Played played = Play(plan, {"a", "</th", "ink>", "b", "</think>", "c", "</think>", "$"});
  EXPECT_EQ(played.text(), "aWaitbWaitc</think>$");
  EXPECT_EQ(played.thinking, 3);
  plan.budget = 1;
  EXPECT_EQ(Play(plan, {"a", "</think>", "$"}).text(), "a</think>$");
  plan.budget = 2;
  const Played used_up = Play(plan, {"a", "</think>", "b", "</think>", "$"});
  EXPECT_EQ(used_up.text(), "aWaitb</think>$");
}

TEST(ThinkControl, ALeastLengthHoldsAgainstTagAndEndToken) {
  ThinkingPlan plan = Plan(9);
  plan.min_tokens = 3;
  plan.extensions = INT32_MAX;
  const Played played = Play(plan, {"$", "a", "</think>", "b", "$", "c", "</think>", "$"});
  EXPECT_EQ(played.text(), "WaitaWaitbWaitc</think>$");
  EXPECT_EQ(played.thinking, 3);
  // A model that only ever wants to stop cannot go on for ever.
  plan.latest = 20;
  EXPECT_LE(Play(plan, {"</think>"}).text().find("</think>"), 21u);
}

TEST(ThinkControl, TheReserveEndsThinkingWhateverTheBudget) {
  for (int32_t budget : {-1, 100}) {
    ThinkingPlan plan = Plan(budget);
    plan.latest = 12;
    const Played played = Play(plan, {"x"});
    EXPECT_EQ(played.text().find("!</think>"), 12u);
    const Played pending = Play(
        plan, {"x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "<", "/", "t", "y", "z"});
    EXPECT_EQ(pending.text().find("!</think>"), 12u);
    EXPECT_EQ(pending.thinking, 12);
  }
}

TEST(ThinkControl, CountsFromTheOpeningTagOn) {
  ThinkingPlan plan = Plan(2);
  plan.start = ThinkPhase::kBefore;
  const Played played = Play(plan, {"so ", "<thi", "nk>y", "a", "b", "c", "$"});
  EXPECT_EQ(played.text(), "so <think>yab!</think>$");
  EXPECT_EQ(played.thinking, 2);
  EXPECT_EQ(Play(plan, {"<think></think>", "a", "b", "c", "$"}).text(), "<think></think>abc$");
  EXPECT_EQ(Play(plan, {"no", " thoughts", " at", " all", "$"}).injected(), 0);
}

TEST(ThinkControl, TheFirstWordsMayChooseTheBudget) {
  ThinkingPlan plan = Plan(-1);
  plan.start = ThinkPhase::kBefore;
  plan.tag_budgets = {{"[Easy]", 1}, {"[Hard]", 3}};
  const std::vector<std::string> rest = {"<think>", "a", "b", "c", "d", "</think>", "$"};
  const auto with = [&](std::vector<std::string> first) {
    first.insert(first.end(), rest.begin(), rest.end());
    return Play(plan, first);
  };
  EXPECT_EQ(with({" [Ea", "sy]\n"}).thinking, 1);
  EXPECT_EQ(with({"[Hard]"}).thinking, 3);
  EXPECT_EQ(with({"[Medium]"}).thinking, 4);
  EXPECT_EQ(with({"well, ", "[Easy]"}).thinking, 4);  // not the first words
}

// Texts cut into random tokens, full of half tags: the count is that of the definition, the budget
// holds, and what was not cut short is untouched.
TEST(ThinkControl, RandomTokenisationsAgreeWithTheDefinition) {
  std::mt19937 random(5);
  const std::string alphabet = "<>/abW";
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 18; ++i)
      text += random() % 4 == 0 ? "</ab>" : std::string(1, alphabet[random() % alphabet.size()]);
    std::vector<std::string> script;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 3;
      script.push_back(text.substr(at, size));
      at += size;
    }
    script.push_back("$");
    ThinkingPlan plan = Plan(static_cast<int32_t>(random() % 12) - 1);
    plan.close = "</ab>";
    plan.exhaustion = Bytes("!</ab>");
    plan.extensions = static_cast<int32_t>(random() % 3);
    plan.min_tokens = random() % 2 == 0 ? 0 : 4;
    if (random() % 3 == 0) plan.latest = static_cast<int32_t>(8 + random() % 10);
    if (plan.budget == 0) continue;
    const Played played = Play(plan, script, 200);
    ASSERT_EQ(played.thinking, CountFromText(played, plan.close)) << played.text();
    if (plan.budget > 0) {
      ASSERT_LE(played.thinking, plan.budget);
    }
    if (played.end == ThinkControl::End::kExhausted && plan.latest == INT32_MAX) {
      ASSERT_EQ(played.thinking, plan.budget) << played.text();
    }
    if (played.injected() == 0) {
      ASSERT_EQ(played.text(), text + "$");
    }
    const Played paused = Play(plan, script, 200, /*paused=*/true);
    ASSERT_EQ(paused.text(), played.text());
    ASSERT_EQ(paused.draws, played.draws);
    ASSERT_EQ(paused.thinking, played.thinking) << played.text();
    ASSERT_EQ(paused.end, played.end);
  }
}

// s1 (arXiv 2501.19393 §3.2) on a model that counts to its target, a token a number, with thoughts
// as long as that needs: the share of responses whose thinking lies within what was asked for, and
// how accuracy goes with the budget.
class CountingModel {
 public:
  // Accuracy and control over targets 1 to 20.
  struct Metrics {
    double accuracy = 0, control = 0;
  };
  static Metrics Measure(ThinkingPlan plan) {
    constexpr int32_t kTargets = 20;
    Metrics metrics;
    for (int32_t target = 1; target <= kTargets; ++target) {
      std::vector<std::string> script;
      for (int32_t i = 1; i <= target; ++i) script.push_back(" " + std::to_string(i));
      script.push_back("</think>");
      for (int32_t i = 0; i < 40; ++i) script.push_back(i == 0 ? "=" : "$");
      const Played played = Play(plan, script, 200);
      const bool most = plan.budget < 0 || played.thinking <= plan.budget;
      metrics.control += most && played.thinking >= plan.min_tokens;
      // It answers with the number that its thinking has reached.
      std::string thoughts = played.text().substr(0, played.text().find("</think>"));
      if (thoughts.ends_with("!")) thoughts.pop_back();  // put in with the closing tag
      metrics.accuracy += thoughts.ends_with(" " + std::to_string(target));
    }
    return {metrics.accuracy / kTargets, metrics.control / kTargets};
  }
};

TEST(ThinkControl, ControlIsCompleteAndAccuracyRisesWithTheBudgetOfACountingModel) {
  std::vector<double> accuracies;
  for (int32_t budget : {1, 2, 5, 10, 15, 20, 25}) {
    const auto [accuracy, control] = CountingModel::Measure(Plan(budget));
    EXPECT_EQ(control, 1) << budget;
    EXPECT_DOUBLE_EQ(accuracy, std::min(budget, 20) / 20.0);
    accuracies.push_back(accuracy);
  }
  double slopes = 0;  // s1's Scaling: the mean over all pairs of budgets
  for (size_t i = 0; i < accuracies.size(); ++i)
    for (size_t j = 0; j < i; ++j) slopes += accuracies[i] - accuracies[j];
  EXPECT_GT(slopes, 0);
  EXPECT_EQ(CountingModel::Measure(Plan(-1)).accuracy, 1);
}

}  // namespace
}  // namespace tramontane
