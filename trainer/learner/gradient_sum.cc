#include "trainer/learner/gradient_sum.h"

#include <ATen/ATen.h>

#include <optional>

#include "common/status.h"
#include "model/guard_torch.h"

namespace tramontane {

absl::Status ComputeGradients(
    WorkerPool& workers, const PackPlan& plan, std::vector<FlatTensor>& gradients,
    const std::function<absl::Status(int32_t, const std::vector<at::Tensor>&)>& compute) {
  std::vector<absl::Status> statuses(plan.workers.size());
  workers.Run([&](int worker) {
    const auto w = static_cast<size_t>(worker);
    statuses[w] = GuardTorch([&] { gradients[w].flat.zero_(); });
    for (int32_t m : plan.workers[w]) {
      if (statuses[w].ok()) statuses[w] = compute(m, gradients[w].views);
    }
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::Status ForEachMicrobatch(WorkerPool& workers, const PackPlan& plan,
                               const std::function<absl::Status(int32_t)>& compute) {
  std::vector<absl::Status> statuses(plan.workers.size());
  workers.Run([&](int worker) {
    const auto w = static_cast<size_t>(worker);
    for (int32_t m : plan.workers[w]) {
      if (statuses[w].ok()) statuses[w] = compute(m);
    }
  });
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

double ReduceGradients(std::vector<FlatTensor>& gradients) {
  const at::NoGradGuard no_grad;
  at::Tensor& sum = gradients[0].flat;
  for (size_t w = 1; w < gradients.size(); ++w) sum.add_(gradients[w].flat);
  return at::linalg_vector_norm(sum, 2, std::nullopt, false, at::kDouble).item<double>();
}

void ClipGradient(FlatTensor& gradient, double norm, double most) {
  const at::NoGradGuard no_grad;
  const double scale = most / (norm + 1e-6);
  if (scale < 1) gradient.flat.mul_(scale);
}

}  // namespace tramontane
