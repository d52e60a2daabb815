// Zeroed floats, aligned to a cache line, of a size fixed at construction. Pages are taken from the
// system when they are first touched, huge ones where a buffer has room for them.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

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
    AskForHugePages(room);
  }
  float* get() const { return data_; }

 private:
  static constexpr size_t kAlign = 16;  // floats
  static constexpr uintptr_t kHugePage = uintptr_t{2} << 20;

  // Only a hint: fewer address translations while attention walks through a cache of keys and
  // values.
  void AskForHugePages(size_t bytes) {
    const auto begin = (reinterpret_cast<uintptr_t>(data_) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = (reinterpret_cast<uintptr_t>(data_) + bytes) / kHugePage * kHugePage;
    if (begin < end)
      static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
  }

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> storage_;
  float* data_ = nullptr;
};

}  // namespace tramontane
