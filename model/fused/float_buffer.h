// Zeroed floats, aligned to a cache line, of a size fixed at construction. Pages are taken from the
// system when they are first touched, huge ones where a buffer has room for them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "model/fused/huge_pages.h"

namespace tramontane {

class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t count)
      : storage_(std::calloc(static_cast<size_t>(count) + kAlign, sizeof(float))) {
    if (storage_ == nullptr) throw std::bad_alloc();
    void* aligned = storage_.get();
    size_t room = (static_cast<size_t>(count) + kAlign) * sizeof(float);
    data_ = static_cast<float*>(std::align(kAlign * sizeof(float), 1, aligned, room));
    AskForHugePages(data_, room);
  }
  float* get() const { return data_; }

 private:
  static constexpr size_t kAlign = 16;  // floats
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> storage_;
  float* data_ = nullptr;
};

}  // namespace tramontane
