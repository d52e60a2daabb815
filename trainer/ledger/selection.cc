#include "trainer/ledger/selection.h"

#include <algorithm>

#include "common/kind_rules.h"

namespace tramontane {
namespace {

using Samples = std::vector<const Rollout*>;

double Reward(const Rollout& rollout) { return rollout.verdict.score.value_or(0); }
size_t Length(const Rollout& rollout) { return rollout.tokens.size(); }

// An end token alone is no text, and no row.
bool IsScored(const Rollout& rollout) {
  return rollout.verdict.score.has_value() && !rollout.text.empty();
}

bool IsWhole(const Rollout& rollout) { return rollout.finish_reason == FinishReason::kStop; }

// By `better`; of equals the earlier sample first.
Samples Sorted(Samples samples, auto better) {
  std::stable_sort(samples.begin(), samples.end(),
                   [&](const Rollout* a, const Rollout* b) { return better(*a, *b); });
  return samples;
}

Samples Those(const Group& group, auto fits) {
  Samples samples;
  for (const Rollout& rollout : group.rollouts) {
    if (IsScored(rollout) && fits(rollout)) samples.push_back(&rollout);
  }
  return Sorted(std::move(samples), [](const Rollout& a, const Rollout& b) {
    return a.sample_index < b.sample_index;
  });
}

bool IsShorter(const Rollout& a, const Rollout& b) { return Length(a) < Length(b); }
bool IsBetter(const Rollout& a, const Rollout& b) { return Reward(a) > Reward(b); }

Json Row(const Group& group, const std::string& tokenizer) {
  Json row = {
      {"id", group.task.row.row_id}, {"prompt", group.task.row.prompt}, {"tokenizer", tokenizer}};
  if (!group.task.row.prompt_tokens.empty()) row["prompt_tokens"] = group.task.row.prompt_tokens;
  return row;
}

void Put(const Rollout& rollout, const char* field, Json& row) {
  row[field] = rollout.text;
  row[std::string(field) + "_tokens"] = rollout.tokens;
}

using Pair = std::pair<const Rollout*, const Rollout*>;

std::vector<Pair> Pairs(const Group& group, const RejectSection& reject) {
  std::vector<Pair> pairs;
  const Samples any = Those(group, [](const Rollout&) { return true; });
  if (reject.keep == "pairs_best_worst") {
    const Samples best = Sorted(Those(group, IsWhole), IsBetter);
    const Samples ranked = Sorted(any, IsBetter);
    if (!best.empty() && Reward(*best.front()) > Reward(*ranked.back()))
      pairs.push_back({best.front(), ranked.back()});
    return pairs;
  }
  const Samples right = Sorted(
      Those(group, [](const Rollout& r) { return IsWhole(r) && r.verdict.correct; }), IsShorter);
  if (right.empty()) return pairs;
  const Rollout& shortest = *right.front();
  const double far = reject.length_ratio * static_cast<double>(Length(shortest));
  for (const Rollout* other : any) {
    const bool rejected = other->verdict.correct
                              ? static_cast<double>(Length(*other)) >= far
                              : Length(*other) > Length(shortest);
    if (rejected) pairs.push_back({&shortest, other});
  }
  return pairs;
}

Samples Taught(const Group& group, const std::string& keep) {
  if (keep == "best") return Sorted(Those(group, IsWhole), IsBetter);
  const Samples right =
      Those(group, [](const Rollout& r) { return IsWhole(r) && r.verdict.correct; });
  return keep == "shortest_correct" ? Sorted(right, IsShorter) : right;
}

}  // namespace

std::vector<Json> SelectRows(const Group& group, const RejectSection& reject,
                             const std::string& tokenizer) {
  std::vector<Json> rows;
  if (KeepsPairs(reject)) {
    for (const auto& [chosen, rejected] : Pairs(group, reject)) {
      Json row = Row(group, tokenizer);
      Put(*chosen, "chosen", row);
      Put(*rejected, "rejected", row);
      rows.push_back(std::move(row));
    }
  } else {
    for (const Rollout* rollout : Taught(group, reject.keep)) {
      Json row = Row(group, tokenizer);
      Put(*rollout, "completion", row);
      row["reward"] = Reward(*rollout);
      rows.push_back(std::move(row));
    }
  }
  if (rows.size() > static_cast<size_t>(reject.max_per_prompt)) rows.resize(reject.max_per_prompt);
  return rows;
}

}  // namespace tramontane
