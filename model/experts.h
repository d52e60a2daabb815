// The MLP of a layer with experts: norm -> router -> the likeliest experts' SwiGLU, weighted by the
// router's probabilities -> residual. Any device and dtype; differentiable, the router through the
// weights of the experts it chose.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/decoder_layer.h"
#include "model/routing.h"

namespace tramontane {

// x [tokens, hidden]. `routing` may be null; the layer is the nth of those with experts.
at::Tensor ExpertsMlp(const DecoderLayer& layer, const at::Tensor& x_TE, Routing* routing,
                      int64_t nth);

}  // namespace tramontane
