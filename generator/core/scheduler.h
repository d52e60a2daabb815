// Decides which tokens the next forward pass computes: continuous batching with chunked prefill
// over a paged cache. Integers only, deterministic, one thread.
//
// Each step takes every running sequence, oldest first: one token of those that decode, a chunk of
// those that still prefill. When blocks run out the youngest running sequence is preempted: its
// blocks are freed, its tokens kept, and it waits again at its old place to be recomputed. As the
// oldest is never preempted for another and arrivals are admitted in order, nobody starves.
//
// Samples of one request prefill their prompt once: while the first does, the others wait; then
// each shares all blocks that hold the prompt but for its last token, and computes that one itself
// to get its first logits. A shared block is copied before it is written.
//
// Full blocks are noted in a prefix cache and stay there, while there is room, when their sequence
// is gone: whoever comes later and begins alike shares them, be it another request or the same
// sequence after a preemption.
//
// Keys and values belong to the weights that computed them. Running sequences keep theirs across a
// swap (or give them up and are recomputed), but blocks are shared only between sequences that
// started under the same weights, and noted only where those weights computed all before them.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "generator/core/block_pool.h"
#include "generator/core/prefix_cache.h"
#include "generator/core/sequence.h"

namespace tramontane {

struct SchedulerOptions {
  int32_t max_running_sequences = 128;
  int32_t block_tokens = 16;
  int32_t total_blocks = 4096;
  int32_t prefill_chunk_tokens = 512;  // in one step, over all sequences that prefill
  bool prefix_cache = true;
  bool recompute_on_swap = false;  // running sequences give up keys of earlier weights
};

struct StepItem {
  Sequence* sequence = nullptr;
  int32_t start = 0, count = 0;  // computes tokens[start, start + count)
  bool samples = false;          // the last of them is the newest token: draw the next one
  int32_t logit_rows = 0;        // so many of the last want logits
  int32_t drafts = 0;            // so many of the last are guesses
  int32_t row = 0;               // of its first token in the step
};

struct BlockCopy {
  int32_t from = 0, to = 0;
};

// Copies run first and in order; then the forward pass writes.
struct StepPlan {
  std::vector<StepItem> items;
  std::vector<BlockCopy> copies;
  int32_t tokens = 0;
  int32_t logit_rows = 0;  // over all items
  int32_t prefill_tokens = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Tokens that one sequence can hold when it has the whole cache to itself.
  int64_t capacity_tokens() const;

  // `sequence` stays valid until Remove. Its size, all tokens to come included, must not exceed
  // capacity_tokens().
  void Add(Sequence& sequence);
  void Remove(Sequence& sequence);  // waiting or running; frees its blocks

  // The next step; the reference is valid until the next call. Empty only if nothing can run,
  // which means that nothing waits either.
  const StepPlan& Plan();
  // The planned tokens are now in the cache. Of a sequence with drafts the caller says how far they
  // were right: it drops them, and sets `cached` back to what holds.
  void Complete();
  // Those that only want their newest token computed: before Plan() they may be given drafts. A
  // plan that has no room for them drops them.
  std::vector<Sequence*> Decoding() const;
  // Between steps. What is in the cache now is not shared with sequences that start later.
  void OnWeightsChanged();

  int32_t running() const { return static_cast<int32_t>(running_.size()); }
  int32_t waiting() const { return static_cast<int32_t>(waiting_.size()); }
  uint64_t preemptions() const { return preemptions_; }  // for want of blocks
  // Tokens that need not be computed: found in the prefix cache, or computed by a sibling.
  uint64_t cache_hit_tokens() const { return cache_hit_tokens_; }
  uint64_t sibling_hit_tokens() const { return sibling_hit_tokens_; }
  const BlockPool& pool() const { return pool_; }

 private:
  enum class Admission { kAdmitted, kLater, kFull };
  struct Prefix {
    const Sequence* donor = nullptr;  // has the prompt but for its last token in the cache
    bool coming = false;              // somebody is computing it
  };

  void PlanRunning();
  void PlanWaiting();
  Admission TryAdmit(Sequence& sequence);
  Prefix FindPrefix(const Sequence& sequence) const;
  std::vector<PrefixCache::Entry> FindCached(const Sequence& sequence) const;
  void ShareBlocks(Sequence& sequence, const Prefix& prefix,
                   const std::vector<PrefixCache::Entry>& cached);
  void NoteFullBlocks(Sequence& sequence);
  int32_t TakeBlock();
  void ReleaseBlocks(Sequence& sequence, int32_t kept);
  bool Reserve(Sequence& sequence, int32_t count);
  void Append(Sequence& sequence, int32_t count);
  void SetBack(Sequence& sequence);
  void StartRunning(Sequence& sequence);
  void StopRunning(Sequence& sequence);
  int32_t BlocksFor(int32_t tokens) const;

  const SchedulerOptions options_;
  const int32_t watermark_blocks_;  // left free by admissions, so that decoding has room to grow
  BlockPool pool_;
  PrefixCache cache_;
  std::map<uint64_t, Sequence*> waiting_;  // by arrival
  std::vector<Sequence*> running_;         // by arrival
  std::unordered_map<uint64_t, std::vector<const Sequence*>> running_by_request_;
  uint64_t weight_generation_ = 0;
  uint64_t preemptions_ = 0, cache_hit_tokens_ = 0, sibling_hit_tokens_ = 0;
  StepPlan plan_;
  int32_t prefill_left_ = 0, draft_left_ = 0;  // tokens of this step
};

}  // namespace tramontane
