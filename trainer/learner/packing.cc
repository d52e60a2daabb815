#include "trainer/learner/packing.h"

#include <algorithm>
#include <numeric>

namespace tramontane {
namespace {

// Index of the smallest load; the first among equals.
size_t Emptiest(const std::vector<int64_t>& loads) {
  return static_cast<size_t>(std::min_element(loads.begin(), loads.end()) - loads.begin());
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

PackPlan PackSequences(const std::vector<int64_t>& lengths, int64_t capacity_tokens, int workers) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > 0) order.push_back(static_cast<int32_t>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return lengths[a] > lengths[b]; });

  PackPlan plan;
  plan.workers.resize(static_cast<size_t>(workers));
  for (int32_t i : order) plan.tokens += lengths[i];
  if (order.empty()) return plan;

  int64_t bins = CeilDiv(CeilDiv(plan.tokens, capacity_tokens), workers) * workers;
  bins = std::min(bins, static_cast<int64_t>(order.size()));
  std::vector<int64_t> loads(static_cast<size_t>(bins), 0);
  plan.microbatches.resize(static_cast<size_t>(bins));
  for (int32_t i : order) {
    size_t bin = Emptiest(loads);
    if (loads[bin] > 0 && loads[bin] + lengths[i] > capacity_tokens) {
      bin = loads.size();
      loads.push_back(0);
      plan.microbatches.emplace_back();
    }
    loads[bin] += lengths[i];
    plan.microbatches[bin].push_back(i);
  }

  std::vector<int32_t> by_load(loads.size());
  std::iota(by_load.begin(), by_load.end(), 0);
  std::stable_sort(by_load.begin(), by_load.end(), [&](int32_t a, int32_t b) { return loads[a] > loads[b]; });
  std::vector<int64_t> worker_loads(plan.workers.size(), 0);
  for (int32_t bin : by_load) {
    const size_t worker = Emptiest(worker_loads);
    worker_loads[worker] += loads[bin];
    plan.workers[worker].push_back(bin);
  }
  return plan;
}

}  // namespace tramontane
