// Huge pages for memory that every decode step walks through: fewer address translations.
#pragma once

#include <sys/mman.h>

#include <cstdint>

namespace tramontane {

inline constexpr uintptr_t kHugePageBytes = uintptr_t{2} << 20;

// For the whole huge pages within [data, data + bytes). Only a hint, and no error where it is not
// taken.
inline void AskForHugePages(const void* data, uint64_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const uintptr_t end = (address + bytes) / kHugePageBytes * kHugePageBytes;
  if (begin < end)
    static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}

}  // namespace tramontane
