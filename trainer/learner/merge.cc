#include "trainer/learner/merge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "common/status.h"
#include "model/guard_torch.h"
#include "model/model_dir.h"
#include "model/transformer.h"

namespace tramontane {
namespace {

using at::Tensor;

absl::Status CheckShapes(const Transformer& a, const Transformer& b, const std::string& dir) {
  const auto first = a.NamedWeights(), second = b.NamedWeights();
  for (size_t i = 0; i < first.size(); ++i) {
    if (i < second.size() && first[i].first == second[i].first &&
        first[i].second.sizes() == second[i].second.sizes()) {
      continue;
    }
    return absl::InvalidArgumentError("merge.models: " + dir +
                                      " has another shape than the first model, at " +
                                      first[i].first + " (rule merged_models_are_of_one_shape)");
  }
  return absl::OkStatus();
}

// On the arc between the two directions, with the straight line where they are nearly one. `t` 0 is
// `a`.
void Slerp(Tensor& a, const Tensor& b, double t) {
  const Tensor wide_a = a.to(at::kDouble), wide_b = b.to(at::kDouble);
  const double norms = (wide_a.norm() * wide_b.norm()).item<double>();
  const double cosine = norms > 0 ? (wide_a * wide_b).sum().item<double>() / norms : 1;
  const double angle = std::acos(std::min(1.0, std::max(-1.0, cosine)));
  double of_a = 1 - t, of_b = t;
  if (std::sin(angle) > 1e-6) {
    of_a = std::sin((1 - t) * angle) / std::sin(angle);
    of_b = std::sin(t * angle) / std::sin(angle);
  }
  a.copy_(wide_a * of_a + wide_b * of_b);
}

std::vector<double> WeightsOf(const MergeSection& merge) {
  const size_t n = merge.models.size();
  std::vector<double> weights = merge.weights;
  if (weights.empty()) weights.assign(n, merge.method == "slerp" ? 0.5 : 1.0);
  if (merge.method == "linear") {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= sum;
  }
  return weights;
}

}  // namespace

absl::Status MergeModels(const MergeSection& merge, const std::string& base_dir,
                         const std::string& out_dir) {
  const std::vector<double> weights = WeightsOf(merge);
  const bool from_base = merge.method == "task_arithmetic";
  std::shared_ptr<Transformer> merged, base;
  std::vector<std::pair<std::string, Tensor>> origin;
  ASSIGN_OR_RETURN(merged, LoadModelDir(from_base ? base_dir : merge.models[0]));
  if (from_base) {
    ASSIGN_OR_RETURN(base, LoadModelDir(base_dir));
    origin = base->NamedWeights();
  }
  for (size_t m = from_base ? 0 : 1; m < merge.models.size(); ++m) {
    ASSIGN_OR_RETURN(const std::shared_ptr<Transformer> model, LoadModelDir(merge.models[m]));
    RETURN_IF_ERROR(CheckShapes(*merged, *model, merge.models[m]));
    RETURN_IF_ERROR(GuardTorch([&] {
      const at::NoGradGuard no_grad;
      auto sum = merged->NamedWeights();
      const auto more = model->NamedWeights();
      for (size_t i = 0; i < sum.size(); ++i) {
        Tensor& into = sum[i].second;
        if (merge.method == "slerp") {
          Slerp(into, more[i].second, weights[1]);
        } else if (from_base) {
          into.add_(more[i].second - origin[i].second, weights[m]);
        } else {
          if (m == 1) into.mul_(weights[0]);
          into.add_(more[i].second, weights[m]);
        }
      }
    }));
  }
  return SaveModelDir(*merged, base_dir, out_dir);
}

}  // namespace tramontane
