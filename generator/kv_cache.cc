#include "generator/kv_cache.h"

#include <ATen/ATen.h>

#include <cstring>

#include "model/ops/paged_attention.h"

namespace tramontane {

KvCache::KvCache(const ModelConfig& config, int32_t blocks, int32_t block_tokens,
                 at::ScalarType dtype) {
  for (const LayerShape& layer : config.layers) {
    // Zeroed: slots that no token has written are multiplied by weight 0 and must be finite.
    // Layers without attention have empty tensors.
    keys_.push_back(
        at::zeros(KeyCacheShape(blocks, layer.kv_heads, config.head_dim, block_tokens), dtype));
    values_.push_back(
        at::zeros(ValueCacheShape(blocks, layer.kv_heads, config.head_dim, block_tokens), dtype));
  }
}

void KvCache::Copy(const std::vector<BlockCopy>& copies) {
  if (copies.empty()) return;
  for (std::vector<at::Tensor>* cache : {&keys_, &values_}) {
    for (at::Tensor& tensor : *cache) {
      if (tensor.numel() == 0) continue;
      const size_t block_bytes = tensor.stride(0) * tensor.element_size();
      char* data = static_cast<char*>(tensor.mutable_data_ptr());
      for (const BlockCopy& copy : copies)
        std::memcpy(data + copy.to * block_bytes, data + copy.from * block_bytes, block_bytes);
    }
  }
}

}  // namespace tramontane
