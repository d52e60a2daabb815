#include "trainer/learner/crew.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "common/status.h"

namespace tramontane {

absl::Status Spread(RankGroup* ranks, const std::vector<at::Tensor>& tensors) {
  if (ranks == nullptr) return absl::OkStatus();
  for (const at::Tensor& tensor : tensors)
    RETURN_IF_ERROR(ranks->Broadcast(tensor.detach().mutable_data_ptr(), tensor.nbytes()));
  return absl::OkStatus();
}

Crew::Crew(int threads, RankGroup* ranks)
    : ranks_(ranks), workers_(threads, [] { at::set_num_threads(1); }) {}

PackPlan Crew::Plan(std::span<const TrainRow> rows, const std::vector<uint8_t>& kept,
                    int64_t capacity_tokens) const {
  const int workers = threads() * (ranks_ == nullptr ? 1 : ranks_->size());
  std::vector<SharedLength> lengths;
  for (size_t i = 0; i < rows.size(); ++i) {
    lengths.push_back({kept[i] ? rows[i].input_tokens() : 0, rows[i].group, rows[i].shared_tokens});
  }
  if (std::ranges::any_of(lengths, [](const SharedLength& length) { return length.shared > 0; }))
    return PackSharing(lengths, capacity_tokens, workers);
  std::vector<int64_t> tokens;
  for (const SharedLength& length : lengths) tokens.push_back(length.tokens);
  return PackSequences(tokens, capacity_tokens, workers);
}

const std::vector<int32_t>& Crew::Mine(const PackPlan& plan, int worker) const {
  const int first = ranks_ == nullptr ? 0 : ranks_->rank() * threads();
  return plan.workers[static_cast<size_t>(first + worker)];
}

absl::Status Crew::ForEach(
    const PackPlan& plan,
    const std::function<absl::Status(int worker, int32_t microbatch)>& compute) {
  std::vector<absl::Status> statuses(static_cast<size_t>(threads()));
  workers_.Run([&](int worker) {
    absl::Status& status = statuses[static_cast<size_t>(worker)];
    for (int32_t m : Mine(plan, worker)) {
      if (status.ok()) status = compute(worker, m);
    }
  });
  absl::Status first;
  for (const absl::Status& status : statuses) first.Update(status);
  return ranks_ == nullptr ? first : ranks_->Agree(first);
}

absl::Status Crew::Share(std::vector<double>& values) const {
  return ranks_ == nullptr ? absl::OkStatus() : ranks_->AllReduceSum(values);
}

absl::Status Crew::Lead(const std::function<absl::Status()>& work) const {
  const absl::Status status = leads() ? work() : absl::OkStatus();
  return ranks_ == nullptr ? status : ranks_->Agree(status);
}

absl::Status Crew::ShareBytes(const PackPlan& plan, char* records, size_t record_bytes) const {
  if (ranks_ == nullptr) return absl::OkStatus();
  // Side by side in the order of ranks, and back.
  std::vector<Range> shards;
  std::vector<int32_t> order;
  for (size_t worker = 0; worker < plan.workers.size(); ++worker) {
    if (worker % static_cast<size_t>(threads()) == 0) {
      const size_t here = order.size() * record_bytes;
      shards.push_back({here, here});
    }
    order.insert(order.end(), plan.workers[worker].begin(), plan.workers[worker].end());
    shards.back().end = order.size() * record_bytes;
  }
  std::vector<char> ordered(order.size() * record_bytes);
  for (size_t i = 0; i < order.size(); ++i)
    std::memcpy(&ordered[i * record_bytes], records + record_bytes * order[i], record_bytes);
  RETURN_IF_ERROR(ranks_->AllGather(ordered.data(), shards));
  for (size_t i = 0; i < order.size(); ++i)
    std::memcpy(records + record_bytes * order[i], &ordered[i * record_bytes], record_bytes);
  return absl::OkStatus();
}

}  // namespace tramontane
