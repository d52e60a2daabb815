// Property tests: the scheduler drives a model of the cache in which every cell holds the hash of
// the tokens up to its position, so that a wrong block, a missed copy or a stale prefix is seen.
#include "generator/core/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>

namespace tramontane {
namespace {

struct Cell {
  uint64_t prefix_hash = 0;
  uint64_t weights = 0;
  uint64_t oldest = 0;  // of the weights that computed it and everything before it
};

uint64_t Extend(uint64_t hash, int32_t token) {
  return (hash ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15u + 0x1234567;
}

// What a forward pass over the plan would do to the cache.
class CacheModel {
 public:
  explicit CacheModel(const SchedulerOptions& options)
      : block_tokens_(options.block_tokens),
        cells_(options.total_blocks, std::vector<Cell>(options.block_tokens)) {}

  void Run(const StepPlan& plan, uint64_t weights) {
    for (const BlockCopy& copy : plan.copies) cells_[copy.to] = cells_[copy.from];
    std::set<int32_t> written;
    for (const StepItem& item : plan.items) Write(item, weights, written);
    ASSERT_EQ(static_cast<int32_t>(written.size()), plan.tokens);  // nobody writes another's cell
    for (const StepItem& item : plan.items) CheckWhatItReads(item);
  }

 private:
  Cell& At(const Sequence& sequence, int32_t position) {
    return cells_[sequence.blocks.at(position / block_tokens_)][position % block_tokens_];
  }

  void Write(const StepItem& item, uint64_t weights, std::set<int32_t>& written) {
    const Sequence& sequence = *item.sequence;
    uint64_t hash = 0;
    for (int32_t p = 0; p < item.start + item.count; ++p) {
      hash = Extend(hash, sequence.tokens[p]);
      if (p < item.start) continue;
      const uint64_t before = p == 0 ? weights : At(sequence, p - 1).oldest;
      At(sequence, p) = {hash, weights, std::min(before, weights)};
      written.insert(sequence.blocks[p / block_tokens_] * block_tokens_ + p % block_tokens_);
    }
  }

  void CheckWhatItReads(const StepItem& item) {
    const Sequence& sequence = *item.sequence;
    uint64_t hash = 0;
    for (int32_t p = 0; p < item.start + item.count; ++p) {
      hash = Extend(hash, sequence.tokens[p]);
      ASSERT_EQ(At(sequence, p).prefix_hash, hash)
          << "sequence " << sequence.id << " position " << p;
      // Keys are never older than the sequence's own start, nor is what they were computed from.
      ASSERT_GE(At(sequence, p).oldest, sequence.weight_generation);
    }
  }

  const int32_t block_tokens_;
  std::vector<std::vector<Cell>> cells_;
};

struct Arrival {
  int32_t prompt_size, samples, new_tokens;
  int32_t common = 0;  // tokens at the beginning that all requests have in common
};

// Runs arrivals to their end; tokens are a function of (request, sample, position).
class Simulation {
 public:
  Simulation(const SchedulerOptions& options, uint32_t seed)
      : options_(options), scheduler_(options), cache_(options), random_(seed) {}

  void Arrive(const Arrival& arrival) {
    const uint64_t request = next_request_++;
    for (int32_t sample = 0; sample < arrival.samples; ++sample) {
      auto live = std::make_unique<Live>();
      live->sequence.id = next_id_++;
      live->sequence.request = request;
      live->sequence.prompt_size = arrival.prompt_size;
      for (int32_t p = 0; p < arrival.prompt_size; ++p)
        live->sequence.tokens.push_back(
            static_cast<int32_t>((p < arrival.common ? 0 : request) * 31 + p * 7) % 251);
      live->final_size = arrival.prompt_size + arrival.new_tokens;
      live->born = step_;
      scheduler_.Add(live->sequence);
      live_.emplace(live->sequence.id, std::move(live));
    }
  }

  void Step() {
    if (guesses_) AddDrafts();
    const StepPlan& plan = scheduler_.Plan();
    CheckPlan(plan);
    cache_.Run(plan, weights_);
    if (::testing::Test::HasFatalFailure()) return;
    scheduler_.Complete();
    computed_ += plan.tokens;
    copies_ += static_cast<int64_t>(plan.copies.size());
    const std::vector<StepItem> items = plan.items;
    for (const StepItem& item : items) {
      if (!item.samples) continue;
      Sequence& sequence = *item.sequence;
      const std::vector<int32_t> draft(sequence.tokens.end() - item.drafts, sequence.tokens.end());
      sequence.DropDrafts();
      const int32_t size = sequence.size();
      int32_t right = 0;
      do {
        sequence.tokens.push_back(NextToken(*live_.at(sequence.id)));
      } while (right < item.drafts && sequence.size() < live_.at(sequence.id)->final_size &&
               sequence.tokens.back() == draft[static_cast<size_t>(right)] && ++right > 0);
      sequence.cached = std::min(sequence.cached, size + right);
      right_guesses_ += right;
      if (sequence.size() == live_.at(sequence.id)->final_size) Finish(sequence.id);
    }
    trace_ = trace_ * 1099511628211u + static_cast<uint64_t>(plan.tokens * 131 + plan.items.size());
    ++step_;
    CheckBlocks();
  }

  void SwapWeights() {
    ++weights_;
    scheduler_.OnWeightsChanged();
  }

  void CancelOne() {
    if (live_.empty()) return;
    auto it = live_.begin();
    std::advance(it, random_() % live_.size());
    Finish(it->first);
  }

  // From now on sequences are given drafts, some of them right, some from some place on wrong.
  void Guess() { guesses_ = true; }
  int64_t right_guesses() const { return right_guesses_; }

  // Takes back some sampled tokens of one sequence and puts another one in their place.
  void RewindOne() {
    if (live_.empty()) return;
    auto it = live_.begin();
    std::advance(it, random_() % live_.size());
    Live& live = *it->second;
    const int32_t sampled = live.sequence.size() - live.sequence.prompt_size;
    if (sampled == 0) return;
    live.sequence.Rewind(live.sequence.prompt_size +
                         static_cast<int32_t>(random_() % static_cast<uint32_t>(sampled)));
    ++live.rewinds;
    live.sequence.tokens.push_back(NextToken(live));
  }

  // A request whose prompt is what a sequence holds by now, and a little more: the next turn.
  void Continue(uint64_t id, int32_t new_tokens) {
    const Sequence& earlier = live_.at(id)->sequence;
    Arrive({.prompt_size = earlier.size() + 1, .samples = 1, .new_tokens = new_tokens});
    Sequence& next = live_.rbegin()->second->sequence;
    std::copy(earlier.tokens.begin(), earlier.tokens.end(), next.tokens.begin());
  }

  size_t live() const { return live_.size(); }
  int64_t step() const { return step_; }
  int64_t longest_life() const { return longest_life_; }
  int64_t computed() const { return computed_; }
  int64_t copies() const { return copies_; }
  uint64_t trace() const { return trace_; }
  const Scheduler& scheduler() const { return scheduler_; }
  std::mt19937& random() { return random_; }
  uint64_t oldest() const { return live_.empty() ? 0 : live_.begin()->first; }

 private:
  struct Live {
    Sequence sequence;
    int32_t final_size = 0;
    int64_t born = 0;
    int32_t rewinds = 0;
  };

  static int32_t NextToken(const Live& live) {
    return static_cast<int32_t>(live.sequence.id * 17 + live.rewinds * 5 + live.sequence.size()) %
           251;
  }

  void AddDrafts() {
    for (Sequence* sequence : scheduler_.Decoding()) {
      Live& live = *live_.at(sequence->id);
      std::vector<int32_t> draft;
      const uint32_t count = random_() % 6, wrong = random_() % 8;
      const int32_t size = sequence->size();
      for (uint32_t i = 0; i < count && sequence->size() + 1 < live.final_size; ++i) {
        draft.push_back(i == wrong ? 250 : NextToken(live));
        sequence->tokens.push_back(draft.back());
      }
      sequence->tokens.resize(static_cast<size_t>(size));
      sequence->AddDrafts(draft);
    }
  }

  void Finish(uint64_t id) {
    Live& live = *live_.at(id);
    longest_life_ = std::max(longest_life_, step_ - live.born);
    scheduler_.Remove(live.sequence);
    EXPECT_TRUE(live.sequence.blocks.empty());
    live_.erase(id);
  }

  void CheckPlan(const StepPlan& plan) {
    EXPECT_EQ(plan.items.empty(), live_.empty());
    std::set<const Sequence*> seen;
    int32_t tokens = 0, sampled = 0;
    for (const StepItem& item : plan.items) {
      EXPECT_TRUE(seen.insert(item.sequence).second);
      EXPECT_EQ(item.start, item.sequence->cached);
      EXPECT_EQ(item.samples, item.start + item.count == item.sequence->size());
      tokens += item.count;
      sampled += item.samples ? 1 + item.drafts : 0;
    }
    EXPECT_EQ(plan.tokens, tokens);
    EXPECT_EQ(plan.logit_rows, sampled);
    EXPECT_LE(plan.prefill_tokens, options_.prefill_chunk_tokens);
    EXPECT_LE(plan.tokens, options_.max_running_sequences + options_.prefill_chunk_tokens);
    EXPECT_LE(scheduler_.running(), options_.max_running_sequences);
  }

  // used = distinct blocks held by live sequences; a shared block is held by more than one.
  void CheckBlocks() {
    std::map<int32_t, int> holders;
    for (const auto& [id, live] : live_)
      for (int32_t block : live->sequence.blocks) ++holders[block];
    EXPECT_EQ(scheduler_.pool().used(), static_cast<int32_t>(holders.size()));
    for (const auto& [block, count] : holders)
      EXPECT_EQ(scheduler_.pool().shared(block), count > 1);
    EXPECT_EQ(static_cast<size_t>(scheduler_.running() + scheduler_.waiting()), live_.size());
  }

  const SchedulerOptions options_;
  Scheduler scheduler_;
  CacheModel cache_;
  std::mt19937 random_;
  std::map<uint64_t, std::unique_ptr<Live>> live_;
  uint64_t next_request_ = 1, next_id_ = 1, weights_ = 0, trace_ = 0;
  int64_t step_ = 0, longest_life_ = 0, computed_ = 0, copies_ = 0, right_guesses_ = 0;
  bool guesses_ = false;
};

SchedulerOptions Options(int32_t running, int32_t block_tokens, int32_t blocks, int32_t chunk) {
  SchedulerOptions options;
  options.max_running_sequences = running;
  options.block_tokens = block_tokens;
  options.total_blocks = blocks;
  options.prefill_chunk_tokens = chunk;
  return options;
}

void Drain(Simulation& simulation, int64_t most_steps) {
  for (int64_t i = 0; i < most_steps && simulation.live() > 0; ++i) {
    simulation.Step();
    if (::testing::Test::HasFatalFailure()) return;
  }
  EXPECT_EQ(simulation.live(), 0u);
  EXPECT_EQ(simulation.scheduler().pool().used(), 0);
}

TEST(Scheduler, SamplesOfARequestComputeTheirPromptOnce) {
  Simulation simulation(Options(16, 4, 100, 64), 1);
  simulation.Arrive({.prompt_size = 10, .samples = 8, .new_tokens = 3});
  Drain(simulation, 100);
  // 10 for the prompt, once more its last token for each of 7, then 2 further tokens for all 8
  // (the last sampled token is never computed).
  EXPECT_EQ(simulation.computed(), 10 + 7 + 8 * 2);
  // Nine shared tokens fill two blocks and a part of the third, which is copied for each of 7.
  EXPECT_EQ(simulation.copies(), 7);
}

TEST(Scheduler, PrefillsLongPromptsInChunksWhileOthersDecode) {
  Simulation simulation(Options(8, 4, 100, 5), 1);
  simulation.Arrive({.prompt_size = 2, .samples = 1, .new_tokens = 30});
  simulation.Step();
  simulation.Arrive({.prompt_size = 23, .samples = 1, .new_tokens = 1});
  for (int i = 0; i < 4; ++i) simulation.Step();
  EXPECT_EQ(simulation.live(), 2u);
  simulation.Step();  // 5 chunks of 5 hold 23
  EXPECT_EQ(simulation.live(), 1u);
  EXPECT_EQ(simulation.computed(), 2 + 5 + 23);
  Drain(simulation, 100);
}

TEST(Scheduler, PreemptsTheYoungestAndFinishesEverything) {
  Simulation simulation(Options(8, 2, 12, 64), 1);
  for (int i = 0; i < 6; ++i) simulation.Arrive({.prompt_size = 3, .samples = 1, .new_tokens = 20});
  uint64_t oldest = simulation.oldest();
  while (simulation.live() > 0) {
    simulation.Step();
    ASSERT_LT(simulation.step(), 1000);
    if (simulation.oldest() != oldest) {
      // Finished in order of arrival: the oldest was never set back.
      EXPECT_GT(simulation.oldest() + (simulation.live() == 0 ? oldest + 1 : 0), oldest);
      oldest = simulation.oldest();
    }
  }
  EXPECT_GT(simulation.scheduler().preemptions(), 0u);
  EXPECT_EQ(simulation.scheduler().pool().used(), 0);
}

TEST(Scheduler, DoesNotShareAPromptAcrossAWeightSwap) {
  Simulation simulation(Options(1, 4, 100, 64), 1);  // one place: samples run one after the other
  simulation.Arrive({.prompt_size = 9, .samples = 2, .new_tokens = 1});
  simulation.Step();
  simulation.SwapWeights();
  Drain(simulation, 10);
  EXPECT_EQ(simulation.computed(), 9 + 9);
}

TEST(Scheduler, SharesAPromptOnlyWhenAllOfItIsOfTheSameWeights) {
  Simulation simulation(Options(4, 4, 100, 6), 1);
  simulation.Arrive({.prompt_size = 12, .samples = 2, .new_tokens = 5});
  simulation.Step();  // half of the prompt
  simulation.SwapWeights();
  Drain(simulation, 50);  // CacheModel checks the age of every prompt cell
  EXPECT_EQ(simulation.computed(), 2 * 12 + 2 * 4);
}

TEST(Scheduler, ARequestThatBeginsLikeAnEarlierOneComputesTheRest) {
  for (const bool enabled : {true, false}) {
    SchedulerOptions options = Options(4, 4, 100, 64);
    options.prefix_cache = enabled;
    Simulation simulation(options, 1);
    simulation.Arrive({.prompt_size = 22, .samples = 1, .new_tokens = 1, .common = 19});
    simulation.Step();
    ASSERT_EQ(simulation.live(), 0u);  // it is gone; its blocks stay
    simulation.Arrive({.prompt_size = 30, .samples = 3, .new_tokens = 2, .common = 19});
    Drain(simulation, 10);
    const int32_t found = enabled ? 16 : 0;  // four full blocks hold 16 of the 19 common tokens
    EXPECT_EQ(simulation.computed(), 22 + (30 - found) + 2 + 3);
    EXPECT_EQ(simulation.scheduler().cache_hit_tokens(), static_cast<uint64_t>(found));
    EXPECT_EQ(simulation.scheduler().sibling_hit_tokens(), 2u * 29);
  }
}

TEST(Scheduler, TheNextTurnFindsPromptAndAnswer) {
  Simulation simulation(Options(4, 4, 100, 64), 1);
  simulation.Arrive({.prompt_size = 10, .samples = 1, .new_tokens = 20});
  for (int i = 0; i < 11; ++i) simulation.Step();
  simulation.Continue(simulation.oldest(), 1);  // 21 tokens, 20 of them computed, and one more
  const int64_t before = simulation.computed();
  simulation.Step();
  EXPECT_EQ(simulation.computed(), before + 1 + (22 - 20));
  Drain(simulation, 100);
}

TEST(Scheduler, BlocksThatNobodyUsesGiveWay) {
  Simulation simulation(Options(4, 4, 10, 64), 1);
  for (int i = 0; i < 20; ++i) {
    simulation.Arrive({.prompt_size = 17, .samples = 1, .new_tokens = 1});
    simulation.Step();  // each needs half of the blocks, and none has to wait
    ASSERT_EQ(simulation.live(), 0u) << i;
    ASSERT_EQ(simulation.scheduler().pool().free(), 10);
  }
  EXPECT_EQ(simulation.scheduler().preemptions(), 0u);
  EXPECT_EQ(simulation.computed(), 20 * 17);
}

TEST(Scheduler, APreemptedSequenceFindsWhatItHadComputed) {
  std::map<bool, int64_t> computed;
  for (const bool enabled : {false, true}) {
    SchedulerOptions options = Options(8, 4, 24, 64);
    options.prefix_cache = enabled;
    Simulation simulation(options, 1);
    for (int i = 0; i < 6; ++i)
      simulation.Arrive({.prompt_size = 12, .samples = 1, .new_tokens = 24});
    Drain(simulation, 1000);
    EXPECT_GT(simulation.scheduler().preemptions(), 0u);
    computed[enabled] = simulation.computed();
  }
  EXPECT_LT(computed[true], computed[false]);
}

TEST(Scheduler, NothingComputedByEarlierWeightsIsFound) {
  Simulation simulation(Options(4, 4, 100, 8), 1);
  simulation.Arrive({.prompt_size = 17, .samples = 1, .new_tokens = 9, .common = 17});
  simulation.Step();
  simulation.SwapWeights();  // 8 of the prompt's tokens are of the old weights, the rest of the new
  for (int i = 0; i < 5; ++i) simulation.Step();
  simulation.Arrive({.prompt_size = 17, .samples = 1, .new_tokens = 1, .common = 17});
  Drain(simulation, 50);
  EXPECT_EQ(simulation.scheduler().cache_hit_tokens(), 0u);
  simulation.Arrive({.prompt_size = 17, .samples = 1, .new_tokens = 1, .common = 17});
  Drain(simulation, 50);
  EXPECT_EQ(simulation.scheduler().cache_hit_tokens(), 16u);
}

TEST(Scheduler, RunningSequencesAreRecomputedAfterASwapWhereThatIsAskedFor) {
  SchedulerOptions options = Options(4, 4, 100, 64);
  options.recompute_on_swap = true;
  Simulation simulation(options, 1);
  simulation.Arrive({.prompt_size = 9, .samples = 3, .new_tokens = 30});
  for (int i = 0; i < 8; ++i) simulation.Step();
  const int64_t before = simulation.computed();
  simulation.SwapWeights();
  EXPECT_EQ(simulation.scheduler().running(), 0);
  EXPECT_EQ(simulation.scheduler().pool().used(), 0);
  simulation.Step();
  simulation.Step();
  EXPECT_EQ(simulation.scheduler().running(), 3);
  EXPECT_EQ(simulation.scheduler().preemptions(), 0u);
  EXPECT_GE(simulation.computed() - before, 9 + 3 * 7);  // the prompt once, each answer
  Drain(simulation, 100);  // CacheModel: no cell is older than its sequence's new start
}

TEST(Scheduler, AScoredPromptIsComputedWholeWithLogitsBehindEveryToken) {
  Scheduler scheduler(Options(4, 4, 100, 5));
  Sequence scored, sibling;
  for (Sequence* sequence : {&sibling, &scored}) {
    sequence->id = sequence == &sibling ? 1 : 2;
    sequence->request = 7;
    sequence->prompt_size = 12;
    for (int32_t p = 0; p < 12; ++p) sequence->tokens.push_back(p);
  }
  scored.scores_prompt = true;
  scheduler.Add(sibling);
  std::vector<int32_t> computed, rows;
  for (int step = 0; step < 8; ++step) {
    const StepPlan& plan = scheduler.Plan();
    int32_t all = 0;
    for (const StepItem& item : plan.items) {
      all += item.logit_rows;
      if (item.sequence == &scored && computed.size() < 4) {
        computed.push_back(item.count);
        rows.push_back(item.logit_rows);
      } else if (item.sequence == &sibling) {
        EXPECT_EQ(item.logit_rows, item.samples ? 1 : 0);
      }
    }
    EXPECT_EQ(plan.logit_rows, all);
    const std::vector<StepItem> items = plan.items;
    scheduler.Complete();
    for (const StepItem& item : items) {
      if (item.samples) item.sequence->tokens.push_back(0);
    }
    if (step == 2) scheduler.Add(scored);  // its sibling has the whole prompt in the cache by now
  }
  EXPECT_EQ(computed, (std::vector<int32_t>{5, 5, 2, 1}));
  EXPECT_EQ(rows, computed);
}

class RandomArrivals : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomArrivals, CacheContentsStayRightAndNobodyStarves) {
  const uint32_t seed = GetParam();
  std::mt19937 random(seed);
  const int32_t block_tokens = std::vector<int32_t>{1, 2, 4, 16}[random() % 4];
  const int32_t blocks = 80 / block_tokens + static_cast<int32_t>(random() % 30);
  SchedulerOptions options = Options(1 + random() % 12, block_tokens, blocks, 1 + random() % 40);
  options.prefix_cache = seed % 4 != 3;
  options.recompute_on_swap = seed % 5 == 4;
  Simulation simulation(options, seed);
  const auto drive = [&](Simulation& target) {
    if (seed % 3 == 1) target.Guess();
    for (int step = 0; step < 400; ++step) {
      if (target.random()() % 4 == 0 && target.live() < 60) {
        const auto any = [&](int32_t below) {
          return static_cast<int32_t>(target.random()() % static_cast<uint32_t>(below));
        };
        const int32_t prompt_size = 1 + any(30);
        const Arrival arrival = {.prompt_size = prompt_size,
                                 .samples = 1 + any(8),
                                 .new_tokens = 1 + any(40),
                                 .common = any(2) * any(prompt_size + 1)};
        target.Arrive(arrival);
      }
      if (target.random()() % 25 == 0) target.CancelOne();
      if (target.random()() % 30 == 0) target.SwapWeights();
      if (target.random()() % 8 == 0) target.RewindOne();
      target.Step();
      if (::testing::Test::HasFatalFailure()) return;
    }
    Drain(target, 20000);
  };
  drive(simulation);
  // At most 67 others (60 and the arrival that passed the bound) can be ahead of anybody.
  EXPECT_LT(simulation.longest_life(), 68 * 75);
  Simulation again(options, seed);
  drive(again);
  EXPECT_EQ(again.trace(), simulation.trace());  // deterministic
  const bool guessed = seed % 3 == 1 && options.prefill_chunk_tokens > 10;
  if (guessed) {
    EXPECT_GT(simulation.right_guesses(), 0);
  }
  if (!options.prefix_cache) {
    EXPECT_EQ(simulation.scheduler().pool().kept(), 0);
    EXPECT_EQ(simulation.scheduler().cache_hit_tokens(), 0u);
  } else if (options.block_tokens <= 2) {
    EXPECT_GT(simulation.scheduler().cache_hit_tokens(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomArrivals, ::testing::Range(0u, 40u));

}  // namespace
}  // namespace tramontane
