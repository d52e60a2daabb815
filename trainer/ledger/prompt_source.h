// Which row a prompt is drawn from: the plain passes of PromptOrder, or by what is known of the
// rows
// (`prompts` of the configuration): their domain, their label, and how often the policy got them
// right.
//
// A row's pass rate is counted over the samples of its groups as the journal says they ended,
// trained on or dropped, so a resumed run knows what it knew; `params.pass_rate` of a row is a
// first guess.
//
// Torch-free. Draws depend on seed, cursor, step and counters alone. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/rollout.h"
#include "trainer/ledger/journal.h"
#include "trainer/ledger/prompt_cursor.h"
#include "trainer/ledger/split_mix.h"

namespace tramontane {

// What became of rows' groups, for a journal record's detail: {row id: [groups, samples, right]}.
class RowOutcomes {
 public:
  void Add(const Group& group);
  bool empty() const { return rows_.empty(); }
  Json ToJson() const { return rows_; }

 private:
  std::map<std::string, std::vector<int64_t>> rows_;
};

class PromptSource {
 public:
  using SectionAt = std::function<PromptSection(int64_t step)>;
  // InvalidArgument: the section asks for what no row has (a domain).
  static absl::Status Check(const std::vector<PromptRow>& rows, const PromptSection& section);

  // `rows` (at least one) outlive it. `section` is asked once a step.
  PromptSource(const std::vector<PromptRow>& rows, SectionAt section, uint64_t seed, bool shuffle);

  // The row of the prompt that is issued for `step`.
  size_t Draw(uint64_t cursor, int64_t step);

  // What this run journalled before.
  void Restore(const std::vector<JournalRecord>& records);
  // What it has just journalled (RowOutcomes::ToJson) of groups drawn here.
  void Record(const Json& outcomes);

  // Empty while nothing is known.
  std::optional<double> PassRate(size_t row) const;

 private:
  struct Row {
    uint32_t domain = 0;
    std::optional<double> label, guess;
    int64_t drawn = 0;              // groups issued
    double samples = 0, right = 0;  // of groups that ended
  };
  using Rows = std::vector<uint32_t>;

  void Count(const Json& outcomes, bool drawn_before);
  std::optional<double> RateOf(const Row& row) const;
  bool Inside(const Row& row) const;
  // Of the domain that `mix` picks: rows to draw from.
  Rows Eligible(SplitMix& mix) const;
  size_t ByPriority(const Rows& rows, SplitMix& mix) const;
  size_t ByTarget(const Rows& rows, SplitMix& mix) const;
  // One of those that were drawn least often.
  size_t LeastDrawn(const Rows& rows, SplitMix& mix) const;

  const SectionAt section_at_;
  const uint64_t seed_;
  PromptOrder order_;
  mutable std::mutex mutex_;
  PromptSection section_;
  int64_t section_step_ = -1;
  std::vector<std::string> domains_;
  std::vector<Row> rows_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace tramontane
