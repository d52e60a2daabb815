#include "trainer/ranks/rank_group.h"

#include <algorithm>
#include <cstring>

#include "common/clock.h"
#include "common/status.h"

namespace tramontane {
namespace {

constexpr size_t kShardAlign = 16;
constexpr uint64_t kMostBroadcastBytes = uint64_t{1} << 40;

// What a rank says of itself in Agree; a long message is cut.
struct Outcome {
  int32_t code;
  char message[508];
};

template <class T>
void AddAs(char* to, const char* from, size_t bytes) {
  T* target = reinterpret_cast<T*>(to);
  const T* source = reinterpret_cast<const T*>(from);
  for (size_t i = 0; i < bytes / sizeof(T); ++i) target[i] += source[i];
}

std::vector<Range> InBytes(std::vector<Range> elements, size_t width) {
  for (Range& range : elements) range = {range.begin * width, range.end * width};
  return elements;
}

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += SecondsSince(start_); }

 private:
  double& seconds_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

Range ShardOf(size_t count, int rank, int ranks) {
  const auto bound = [&](int r) {
    if (r == ranks) return count;
    return count * static_cast<size_t>(r) / static_cast<size_t>(ranks) / kShardAlign * kShardAlign;
  };
  return {bound(rank), bound(rank + 1)};
}

void AddElements(char* to, const char* from, size_t bytes, bool is_double) {
  is_double ? AddAs<double>(to, from, bytes) : AddAs<float>(to, from, bytes);
}

template <class T>
absl::Status RankGroup::ReduceScatter(std::span<T> data, const std::vector<Range>& shards,
                                      Element element) {
  const Stopwatch watch(traffic_.seconds);
  const std::vector<Range> bytes = InBytes(shards, sizeof(T));
  traffic_.bytes_moved += static_cast<double>(data.size_bytes() - bytes[rank_].size());
  return DoReduceScatter(reinterpret_cast<char*>(data.data()), bytes, element);
}

template <class T>
absl::Status RankGroup::AllReduce(std::span<T> data, Element element) {
  std::vector<Range> shards;
  for (int r = 0; r < size_; ++r) shards.push_back(ShardOf(data.size(), r, size_));
  RETURN_IF_ERROR(ReduceScatter(data, shards, element));
  return AllGather(reinterpret_cast<char*>(data.data()), InBytes(shards, sizeof(T)));
}

absl::Status RankGroup::AllReduceSum(std::span<float> data) {
  return AllReduce(data, Element::kFloat);
}

absl::Status RankGroup::AllReduceSum(std::span<double> data) {
  return AllReduce(data, Element::kDouble);
}

absl::Status RankGroup::ReduceScatterSum(std::span<float> data, const std::vector<Range>& shards) {
  return ReduceScatter(data, shards, Element::kFloat);
}

absl::Status RankGroup::ReduceScatterSum(std::span<double> data, const std::vector<Range>& shards) {
  return ReduceScatter(data, shards, Element::kDouble);
}

absl::Status RankGroup::Gather(char* data, const std::vector<Range>& shards, bool patient) {
  traffic_.bytes_moved += static_cast<double>(shards[rank_].size()) * (size_ - 1);
  return DoAllGather(data, shards, patient);
}

absl::Status RankGroup::AllGather(char* data, const std::vector<Range>& shards) {
  const Stopwatch watch(traffic_.seconds);
  return Gather(data, shards, /*patient=*/false);
}

std::vector<Range> RankGroup::AllOfRankZero(size_t bytes) const {
  std::vector<Range> shards(static_cast<size_t>(size_), Range{bytes, bytes});
  shards[0] = {0, bytes};
  return shards;
}

absl::Status RankGroup::Broadcast(void* data, size_t bytes) {
  return AllGather(static_cast<char*>(data), AllOfRankZero(bytes));
}

absl::Status RankGroup::Broadcast(std::string& bytes, bool patient) {
  uint64_t size = bytes.size();
  // Not timed: what a rank waits for here is no part of a step.
  RETURN_IF_ERROR(Gather(reinterpret_cast<char*>(&size), AllOfRankZero(sizeof(size)), patient));
  if (size > kMostBroadcastBytes) return absl::InternalError("ranks are out of step");
  if (rank_ != 0) bytes.resize(size);
  return Broadcast(bytes.data(), bytes.size());
}

absl::Status RankGroup::Agree(const absl::Status& mine) {
  std::vector<Outcome> outcomes(static_cast<size_t>(size_), Outcome{});
  outcomes[rank_].code = static_cast<int32_t>(mine.code());
  const std::string message(mine.message());
  std::memcpy(outcomes[rank_].message, message.data(),
              std::min(message.size(), sizeof(Outcome::message) - 1));
  std::vector<Range> shards;
  for (size_t r = 0; r < outcomes.size(); ++r)
    shards.push_back({r * sizeof(Outcome), (r + 1) * sizeof(Outcome)});
  RETURN_IF_ERROR(AllGather(reinterpret_cast<char*>(outcomes.data()), shards));
  for (size_t r = 0; r < outcomes.size(); ++r) {
    if (outcomes[r].code == 0) continue;
    return Annotate(
        absl::Status(static_cast<absl::StatusCode>(outcomes[r].code), outcomes[r].message),
        "rank " + std::to_string(r));
  }
  return absl::OkStatus();
}

}  // namespace tramontane
