#include "trainer/loop/held_out_exit.h"

namespace tramontane {

HeldOutExit::HeldOutExit(const SftSection& sft, const Json& saved)
    : stop_loss_(sft.stop_loss), stop_stale_evaluations_(sft.stop_stale_evaluations) {
  if (!saved.is_object() || !saved.contains("least") || !saved["least"].is_number()) return;
  least_ = saved["least"].get<double>();
  stale_evaluations_ = saved.value("stale_evaluations", int64_t{0});
}

void HeldOutExit::Evaluated(double loss) {
  const bool less = !least_ || loss < *least_;
  stale_evaluations_ = less ? 0 : stale_evaluations_ + 1;
  if (less) least_ = loss;
}

std::string HeldOutExit::Reason() const {
  if (stop_loss_ > 0 && least_ && *least_ <= stop_loss_) return "stop_loss";
  if (stop_stale_evaluations_ > 0 && stale_evaluations_ >= stop_stale_evaluations_)
    return "stop_stale_evaluations";
  return "";
}

Json HeldOutExit::ToJson() const {
  return {{"least", least_ ? Json(*least_) : Json()}, {"stale_evaluations", stale_evaluations_}};
}

}  // namespace tramontane
