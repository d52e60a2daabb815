// The table of one instruction set.
#include "model/ops/cpu/isa.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

template <typename T>
const KernelTable<T>& Table() {
  static constexpr KernelTable<T> table = {
      .isa = TRAMONTANE_ISA_NAME,
      .rms_norm = RmsNorm<T>,
      .rms_norm_apply = RmsNormApply<T>,
      .rms_norm_backward = RmsNormBackward<T>,
      .head_rope = HeadRopeForward<T>,
      .head_rope_backward = HeadRopeBackward<T>,
      .silu_mul = SiluMul<T>,
      .silu_mul_backward = SiluMulBackward<T>,
      .packed_attention = PackedForward<T>,
      .packed_attention_backward = PackedBackward<T>,
      .paged_write = PagedWrite<T>,
      .paged_attend = PagedAttend<T>,
      .log_softmax_gather = LogSoftmaxGather<T>,
      .log_softmax_backward = LogSoftmaxBackward<T>,
      .exp = ExpAll<T>,
  };
  return table;
}
template const KernelTable<float>& Table<float>();
template const KernelTable<double>& Table<double>();

}  // namespace tramontane::kernels::TRAMONTANE_ISA
