// The tensors behind the scheduler's block ids: keys and values of every layer. Engine thread only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "generator/core/scheduler.h"
#include "model/model_config.h"

namespace tramontane {

class KvCache {
 public:
  // Throws c10::Error when memory is short.
  KvCache(const ModelConfig& config, int32_t blocks, int32_t block_tokens, at::ScalarType dtype);

  // In order; see StepPlan.
  void Copy(const std::vector<BlockCopy>& copies);

  at::Tensor& keys(int64_t layer) { return keys_[layer]; }      // KeyCacheShape
  at::Tensor& values(int64_t layer) { return values_[layer]; }  // ValueCacheShape

 private:
  std::vector<at::Tensor> keys_, values_;
};

}  // namespace tramontane
