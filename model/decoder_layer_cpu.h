// The parts of a decoder layer on the CPU (fused kernels, hand-written backward), and the same
// parts in ATen operators: the path of other devices, and the reference for tests.
#pragma once

#include "model/decoder_layer.h"

namespace tramontane {

// Differentiable when grad mode is on and anything involved requires it; otherwise nothing is kept.
namespace cpu {
AttentionInput BeforeAttention(const DecoderLayer& layer, const at::Tensor& x_TE,
                               const RopeRows& rope);
at::Tensor AfterAttention(const DecoderLayer& layer, const at::Tensor& attended_THD,
                          const at::Tensor& residual_TE);
at::Tensor Mlp(const DecoderLayer& layer, const at::Tensor& x_TE);  // which has one
}  // namespace cpu

namespace reference {
AttentionInput BeforeAttention(const DecoderLayer& layer, const at::Tensor& x_TE,
                               const RopeRows& rope);
at::Tensor AfterAttention(const DecoderLayer& layer, const at::Tensor& attended_THD,
                          const at::Tensor& residual_TE);
at::Tensor Mlp(const DecoderLayer& layer, const at::Tensor& x_TE);  // which has one
}  // namespace reference

}  // namespace tramontane
