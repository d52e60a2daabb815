// ZeRO-2: no rank holds a whole gradient. Parameters are dealt out to buckets; as soon as the
// backward pass has filled one, the ranks add theirs up and each keeps what lies in its shard.
//
// All ranks empty buckets in one order, from the last parameters to the first, which is that in
// which backward passes come to know them; a rank that computes nothing takes part with zeros.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "absl/status/status.h"
#include "trainer/learner/adamw.h"
#include "trainer/ranks/rank_group.h"

namespace tramontane {

class GradientBuckets {
 public:
  // `shard`: what this rank keeps, in elements of the parameters' flat order.
  GradientBuckets(const std::vector<at::Tensor>& parameters, Range shard, RankGroup& ranks);

  void Clear();  // the shard's gradient to zero
  // One backward pass: Begin, Take each gradient once, End. Errors are kept until End.
  void Begin();
  void Take(size_t parameter, const at::Tensor& gradient);
  absl::Status End();

  at::Tensor& shard() { return shard_T_; }  // [elements of the shard], summed over passes and ranks
  int64_t bytes() const;

 private:
  struct Bucket {
    size_t first = 0, last = 0;  // parameters [first, last)
    size_t missing = 0;          // of this pass
    FlatTensor sum;              // empty between its first gradient and its sum
    Range elements;
  };

  void Fill(Bucket& bucket);
  void EmptyWhatIsComplete();
  void Empty(Bucket& bucket);

  const std::vector<at::Tensor> parameters_;
  const Range shard_;
  RankGroup& ranks_;
  at::Tensor shard_T_;
  std::vector<Bucket> buckets_;    // from the last parameters to the first
  std::vector<size_t> bucket_of_;  // by parameter
  std::vector<uint8_t> taken_;     // by parameter, in this pass
  size_t next_ = 0;                // bucket to be emptied
  int64_t most_bytes_ = 0, held_bytes_ = 0;
  absl::Status status_;
};

}  // namespace tramontane
