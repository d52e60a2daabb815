#include "generator/core/scheduler.h"

#include <algorithm>
#include <cassert>
#include <span>

namespace tramontane {
namespace {

bool Older(const Sequence* a, const Sequence* b) { return a->id < b->id; }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      watermark_blocks_(std::max(1, options.total_blocks / 100)),
      pool_(options.total_blocks),
      cache_(options.total_blocks) {}

int64_t Scheduler::capacity_tokens() const {
  return int64_t{options_.total_blocks} * options_.block_tokens;
}

int32_t Scheduler::BlocksFor(int32_t tokens) const {
  return (tokens + options_.block_tokens - 1) / options_.block_tokens;
}

void Scheduler::Add(Sequence& sequence) {
  assert(sequence.state == SequenceState::kIdle && sequence.size() > 0);
  sequence.state = SequenceState::kWaiting;
  waiting_.emplace(sequence.id, &sequence);
}

void Scheduler::Remove(Sequence& sequence) {
  if (sequence.state == SequenceState::kRunning) StopRunning(sequence);
  waiting_.erase(sequence.id);
  sequence.state = SequenceState::kIdle;
}

const StepPlan& Scheduler::Plan() {
  plan_.items.clear();
  plan_.copies.clear();
  plan_.tokens = plan_.logit_rows = plan_.prefill_tokens = 0;
  prefill_left_ = options_.prefill_chunk_tokens;
  draft_left_ = prefill_left_ / 2;  // guesses leave room for prompts
  const uint64_t preemptions_before = preemptions_;
  PlanRunning();
  // What was just preempted must not take the blocks it gave back.
  if (preemptions_ == preemptions_before) PlanWaiting();
  return plan_;
}

void Scheduler::PlanRunning() {
  // Preemption shortens running_ from its end, so the index stays good.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.drafts > std::min(draft_left_, prefill_left_)) sequence.DropDrafts();
    int32_t count = sequence.size() - sequence.cached;
    if (count > 1 && sequence.drafts == 0) count = std::min(count, prefill_left_);
    if (count == 0) continue;
    if (sequence.drafts > 0 && !Reserve(sequence, count)) {  // nobody makes room for guesses
      sequence.DropDrafts();
      count = 1;
    }
    while (!Reserve(sequence, count)) {
      SetBack(*running_.back());
      ++preemptions_;
      if (sequence.state != SequenceState::kRunning) return;  // it was the youngest itself
    }
    Append(sequence, count);
  }
}

void Scheduler::PlanWaiting() {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (running() >= options_.max_running_sequences) return;
    Sequence& sequence = *it->second;
    ++it;  // admission erases the entry
    if (TryAdmit(sequence) == Admission::kFull) return;
  }
}

// kLater: a sibling is computing its prompt. kFull: it and all younger ones wait for room.
Scheduler::Admission Scheduler::TryAdmit(Sequence& sequence) {
  const Prefix prefix = FindPrefix(sequence);
  if (prefix.donor == nullptr && prefix.coming) return Admission::kLater;
  std::vector<PrefixCache::Entry> cached = FindCached(sequence);
  const int32_t cached_tokens = static_cast<int32_t>(cached.size()) * options_.block_tokens;
  int32_t shared_tokens = prefix.donor == nullptr ? 0 : sequence.prompt_size - 1;
  if (cached_tokens > shared_tokens) {
    shared_tokens = cached_tokens;
  } else {
    cached.clear();
  }
  const int32_t missing = sequence.size() - shared_tokens;
  if (missing > 1 && prefill_left_ == 0) return Admission::kFull;
  // Full blocks are shared for good; a partial one is copied, so it counts as needed, and so does
  // one that nobody uses now.
  const auto unused = static_cast<int32_t>(std::ranges::count_if(
      cached, [this](const PrefixCache::Entry& entry) { return !pool_.used(entry.block); }));
  const int32_t needed =
      BlocksFor(sequence.size()) - shared_tokens / options_.block_tokens + unused;
  const int32_t keep_free = running_.empty() ? 0 : watermark_blocks_;
  if (pool_.free() < needed + keep_free) return Admission::kFull;

  waiting_.erase(sequence.id);
  sequence.weight_generation = weight_generation_;
  sequence.cached = shared_tokens;
  ShareBlocks(sequence, prefix, cached);
  StartRunning(sequence);
  const int32_t count = missing > 1 ? std::min(missing, prefill_left_) : 1;
  const bool reserved = Reserve(sequence, count);
  assert(reserved);
  static_cast<void>(reserved);
  Append(sequence, count);
  return Admission::kAdmitted;
}

void Scheduler::ShareBlocks(Sequence& sequence, const Prefix& prefix,
                            const std::vector<PrefixCache::Entry>& cached) {
  for (const PrefixCache::Entry& entry : cached) {
    sequence.blocks.push_back(entry.block);
    sequence.chain.push_back(entry.id);
  }
  if (cached.empty() && prefix.donor != nullptr) {
    const Sequence& donor = *prefix.donor;
    const auto full = static_cast<size_t>(sequence.cached / options_.block_tokens);
    sequence.blocks.assign(donor.blocks.begin(), donor.blocks.begin() + BlocksFor(sequence.cached));
    sequence.chain.assign(donor.chain.begin(),
                          donor.chain.begin() + std::min(full, donor.chain.size()));
    sibling_hit_tokens_ += sequence.cached;
  } else {
    cache_hit_tokens_ += sequence.cached;
  }
  if (sequence.found < 0) sequence.found = cached.empty() ? 0 : sequence.cached;
  for (const int32_t block : sequence.blocks) pool_.Share(block);
}

// The longest beginning that full blocks hold, but for the newest token, whose logits are wanted.
std::vector<PrefixCache::Entry> Scheduler::FindCached(const Sequence& sequence) const {
  std::vector<PrefixCache::Entry> found;
  if (!options_.prefix_cache || sequence.scores_prompt) return found;
  const std::span<const int32_t> tokens = sequence.tokens;
  const auto block_tokens = static_cast<size_t>(options_.block_tokens);
  uint64_t parent = cache_.root();
  for (size_t begin = 0; begin + block_tokens < tokens.size(); begin += block_tokens) {
    found.push_back(cache_.Find(parent, tokens.subspan(begin, block_tokens)));
    parent = found.back().id;
    if (parent != 0) continue;
    found.pop_back();
    break;
  }
  return found;
}

// Only where one version of the weights computed everything from the first token on.
void Scheduler::NoteFullBlocks(Sequence& sequence) {
  if (!options_.prefix_cache || sequence.weight_generation != weight_generation_) return;
  const std::span<const int32_t> tokens = sequence.tokens;
  const auto block_tokens = static_cast<size_t>(options_.block_tokens);
  const int32_t certain = std::min(sequence.cached, sequence.size() - sequence.drafts);
  const auto full = static_cast<size_t>(certain) / block_tokens;
  for (size_t i = sequence.chain.size(); i < full; ++i) {
    const uint64_t parent = i == 0 ? cache_.root() : sequence.chain.back();
    sequence.chain.push_back(
        cache_.Insert(parent, tokens.subspan(i * block_tokens, block_tokens), sequence.blocks[i]));
  }
}

int32_t Scheduler::TakeBlock() {
  const int32_t block = pool_.Take();
  cache_.Forget(block);
  return block;
}

// All but the first `kept`, the last one first: a chain is worth nothing without its beginning.
void Scheduler::ReleaseBlocks(Sequence& sequence, int32_t kept) {
  while (static_cast<int32_t>(sequence.blocks.size()) > kept) {
    pool_.Release(sequence.blocks.back(), cache_.Holds(sequence.blocks.back()));
    sequence.blocks.pop_back();
  }
}

Scheduler::Prefix Scheduler::FindPrefix(const Sequence& sequence) const {
  Prefix prefix;
  if (sequence.prompt_size < 2) return prefix;  // nothing before the last prompt token
  if (sequence.scores_prompt) return prefix;
  const auto siblings = running_by_request_.find(sequence.request);
  if (siblings == running_by_request_.end()) return prefix;
  for (const Sequence* sibling : siblings->second) {
    if (sibling->weight_generation != weight_generation_) continue;
    if (sibling->cached >= sequence.prompt_size - 1) {
      prefix.donor = sibling;
      return prefix;
    }
    prefix.coming = true;
  }
  return prefix;
}

// Makes tokens [cached, cached + count) writable; changes nothing when blocks are short.
bool Scheduler::Reserve(Sequence& sequence, int32_t count) {
  // What was taken back (Sequence::Rewind) leaves blocks, or a part of one, to be written anew.
  ReleaseBlocks(sequence, BlocksFor(sequence.cached));
  sequence.chain.resize(std::min(sequence.chain.size(),
                                 static_cast<size_t>(sequence.cached / options_.block_tokens)));
  const int32_t have = static_cast<int32_t>(sequence.blocks.size());
  const int32_t fresh = BlocksFor(sequence.cached + count) - have;
  const int32_t first = sequence.cached / options_.block_tokens;
  const bool copy = first < have && pool_.shared(sequence.blocks[first]);
  if (pool_.free() < fresh + (copy ? 1 : 0)) return false;
  if (copy) {
    const int32_t from = sequence.blocks[first];
    sequence.blocks[first] = TakeBlock();
    plan_.copies.push_back({from, sequence.blocks[first]});
    pool_.Release(from);
  } else if (first < have) {
    cache_.Forget(sequence.blocks[first]);
  }
  for (int32_t i = 0; i < fresh; ++i) sequence.blocks.push_back(TakeBlock());
  return true;
}

void Scheduler::Append(Sequence& sequence, int32_t count) {
  const bool samples = sequence.cached + count == sequence.size();
  const bool scores = sequence.scores_prompt && sequence.cached < sequence.prompt_size - 1;
  const int32_t logit_rows = scores ? count : samples ? 1 + sequence.drafts : 0;
  plan_.items.push_back({.sequence = &sequence,
                         .start = sequence.cached,
                         .count = count,
                         .samples = samples,
                         .logit_rows = logit_rows,
                         .drafts = sequence.drafts,
                         .row = plan_.tokens});
  plan_.tokens += count;
  plan_.logit_rows += logit_rows;
  if (sequence.drafts > 0) {
    prefill_left_ -= sequence.drafts;
    draft_left_ -= sequence.drafts;
  } else if (count > 1 || !samples) {
    plan_.prefill_tokens += count;
    prefill_left_ -= count;
  }
}

// It waits again, at its old place, to be recomputed.
void Scheduler::SetBack(Sequence& sequence) {
  StopRunning(sequence);
  sequence.state = SequenceState::kWaiting;
  waiting_.emplace(sequence.id, &sequence);
}

void Scheduler::OnWeightsChanged() {
  ++weight_generation_;
  for (int32_t block = 0; block < pool_.total(); ++block) {
    if (cache_.Holds(block)) pool_.Empty(block);
  }
  cache_.Clear();
  if (!options_.recompute_on_swap) return;
  while (!running_.empty()) SetBack(*running_.back());
}

void Scheduler::StartRunning(Sequence& sequence) {
  sequence.state = SequenceState::kRunning;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, Older), &sequence);
  running_by_request_[sequence.request].push_back(&sequence);
}

void Scheduler::StopRunning(Sequence& sequence) {
  ReleaseBlocks(sequence, 0);
  sequence.DropDrafts();
  sequence.chain.clear();
  sequence.cached = 0;
  running_.erase(std::lower_bound(running_.begin(), running_.end(), &sequence, Older));
  auto siblings = running_by_request_.find(sequence.request);
  std::erase(siblings->second, &sequence);
  if (siblings->second.empty()) running_by_request_.erase(siblings);
}

std::vector<Sequence*> Scheduler::Decoding() const {
  std::vector<Sequence*> decoding;
  for (Sequence* sequence : running_) {
    if (sequence->size() - sequence->cached == 1) decoding.push_back(sequence);
  }
  return decoding;
}

void Scheduler::Complete() {
  for (const StepItem& item : plan_.items) {
    item.sequence->cached += item.count;
    NoteFullBlocks(*item.sequence);
  }
}

}  // namespace tramontane
