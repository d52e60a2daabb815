// The ranks of one trainer: processes that take every step together, each on its share of the
// batch. Collectives of theirs: every rank calls the same ones in the same order with the same
// sizes.
//
// Sums add in the order of ranks, whatever arrives first: the same data give the same bits, on
// every rank and over either transport. A rank that ends, falls silent or gives up ends the group:
// every later call fails, so that nobody waits for the dead.
//
// One thread of each process. Errors of all collectives: Unavailable (a rank is gone; the message
// says which, and its last words if it had any), DeadlineExceeded (a rank is silent), Cancelled
// (rank 0 has ended in order).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tramontane {

// A stretch of a flat array. In elements, or bytes where it says so.
struct Range {
  size_t begin = 0, end = 0;

  size_t size() const { return end - begin; }
};

// What rank `rank` of `ranks` owns of `count` elements: stretches of about one size, one after the
// other, that begin at multiples of 16.
Range ShardOf(size_t count, int rank, int ranks);

struct RankTraffic {
  double seconds = 0;      // in collectives, waiting for slower ranks included
  double bytes_moved = 0;  // that this rank has written for others
};

class RankGroup {
 public:
  virtual ~RankGroup() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Afterwards every rank's `data` is the sum over ranks.
  absl::Status AllReduceSum(std::span<float> data);
  absl::Status AllReduceSum(std::span<double> data);
  // `shards`: stretches of `data` in elements, one a rank, in order, without gaps. Afterwards this
  // rank's is the sum over ranks; the rest is unspecified.
  absl::Status ReduceScatterSum(std::span<float> data, const std::vector<Range>& shards);
  absl::Status ReduceScatterSum(std::span<double> data, const std::vector<Range>& shards);
  // Every rank gives its own `shards[rank]` (bytes) of `data`; afterwards each has all of them.
  absl::Status AllGather(char* data, const std::vector<Range>& shards);
  // Rank 0's bytes, of any size, for everybody. `patient`: the others wait for as long as it takes,
  // as between two steps.
  absl::Status Broadcast(std::string& bytes, bool patient = false);
  // The same with a size that all know.
  absl::Status Broadcast(void* data, size_t bytes);
  // The first error of any rank, by rank, named on all of them; OK when all came with OK.
  absl::Status Agree(const absl::Status& mine);

  // Tells the others why this rank ends. Their calls fail from now on, and this one's.
  virtual void Abort(const std::string& why) = 0;
  // OK until the group has ended; then why. Never waits.
  virtual absl::Status Health() = 0;

  const RankTraffic& traffic() const { return traffic_; }

 protected:
  enum class Element { kFloat, kDouble };

  RankGroup(int rank, int size) : rank_(rank), size_(size) {}

 private:
  // Shards in bytes; one a rank, in order, without gaps.
  virtual absl::Status DoReduceScatter(char* data, const std::vector<Range>& shards,
                                       Element element) = 0;
  virtual absl::Status DoAllGather(char* data, const std::vector<Range>& shards, bool patient) = 0;

  absl::Status Gather(char* data, const std::vector<Range>& shards, bool patient);
  template <class T>
  absl::Status ReduceScatter(std::span<T> data, const std::vector<Range>& shards, Element element);
  template <class T>
  absl::Status AllReduce(std::span<T> data, Element element);
  std::vector<Range> AllOfRankZero(size_t bytes) const;

  const int rank_, size_;
  RankTraffic traffic_;
};

// to[i] += from[i]; `bytes` is a multiple of the element's size.
void AddElements(char* to, const char* from, size_t bytes, bool is_double);

}  // namespace tramontane
