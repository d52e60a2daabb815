#include "trainer/ledger/prompt_source.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/layers.h"

namespace tramontane {
namespace {

// Rows whose pass rates differ by no more are equally near a target.
constexpr double kNearEnough = 0.005;

std::string DomainOf(const PromptRow& row, const std::string& key) {
  if (row.params.contains(key) && row.params[key].is_string()) return row.params[key];
  return row.verifier;
}

std::optional<double> NumberOf(const PromptRow& row, const std::string& key) {
  if (!row.params.contains(key) || !row.params[key].is_number()) return std::nullopt;
  return row.params[key].get<double>();
}

// Nothing is asked of the rows: each pass visits every one once.
bool IsPlain(const PromptSection& s) {
  return s.order == "pass" && s.domain_weights.empty() && !s.label_low && !s.label_high &&
         !s.pass_low && !s.pass_high;
}

}  // namespace

void RowOutcomes::Add(const Group& group) {
  std::vector<int64_t>& counts =
      rows_.try_emplace(group.task.row.row_id, 3, int64_t{0}).first->second;
  counts[0] += 1;
  for (const Rollout& rollout : group.rollouts) {
    if (IsCorrection(group.task, rollout.sample_index)) continue;
    counts[1] += 1;
    counts[2] += rollout.verdict.correct ? 1 : 0;
  }
}

absl::Status PromptSource::Check(const std::vector<PromptRow>& rows, const PromptSection& section) {
  for (const auto& [domain, weight] : section.domain_weights) {
    const auto has = [&](const PromptRow& row) {
      return DomainOf(row, section.domain_key) == domain;
    };
    if (std::any_of(rows.begin(), rows.end(), has)) continue;
    return absl::InvalidArgumentError("prompts.domain_weights." + domain +
                                      ": no row of data.train has this domain (" + "params." +
                                      section.domain_key + ", or else the row's verifier)");
  }
  return absl::OkStatus();
}

PromptSource::PromptSource(const std::vector<PromptRow>& rows, SectionAt section, uint64_t seed,
                           bool shuffle)
    : section_at_(std::move(section)), seed_(seed), order_(rows.size(), seed, shuffle) {
  section_ = section_at_(1);
  std::map<std::string, uint32_t> ids;
  for (const PromptRow& row : rows) {
    const std::string domain = DomainOf(row, section_.domain_key);
    const auto [found, added] = ids.try_emplace(domain, static_cast<uint32_t>(domains_.size()));
    if (added) domains_.push_back(domain);
    index_[row.row_id] = rows_.size();
    rows_.push_back({.domain = found->second,
                     .label = NumberOf(row, section_.label_key),
                     .guess = NumberOf(row, "pass_rate")});
  }
}

size_t PromptSource::Draw(uint64_t cursor, int64_t step) {
  std::lock_guard lock(mutex_);
  if (step != section_step_) {
    section_ = section_at_(step);
    section_step_ = step;
  }
  size_t row = 0;
  if (IsPlain(section_)) {
    row = order_.RowAt(cursor);
  } else {
    SplitMix mix(SplitMix(seed_).Next() ^ SplitMix(~cursor).Next());
    const Rows rows = Eligible(mix);
    row = section_.order == "priority"   ? ByPriority(rows, mix)
          : section_.order == "gaussian" ? ByTarget(rows, mix)
                                         : LeastDrawn(rows, mix);
  }
  ++rows_[row].drawn;
  return row;
}

void PromptSource::Restore(const std::vector<JournalRecord>& records) {
  std::lock_guard lock(mutex_);
  for (const JournalRecord& record : records) {
    if (record.detail.is_object() && record.detail.contains("rows"))
      Count(record.detail["rows"], false);
  }
}

void PromptSource::Record(const Json& outcomes) {
  std::lock_guard lock(mutex_);
  Count(outcomes, true);
}

void PromptSource::Count(const Json& outcomes, bool drawn_before) {
  for (const auto& [row_id, counts] : outcomes.items()) {
    const auto found = index_.find(row_id);
    // Rows may be taken out of the file between two attempts.
    if (found == index_.end() || !counts.is_array() || counts.size() != 3) continue;
    Row& row = rows_[found->second];
    if (!drawn_before) row.drawn += counts[0].get<int64_t>();
    const auto samples = counts[1].get<double>();
    const double memory = section_.pass_memory_samples;
    if (memory > 0 && row.samples + samples > memory) {
      const double kept = std::max(memory - samples, 0.0) / std::max(row.samples, 1.0);
      row.samples *= kept;
      row.right *= kept;
    }
    row.samples += samples;
    row.right += counts[2].get<double>();
  }
}

std::optional<double> PromptSource::PassRate(size_t row) const {
  std::lock_guard lock(mutex_);
  return RateOf(rows_[row]);
}

// A guess weighs as much as the samples that are needed without one.
std::optional<double> PromptSource::RateOf(const Row& row) const {
  const double enough = section_.pass_min_samples;
  if (row.guess) return (row.right + *row.guess * enough) / (row.samples + enough);
  if (row.samples < enough) return std::nullopt;
  return row.right / row.samples;
}

bool PromptSource::Inside(const Row& row) const {
  const std::optional<double> rate = RateOf(row);
  return !rate ||
         (*rate >= section_.pass_low.value_or(0) && *rate <= section_.pass_high.value_or(1));
}

PromptSource::Rows PromptSource::Eligible(SplitMix& mix) const {
  const auto labelled = [&](const Row& row) {
    return !row.label || (*row.label >= section_.label_low.value_or(*row.label) &&
                          *row.label <= section_.label_high.value_or(*row.label));
  };
  std::vector<Rows> inside(domains_.size()), outside(domains_.size());
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    if (labelled(row))
      (Inside(row) ? inside : outside)[row.domain].push_back(static_cast<uint32_t>(i));
  }
  // Without weights a domain counts by its rows.
  std::vector<double> weight(domains_.size(), 0.0);
  double total = 0;
  for (size_t d = 0; d < domains_.size(); ++d) {
    const size_t rows = inside[d].size() + outside[d].size();
    if (rows == 0) continue;
    const auto given = section_.domain_weights.find(domains_[d]);
    weight[d] = section_.domain_weights.empty()          ? static_cast<double>(rows)
                : given == section_.domain_weights.end() ? 0.0
                                                         : given->second.get<double>();
    total += weight[d];
  }
  if (total <=
      0) {  // no row has such a label, or none in a domain with weight: better any than none
    Rows all;
    for (size_t i = 0; i < rows_.size(); ++i) all.push_back(static_cast<uint32_t>(i));
    return all;
  }
  double left = mix.Unit() * total;
  size_t domain = 0;
  for (size_t d = 0; d < domains_.size(); ++d) {
    if (weight[d] <= 0) continue;
    domain = d;
    if ((left -= weight[d]) < 0) break;
  }
  const bool from_outside = mix.Unit() < section_.outside_probability;
  if (inside[domain].empty() || (from_outside && !outside[domain].empty())) return outside[domain];
  return inside[domain];
}

size_t PromptSource::LeastDrawn(const Rows& rows, SplitMix& mix) const {
  int64_t least = rows_[rows[0]].drawn;
  for (uint32_t i : rows) least = std::min(least, rows_[i].drawn);
  Rows fewest;
  for (uint32_t i : rows) {
    if (rows_[i].drawn == least) fewest.push_back(i);
  }
  return fewest[mix.Below(fewest.size())];
}

// Proportional to 1 − pass rate; what nobody has tried counts as never right.
size_t PromptSource::ByPriority(const Rows& rows, SplitMix& mix) const {
  double total = 0;
  for (uint32_t i : rows) total += 1 - RateOf(rows_[i]).value_or(0);
  if (total <= 0) return LeastDrawn(rows, mix);
  double left = mix.Unit() * total;
  for (uint32_t i : rows) {
    if ((left -= 1 - RateOf(rows_[i]).value_or(0)) < 0) return i;
  }
  return rows.back();
}

// A target is drawn first and then a row near it, so that batches follow the targets and not the
// data's own mix of pass rates. Rows that nobody knows are drawn as often as they are many.
size_t PromptSource::ByTarget(const Rows& rows, SplitMix& mix) const {
  Rows known, unknown;
  for (uint32_t i : rows) (RateOf(rows_[i]) ? known : unknown).push_back(i);
  if (known.empty() || mix.Below(rows.size()) < unknown.size()) return LeastDrawn(unknown, mix);
  const double target =
      std::clamp(section_.target_pass_rate + section_.target_deviation * mix.Normal(), 0.0, 1.0);
  const auto distance = [&](uint32_t i) { return std::abs(*RateOf(rows_[i]) - target); };
  double nearest = 2;
  for (uint32_t i : known) nearest = std::min(nearest, distance(i));
  Rows near;
  for (uint32_t i : known) {
    if (distance(i) <= nearest + kNearEnough) near.push_back(i);
  }
  return LeastDrawn(near, mix);
}

}  // namespace tramontane
