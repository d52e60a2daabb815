#include "generator/kv_cache.h"

#include <ATen/ATen.h>

#include <cstring>

#include "model/ops/paged_attention.h"

namespace tramontane {

KvCache::KvCache(const ModelConfig& config, int32_t blocks, int32_t block_tokens,
                 at::ScalarType dtype) {
  const auto key_shape = KeyCacheShape(blocks, config.num_kv_heads, config.head_dim, block_tokens);
  const auto value_shape =
      ValueCacheShape(blocks, config.num_kv_heads, config.head_dim, block_tokens);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    // Zeroed: slots that no token has written are multiplied by weight 0 and must be finite.
    keys_.push_back(at::zeros(key_shape, dtype));
    values_.push_back(at::zeros(value_shape, dtype));
  }
}

void KvCache::Copy(const std::vector<BlockCopy>& copies) {
  if (copies.empty()) return;
  for (std::vector<at::Tensor>* cache : {&keys_, &values_}) {
    for (at::Tensor& tensor : *cache) {
      const size_t block_bytes = tensor.stride(0) * tensor.element_size();
      char* data = static_cast<char*>(tensor.mutable_data_ptr());
      for (const BlockCopy& copy : copies)
        std::memcpy(data + copy.to * block_bytes, data + copy.from * block_bytes, block_bytes);
    }
  }
}

}  // namespace tramontane
