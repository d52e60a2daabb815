#include "trainer/learner/gradient_buckets.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "trainer/learner/flat_ranges.h"

namespace tramontane {
namespace {

// Large enough to make a sum worth its round trips, small beside a model.
constexpr int64_t kBucketElements = int64_t{1} << 20;

}  // namespace

GradientBuckets::GradientBuckets(const std::vector<at::Tensor>& parameters, Range shard,
                                 RankGroup& ranks)
    : parameters_(parameters),
      shard_(shard),
      ranks_(ranks),
      shard_T_(at::zeros({static_cast<int64_t>(shard.size())},
                         parameters.front().options().requires_grad(false))),
      bucket_of_(parameters.size()),
      taken_(parameters.size()) {
  size_t end = CountElements(parameters);
  for (size_t last = parameters.size(); last > 0;) {
    Bucket bucket;
    bucket.first = bucket.last = last;
    int64_t elements = 0;
    while (bucket.first > 0 && elements < kBucketElements) {
      --bucket.first;
      bucket_of_[bucket.first] = buckets_.size();
      elements += parameters[bucket.first].numel();
    }
    bucket.elements = {end - static_cast<size_t>(elements), end};
    end = bucket.elements.begin;
    last = bucket.first;
    buckets_.push_back(std::move(bucket));
  }
}

void GradientBuckets::Clear() { shard_T_.zero_(); }

void GradientBuckets::Begin() {
  next_ = 0;
  std::fill(taken_.begin(), taken_.end(), 0);
  for (Bucket& bucket : buckets_) bucket.missing = bucket.last - bucket.first;
}

void GradientBuckets::Fill(Bucket& bucket) {
  if (bucket.sum.flat.defined()) return;
  bucket.sum = MakeFlatLike({parameters_.begin() + static_cast<std::ptrdiff_t>(bucket.first),
                             parameters_.begin() + static_cast<std::ptrdiff_t>(bucket.last)});
  held_bytes_ += static_cast<int64_t>(bucket.sum.flat.nbytes());
  most_bytes_ = std::max(most_bytes_, held_bytes_);
}

void GradientBuckets::Take(size_t parameter, const at::Tensor& gradient) {
  Bucket& bucket = buckets_[bucket_of_[parameter]];
  Fill(bucket);
  bucket.sum.views[parameter - bucket.first].add_(gradient);
  TORCH_CHECK(!taken_[parameter], "gradient of parameter ", parameter, " came twice");
  taken_[parameter] = 1;
  --bucket.missing;
  EmptyWhatIsComplete();
}

void GradientBuckets::EmptyWhatIsComplete() {
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) Empty(buckets_[next_++]);
}

void GradientBuckets::Empty(Bucket& bucket) {
  Fill(bucket);
  std::vector<Range> shards;
  for (int r = 0; r < ranks_.size(); ++r) {
    const Range whole = ShardOf(CountElements(parameters_), r, ranks_.size());
    shards.push_back(Within(whole, bucket.elements));
  }
  if (status_.ok()) {
    status_ =
        WithSpan(bucket.sum.flat, [&](auto span) { return ranks_.ReduceScatterSum(span, shards); });
  }
  const Range mine = shards[ranks_.rank()];
  if (mine.size() > 0 && status_.ok()) {
    const auto length = static_cast<int64_t>(mine.size());
    shard_T_
        .narrow(0, static_cast<int64_t>(bucket.elements.begin + mine.begin - shard_.begin), length)
        .add_(bucket.sum.flat.narrow(0, static_cast<int64_t>(mine.begin), length));
  }
  held_bytes_ -= static_cast<int64_t>(bucket.sum.flat.nbytes());
  bucket.sum = {};
}

absl::Status GradientBuckets::End() {
  const at::NoGradGuard no_grad;
  for (; next_ < buckets_.size(); ++next_) Empty(buckets_[next_]);
  return status_;
}

int64_t GradientBuckets::bytes() const {
  return static_cast<int64_t>(shard_T_.nbytes()) + most_bytes_;
}

}  // namespace tramontane
