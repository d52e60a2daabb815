#include "trainer/learner/packing.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace tramontane {
namespace {

// Index of the smallest load; the first among equals.
size_t Emptiest(const std::vector<int64_t>& loads) {
  return static_cast<size_t>(std::min_element(loads.begin(), loads.end()) - loads.begin());
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Heaviest microbatch first, each to the worker with the least to do.
void DealOut(const std::vector<int64_t>& loads, PackPlan& plan) {
  std::vector<int32_t> by_load(loads.size());
  std::iota(by_load.begin(), by_load.end(), 0);
  std::stable_sort(by_load.begin(), by_load.end(),
                   [&](int32_t a, int32_t b) { return loads[a] > loads[b]; });
  std::vector<int64_t> worker_loads(plan.workers.size(), 0);
  for (int32_t bin : by_load) {
    const size_t worker = Emptiest(worker_loads);
    worker_loads[worker] += loads[bin];
    plan.workers[worker].push_back(bin);
  }
}

// Sequences in a row, group by group, and how they fall into pieces.
class Line {
 public:
  explicit Line(const std::vector<SharedLength>& lengths) : lengths_(lengths) {
    std::unordered_map<int64_t, int64_t> place;  // of groups, by their first members
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i].tokens == 0) continue;
      order_.push_back(static_cast<int32_t>(i));
      place.try_emplace(lengths[i].group, static_cast<int64_t>(place.size()));
    }
    std::ranges::stable_sort(order_, {}, [&](int32_t i) {
      return std::pair(place.at(lengths[i].group), -lengths[i].tokens);
    });
  }

  size_t size() const { return order_.size(); }

  // Tokens of order_[n] behind order_[n − 1], or at the beginning of a piece.
  int64_t Cost(size_t n, bool begins) const {
    const SharedLength& length = lengths_[order_[n]];
    const bool beside = !begins && lengths_[order_[n - 1]].group == length.group;
    return length.tokens - (beside ? length.shared : 0);
  }

  // Beginnings of pieces, each as long as `limit` allows.
  std::vector<size_t> Cut(int64_t limit) const {
    std::vector<size_t> begins;
    int64_t load = 0;
    for (size_t n = 0; n < size(); ++n) {
      const int64_t cost = n == 0 ? 0 : Cost(n, false);
      if (n == 0 || load + cost > limit) {
        begins.push_back(n);
        load = Cost(n, true);
      } else {
        load += cost;
      }
    }
    return begins;
  }

  int64_t Load(size_t begin, size_t end) const {
    int64_t load = 0;
    for (size_t n = begin; n < end; ++n) load += Cost(n, n == begin);
    return load;
  }

  std::vector<int32_t> Members(size_t begin, size_t end) const {
    return {order_.begin() + static_cast<std::ptrdiff_t>(begin),
            order_.begin() + static_cast<std::ptrdiff_t>(end)};
  }

 private:
  const std::vector<SharedLength>& lengths_;
  std::vector<int32_t> order_;
};

// Cuts the heaviest piece of more than one member in two.
void CutHeaviest(const Line& line, std::vector<size_t>& begins) {
  const auto end = [&](size_t p) { return p + 1 < begins.size() ? begins[p + 1] : line.size(); };
  size_t heaviest = 0;
  int64_t most = -1;
  for (size_t p = 0; p < begins.size(); ++p) {
    const int64_t load = line.Load(begins[p], end(p));
    if (end(p) - begins[p] < 2 || load <= most) continue;
    most = load;
    heaviest = p;
  }
  size_t cut = begins[heaviest] + 1;
  const auto larger = [&](size_t n) {
    return std::max(line.Load(begins[heaviest], n), line.Load(n, end(heaviest)));
  };
  while (cut + 1 < end(heaviest) && larger(cut + 1) < larger(cut)) ++cut;
  begins.insert(begins.begin() + static_cast<std::ptrdiff_t>(heaviest) + 1, cut);
}

// The lightest heaviest piece that so many pieces can have, by bisection.
std::vector<size_t> CutInto(const Line& line, size_t pieces, int64_t capacity_tokens) {
  int64_t low = 0, high = capacity_tokens;  // no more than `pieces` at high
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (line.Cut(middle).size() <= pieces ? high : low) = middle;
  }
  std::vector<size_t> begins = line.Cut(high);
  while (begins.size() < pieces) CutHeaviest(line, begins);
  return begins;
}

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

  DealOut(loads, plan);
  return plan;
}

PackPlan PackSharing(const std::vector<SharedLength>& lengths, int64_t capacity_tokens,
                     int workers) {
  PackPlan plan;
  plan.workers.resize(static_cast<size_t>(workers));
  const Line line(lengths);
  if (line.size() == 0) return plan;
  const auto least = static_cast<int64_t>(line.Cut(capacity_tokens).size());
  const size_t pieces =
      std::min(static_cast<size_t>(CeilDiv(least, workers) * workers), line.size());
  std::vector<size_t> begins = CutInto(line, pieces, capacity_tokens);
  begins.push_back(line.size());
  std::vector<int64_t> loads;
  for (size_t p = 0; p + 1 < begins.size(); ++p) {
    plan.microbatches.push_back(line.Members(begins[p], begins[p + 1]));
    loads.push_back(line.Load(begins[p], begins[p + 1]));
    plan.tokens += loads.back();
  }
  DealOut(loads, plan);
  return plan;
}

}  // namespace tramontane
